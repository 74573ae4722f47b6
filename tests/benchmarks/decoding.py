"""Whether drawing sees the pictures to edit as training does: odd pictures, through every way in.

  python -m tests.benchmarks.decoding

`largest_difference` is the largest distance (0..255) between a value that training encodes and the same value on any
way into drawing, over all pictures of `odd_pictures`; 255 where one of them takes a picture that another refuses.
"""

import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8
from PIL import Image, ImageCms
from torch import Tensor

from mos.encoders.pixel_codec import PixelCodec
from mos.encoders.understanding import Encoded, Tower
from mos.errors import UserError
from mos.images.buckets import Bucket
from mos.images.decode import decode_image
from mos.images.pixels import fit_to_bucket, prepare_image
from mos.images.reasons import Rejected
from mos.sampling.config import SampleConfig, SamplerConfig
from mos.sampling.draw import load_for_drawing
from mos.sampling.pipeline import MoSPipeline
from operators.generate_images import GenerateImages
from pipelines.draw.requests import Request, requests_to
from pipelines.run.cli import DEFAULT_CONFIG
from pipelines.run.config import RunConfig, load_run
from pipelines.run.steps import Run
from pipelines.sample import draw_with
from tests.mos.sampling.tiny_export import save_export

SIZE = (24, 40)
"""Height and width at which pictures are compared, px."""
PROMPT = "make it blue"

DEMO = load_run(DEFAULT_CONFIG, ("curate.image={}",))
LIMITS = DEMO.curate.image
FEW = SamplerConfig(steps=1, guidance=1.0)

Seen = UInt8[Tensor, "3 height width"] | None
"""What a way in gives the codec; None where it refuses the picture."""


def scene(width: int = 60, height: int = 44) -> Image.Image:
    """Smooth ramps with a saturated corner: no two orientations or colour spaces look alike."""
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 7 + y / 11)], axis=-1)
    values[: height // 3, : width // 4] = (250, 10, 10)
    return Image.fromarray(values.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Bytes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def profile(red: tuple[float, float], green: tuple[float, float], blue: tuple[float, float], gamma: float) -> bytes:
    """A matrix ICC profile (version 2) of primaries in CIE xy and a gamma, white D65 adapted to D50."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapted = np.linalg.inv(bradford) @ np.diag(bradford @ d50 / (bradford @ white)) @ bradford
    columns = (adapted @ (xyz * np.linalg.solve(xyz, white))).T

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    name = b"wide"
    described = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 78)
    tags = [(b"desc", described + bytes(-len(described) % 4)), (b"wtpt", b"XYZ " + bytes(4) + fixed(*d50))]
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags += [(key, b"XYZ " + bytes(4) + fixed(*column)) for key, column in zip(names, columns, strict=True)]
    tags += [(key, curve) for key in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for key, data in tags:
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data
    size = start + len(body)
    head = struct.pack(">I", size) + b"\0\0\0\0\x02\x40\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(*d50)
    return head + bytes(128 - len(head)) + table + body


DISPLAY_P3 = profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), 2.2)
ADOBE_RGB = profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), 2.2)
LINEAR = profile((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), 1.0)


def odd_pictures() -> dict[str, bytes]:
    """Pictures as other people's machines leave them, by what is odd about them."""
    rgb = scene()
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    clear = rgb.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(rgb.size))
    holed = rgb.quantize(16)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pictures = {
        "plain jpeg": encoded(rgb, "JPEG", quality=90),
        "plain png": encoded(rgb, "PNG"),
        "plain webp": encoded(rgb, "WEBP", lossless=True),
        "display p3 jpeg": encoded(rgb, "JPEG", quality=90, icc_profile=DISPLAY_P3),
        "display p3 png": encoded(rgb, "PNG", icc_profile=DISPLAY_P3),
        "display p3 webp": encoded(rgb, "WEBP", lossless=True, icc_profile=DISPLAY_P3),
        "display p3 with alpha": encoded(clear, "PNG", icc_profile=DISPLAY_P3),
        "adobe rgb": encoded(rgb, "JPEG", quality=90, icc_profile=ADOBE_RGB),
        "linear rgb": encoded(rgb, "PNG", icc_profile=LINEAR),
        "srgb profile": encoded(rgb, "PNG", icc_profile=srgb),
        "damaged profile": encoded(rgb, "PNG", icc_profile=b"no profile"),
        "profile of another mode": encoded(rgb.convert("L"), "PNG", icc_profile=DISPLAY_P3),
        "16-bit grey": encoded(grey16, "PNG"),
        "16-bit grey tiff": encoded(grey16, "TIFF"),
        "16-bit rgb": png_of_16_bits(rgb),
        "8-bit tiff": encoded(rgb, "TIFF"),
        "tiff with profile": encoded(rgb, "TIFF", icc_profile=DISPLAY_P3),
        "cmyk": encoded(rgb.convert("CMYK"), "JPEG", quality=90),
        "cmyk tiff": encoded(rgb.convert("CMYK"), "TIFF"),
        "grey": encoded(rgb.convert("L"), "JPEG"),
        "grey with alpha": encoded(clear.convert("LA"), "PNG"),
        "one bit": encoded(rgb.convert("1"), "PNG"),
        "palette": encoded(holed, "PNG"),
        "palette with a clear colour": encoded(holed, "PNG", transparency=3),
        "palette with alpha": encoded(holed, "PNG", transparency=bytes(range(0, 256, 16))),
        "rgb with a clear colour": encoded(rgb, "PNG", transparency=(250, 10, 10)),
        "alpha": encoded(clear, "PNG"),
        "alpha webp": encoded(clear, "WEBP", lossless=True),
        "wholly clear": encoded(Image.new("RGBA", rgb.size, (9, 9, 9, 0)), "PNG"),
        "gamma": with_chunk(encoded(rgb, "PNG"), b"gAMA", struct.pack(">I", 100_000)),
        "chromaticities": with_chunk(
            encoded(rgb, "PNG"), b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
        ),
        "coding points": with_chunk(encoded(rgb, "PNG"), b"cICP", bytes([12, 13, 0, 1])),
        "animated png": encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(9)]),
        "animated webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(9)]),
        "gif": encoded(holed, "GIF"),
        "bmp": encoded(rgb, "BMP"),
        "several views": encoded(rgb, "MPO", save_all=True, append_images=[rgb.rotate(180)], quality=90),
        "progressive": encoded(rgb, "JPEG", progressive=True, quality=90),
        "tall": encoded(scene(20, 160), "PNG"),
        "wide": encoded(scene(160, 20), "JPEG", quality=90),
        "too long": encoded(scene(400, 20), "PNG"),
        "too small": encoded(scene(8, 8), "PNG"),
        "odd sides": encoded(scene(37, 53), "PNG"),
    }
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        kind = ("JPEG", "PNG", "WEBP")[orientation % 3]
        pictures[f"orientation {orientation}"] = encoded(rgb, kind, exif=exif, quality=95)
    return pictures


