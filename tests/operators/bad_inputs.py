"""Every kind of bad input, generated: the files of one sample and the reason it must end in (None: it must be kept)."""

import io
import json
import struct
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from mos.images.reasons import Reason


@dataclass(frozen=True)
class Case:
    """One sample: files by extension, and its fate."""

    files: dict[str, bytes]
    reason: Reason | None


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed: int = 0, width: int = 64, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture no other seed repeats."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def good(seed: int) -> Case:
    return Case({"png": encode(noise(seed), "PNG"), "txt": f"sound picture {seed}".encode()}, None)


def claiming_png(width: int, height: int, extra: bytes = b"") -> bytes:
    """A sound header whose pixels are not there, or are `extra`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", extra or zlib.compress(b"\0" * 16)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (64 * 2**20), zip=True)
    return encode(noise(), "PNG", pnginfo=info)


def exif(value: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = value
    return tags


def pictures() -> dict[str, tuple[str, bytes, Reason | None]]:
    """Name -> extension, image bytes, fate; the caption is sound."""
    jpeg, png = encode(noise(), "JPEG", quality=95), encode(noise(), "PNG")
    clear = noise(mode="RGBA")
    clear.putalpha(0)
    half = noise(mode="RGBA")
    half.putalpha(100)
    flipped = bytearray(png)
    flipped[png.index(b"IDAT") + 20] ^= 0x10
    grey16 = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
    frames = [noise(1), noise(2)]
    cases: dict[str, tuple[str, bytes, Reason | None]] = {
        "zero_bytes": ("jpg", b"", Reason.IMAGE_EMPTY),
        "one_byte": ("jpg", b"\xff", Reason.IMAGE_UNRECOGNISED),
        "html": ("jpg", b"<!DOCTYPE html><title>404</title>", Reason.IMAGE_UNRECOGNISED),
        "random_bytes": ("png", bytes(range(256)), Reason.IMAGE_UNRECOGNISED),
        "pickle": ("jpg", b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", Reason.IMAGE_UNRECOGNISED),
        "svg": ("png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.IMAGE_FORMAT_REFUSED),
        "gif": ("png", encode(noise(), "GIF"), Reason.IMAGE_FORMAT_REFUSED),
        "tiff": ("jpg", encode(noise(), "TIFF"), Reason.IMAGE_FORMAT_REFUSED),
        "bmp": ("jpg", encode(noise(), "BMP"), Reason.IMAGE_FORMAT_REFUSED),
        "fits": ("png", b"SIMPLE  =                    T", Reason.IMAGE_FORMAT_REFUSED),
        "avif": ("webp", b"\0\0\0\x20ftypavif" + b"\0" * 64, Reason.IMAGE_FORMAT_REFUSED),
        "animated_webp": ("webp", encode(noise(), "WEBP", save_all=True, append_images=frames), Reason.IMAGE_ANIMATED),
        "animated_png": ("png", encode(noise(), "PNG", save_all=True, append_images=frames), Reason.IMAGE_ANIMATED),
        "jpeg_without_end": ("jpg", jpeg[:-2], Reason.IMAGE_TRUNCATED),
        "png_cut": ("png", png[: len(png) * 2 // 3], Reason.IMAGE_TRUNCATED),
        "png_flipped_bit": ("png", bytes(flipped), Reason.IMAGE_CORRUPT),
        "png_without_pixels": ("png", claiming_png(64, 64), Reason.IMAGE_TRUNCATED),
        "header_60000": ("png", claiming_png(60_000, 60_000), Reason.IMAGE_TOO_MANY_PIXELS),
        "text_bomb": ("png", text_bomb(), Reason.IMAGE_METADATA_BOMB),
        "tiny": ("png", encode(noise(3, 8, 8), "PNG"), Reason.IMAGE_TOO_SMALL),
        "row": ("png", encode(noise(3, 65_500, 1), "PNG"), Reason.IMAGE_TOO_SMALL),
        "column": ("png", encode(noise(3, 1, 500), "PNG"), Reason.IMAGE_TOO_SMALL),
        "one_to_twenty": ("png", encode(noise(3, 800, 40), "PNG"), Reason.IMAGE_TOO_ELONGATED),
        "below_every_bucket": ("png", encode(noise(3, 20, 20), "PNG"), Reason.BUCKET_NONE),
        "transparent": ("png", encode(clear, "PNG"), Reason.IMAGE_TRANSPARENT),
        "pixel_bomb": ("png", claiming_png(40, 40, zlib.compress(bytes(40 * 121 + 32 * 2**20))), None),
        "jpeg_named_png": ("png", encode(noise(4), "JPEG"), None),
        "png_named_jpg": ("jpg", encode(noise(5), "PNG"), None),
        "garbage_after_end": ("jpg", encode(noise(6), "JPEG") + b"<html>" * 50, None),
        "progressive": ("jpg", encode(noise(7), "JPEG", progressive=True), None),
        "cmyk": ("jpg", encode(noise(8, mode="CMYK"), "JPEG"), None),
        "grey": ("jpg", encode(noise(9, mode="L"), "JPEG"), None),
        "one_bit": ("png", encode(noise(10, mode="1"), "PNG"), None),
        "palette": ("png", encode(noise(11, mode="P"), "PNG"), None),
        "grey_alpha": ("png", encode(noise(12, mode="LA"), "PNG"), None),
        "half_transparent": ("png", encode(half, "PNG"), None),
        "grey_16_bit": ("png", encode(grey16, "PNG"), None),
        "broken_profile": ("png", encode(noise(13), "PNG", icc_profile=b"no profile"), None),
        "orientation_6": ("jpg", encode(noise(14), "JPEG", exif=exif(6)), None),
        "orientation_9": ("jpg", encode(noise(15), "JPEG", exif=exif(9)), None),
        "huge_exif": ("png", encode(noise(16), "PNG", exif=b"MM\0*" + b"\xee" * 200_000), None),
        "mpo": ("jpg", encode(noise(17), "MPO", save_all=True, append_images=frames), None),
        "upper_case_extension": ("JPG", encode(noise(18), "JPEG"), None),
    }
    for share in (1, 10, 50, 90, 99):
        cases[f"jpeg_cut_{share}"] = ("jpg", jpeg[: len(jpeg) * share // 100], Reason.IMAGE_TRUNCATED)
    return cases


def texts() -> dict[str, tuple[str, bytes, Reason | None]]:
    """Name -> extension, caption bytes, fate; the picture is sound."""
    return {
        "empty": ("txt", b"", Reason.CAPTION_EMPTY),
        "whitespace": ("txt", " \t\n\u3000\u200b".encode(), Reason.CAPTION_EMPTY),
        "latin1": ("txt", "un café".encode("latin-1"), Reason.CAPTION_NOT_UTF8),
        "nul": ("txt", b"a\0b", Reason.CAPTION_CONTROL),
        "emoji_only": ("txt", "🔴🟦⭐".encode(), Reason.CAPTION_WITHOUT_WORDS),
        "one_megabyte": ("txt", b"word " * 200_000, Reason.CAPTION_TOO_LONG),
        "beyond_maximum": ("txt", b"word " * 4000, Reason.CAPTION_TOO_LONG),
        "json_cut": ("json", b'{"caption": "a', Reason.JSON_INVALID),
        "json_list": ("json", b'["a circle"]', Reason.JSON_NOT_OBJECT),
        "json_nan": ("json", b'{"caption": "a circle", "score": NaN}', Reason.JSON_NOT_FINITE),
        "json_1e999": ("json", b'{"caption": "a circle", "score": 1e999}', Reason.JSON_NOT_FINITE),
        "json_deep": ("json", b'{"caption": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", Reason.JSON_TOO_DEEP),
        "json_large": ("json", b'{"caption": "' + b"x" * (2 << 20) + b'"}', Reason.JSON_TOO_LARGE),
        "json_no_caption": ("json", b'{"text": "a circle"}', Reason.CAPTION_MISSING),
        "json_number": ("json", b'{"caption": 17}', Reason.CAPTION_NOT_TEXT),
        "json_null": ("json", b'{"caption": null}', Reason.CAPTION_NOT_TEXT),
        "json_surrogate": ("json", rb'{"caption": "a circle \ud83d"}', Reason.CAPTION_NOT_UNICODE),
        "json_surrogate_meta": ("json", rb'{"caption": "a circle", "by": "\udc00"}', Reason.CAPTION_NOT_UNICODE),
        "json_surrogate_key": ("json", rb'{"\ud800": "a circle"}', Reason.CAPTION_MISSING),
        "byte_order_mark": ("txt", "\ufeffa circle".encode(), None),
        "json_byte_order_mark": ("json", b'\xef\xbb\xbf{"caption": "a circle in json"}', None),
        "right_to_left": ("txt", "دائرة \u202eحمراء".encode(), None),
        "combining": ("txt", "cafe\u0301".encode(), None),
    }


def cases() -> dict[str, Case]:
    """Every case that any container can hold."""
    found = {
        f"image_{name}": Case({extension: data, "txt": f"picture {name}".encode()}, reason)
        for name, (extension, data, reason) in pictures().items()
    }
    found |= {
        f"text_{name}": Case({"png": encode(noise(100 + index), "PNG"), extension: data}, reason)
        for index, (name, (extension, data, reason)) in enumerate(texts().items())
    }
    caption = {"txt": b"a caption"}
    found |= {
        "no_image": Case(caption, Reason.IMAGE_MISSING),
        "no_caption": Case({"png": encode(noise(50), "PNG")}, Reason.CAPTION_MISSING),
        "two_images": Case(
            {"jpg": encode(noise(51), "JPEG"), "png": encode(noise(51), "PNG")} | caption, Reason.IMAGE_AMBIGUOUS
        ),
        "pickled_caption": Case({"png": encode(noise(52), "PNG"), "pkl": b"\x80\x04N."}, Reason.MEMBER_TYPE_REFUSED),
        "tensor_for_image": Case({"pt": b"PK\x03\x04"} | caption, Reason.MEMBER_TYPE_REFUSED),
        "harmless_extra": Case({"png": encode(noise(53), "PNG"), "cls": b"7", "txt": b"with an extra"}, None),
        "same_once": Case({"png": encode(noise(54), "PNG"), "txt": b"the same"}, None),
        "same_twice": Case({"png": encode(noise(54), "PNG"), "txt": b" the  same"}, Reason.DUPLICATE_EXACT),
        "same_resized": Case(
            {"jpg": encode(noise(54, 96, 96), "JPEG", quality=95), "txt": b"The same"}, Reason.DUPLICATE_NEAR
        ),
        "same_image_other_caption": Case({"png": encode(noise(54), "PNG"), "txt": b"another caption"}, None),
    }
    return found


def with_witnesses(found: dict[str, Case]) -> dict[str, Case]:
    """The cases, a sound sample after each: what is lost with a bad neighbour shows."""
    mixed = {}
    for index, (name, case) in enumerate(found.items()):
        mixed |= {name: case, f"{name}-witness": good(1000 + index)}
    return mixed


def write_tar(path: Path, found: dict[str, Case], *, end: int | None = None) -> None:
    """The cases as a WebDataset shard, cut after `end` bytes if given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, case in found.items():
            for extension, data in case.files.items():
                add(tar, f"{key}.{extension}", data)
    path.write_bytes(buffer.getvalue()[:end])


def write_folder(folder: Path, found: dict[str, Case]) -> None:
    """The cases as images with sidecars."""
    folder.mkdir()
    for key, case in found.items():
        for extension, data in case.files.items():
            (folder / f"{key}.{extension}").write_bytes(data)


def write_jsonl(folder: Path, found: dict[str, Case]) -> dict[str, Case]:
    """The cases that a line of a jsonl can hold; returns them by the key each ends under."""
    folder.mkdir()
    lines, written = [], {}
    for key, case in found.items():
        (extension, data), *rest = case.files.items()
        if len(rest) != 1 or rest[0][0] != "txt" or key.startswith("text_") or extension == "pt":
            continue
        (folder / f"{key}.{extension}").write_bytes(data)
        lines.append(json.dumps({"file": f"{key}.{extension}", "caption": rest[0][1].decode()}).encode())
        written[key] = case
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines))
    return written


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    """One member of any kind."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    tar.addfile(info, io.BytesIO(data))