def png_of_16_bits(image: Image.Image) -> bytes:
    """An RGB picture as a PNG of 16 bits a channel, which Pillow does not write."""
    values = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", image.width, image.height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png


def largest_difference() -> int:
    """Over all odd pictures and ways into drawing, see the top of this file; 0..255."""
    return max(max(found.values()) for found in differences().values())


def differences() -> dict[str, dict[str, int]]:
    """The largest distance from what training sees, by picture and way."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(_differences(Path(folder)))


def _differences(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    export = str(save_export(folder / "export"))
    ways = ways_in(load_for_drawing(export, limits=LIMITS), export)
    for number, (name, data) in enumerate(odd_pictures().items()):
        path = folder / f"{number}.picture"
        path.write_bytes(data)
        expected = trained(data)
        yield name, {way: distance(expected, look(data, path)) for way, look in ways.items()}


def ways_in(pipe: MoSPipeline, export: str) -> dict[str, Callable[[bytes, Path], Seen]]:
    """Every way in which a picture to edit comes to the codec, and how a tower that sees pictures gets it."""
    height, width = SIZE
    settings = {"num_inference_steps": FEW.steps, "guidance_scale": FEW.guidance, "height": height, "width": width}
    operator = GenerateImages({"edit": export}, FEW, "cpu", limits=LIMITS)
    watching = WatchingTower(pipe.tower)
    seeing = Seeing(**pipe.components, run=pipe.config.run)
    seeing.watching, seeing.limits = watching, LIMITS
    seeing.set_progress_bar_config(disable=True)

    def request(path: Path) -> tuple[RunConfig, Request]:
        given = SampleConfig(source=str(path), prompt=PROMPT, height=height, width=width, sampler=FEW)
        config = DEMO.model_copy(update={"sample": given})
        return config, requests_to(Run(config), "edit", pipe.resolution, pipe.token_px, pipe.bucket_aspect)[0]

    def script(data: bytes, path: Path) -> None:
        config, one = request(path)
        draw_with(pipe, [one], config.sample)

    def pool(data: bytes, path: Path) -> None:
        drawn = operator(pa.Table.from_pylist([asdict(request(path)[1])])).to_pylist()[0]
        if drawn["problem"] is not None:
            raise UserError(drawn["problem"])

    def opened(data: bytes, path: Path) -> None:
        with Image.open(path) as image:
            pipe(PROMPT, image=image, **settings)

    def loaded(data: bytes, path: Path) -> None:
        image = Image.open(io.BytesIO(data))
        image.load()
        pipe(PROMPT, image=[image], **settings)

    def tower(data: bytes, path: Path) -> Seen:
        watching.pictures.clear()
        with Image.open(path) as image:
            seeing(PROMPT, image=image, **settings)
        (picture,) = watching.pictures
        return fit_to_bucket(picture, Bucket(*SIZE))

    return {
        "pillow": encoded_by(opened),
        "pillow, loaded": encoded_by(loaded),
        "path": encoded_by(lambda data, path: pipe(PROMPT, image=path, **settings)),
        "text path": encoded_by(lambda data, path: pipe([PROMPT], image=str(path), **settings)),
        "bytes": encoded_by(lambda data, path: pipe(PROMPT, image=data, **settings)),
        "sample.py": encoded_by(script),
        "pool": encoded_by(pool),
        "tower": none_where_refused(tower),
    }


class Seeing(MoSPipeline):
    """A pipeline whose tower is watched."""

    watching: "WatchingTower"

    @property
    def tower(self) -> "WatchingTower":
        return self.watching


class WatchingTower:
    """A tower that keeps the pictures it is shown, and reads the text alone."""

    sees_images = True

    def __init__(self, tower: Tower) -> None:
        self.pictures: list[Image.Image] = []
        self._tower = tower
        self.tower_id, self.num_layers, self.dim = tower.tower_id, tower.num_layers, tower.dim
        self.plan, self.cut = tower.plan, tower.cut

    def encode(self, texts: list[str], images: list[Image.Image | None] | None = None) -> list[Encoded]:
        """States of the texts."""
        self.pictures += [image for image in images or [] if image is not None]
        return self._tower.encode(texts)


def trained(data: bytes) -> Seen:
    """What training encodes of a picture, which its tower sees too."""
    try:
        pixels = prepare_image(data, str(Bucket(*SIZE)), LIMITS)
    except Rejected:
        return None
    assert torch.equal(pixels, fit_to_bucket(decode_image(data, LIMITS), Bucket(*SIZE)))
    return pixels


def encoded_by(draw: Callable[[bytes, Path], object]) -> Callable[[bytes, Path], Seen]:
    """What the codec is given while a picture is drawn from a reference."""

    @none_where_refused
    def look(data: bytes, path: Path) -> Seen:
        with watched_codec() as batches:
            draw(data, path)
        ((pixels,),) = batches
        return pixels

    return look


def none_where_refused(look: Callable[[bytes, Path], Seen]) -> Callable[[bytes, Path], Seen]:
    """The same, None for a picture that cannot be edited."""

    def look_or_none(data: bytes, path: Path) -> Seen:
        try:
            return look(data, path)
        except UserError as error:
            if "is not a picture that can be edited" not in str(error):
                raise
            return None

    return look_or_none


@contextmanager
def watched_codec() -> Iterator[list[Tensor]]:
    """The batches of pixels that are encoded meanwhile, by the codec itself."""
    batches: list[Tensor] = []
    encode = PixelCodec.encode

    def watched(codec: PixelCodec, images: Tensor) -> Tensor:
        batches.append(images)
        return encode(codec, images)

    with patch.object(PixelCodec, "encode", watched):
        yield batches


def distance(expected: Seen, seen: Seen) -> int:
    """The largest difference between two values of a channel; 255 where only one of them is a picture."""
    if expected is None or seen is None:
        return 0 if expected is seen else 255
    return int((expected.int() - seen.int()).abs().max())


if __name__ == "__main__":
    print(f"largest difference of {len(odd_pictures())} pictures: {largest_difference()}")
