import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from mos.images.decode import ImageLimits, decode_image, decode_opened, decode_with_header
from mos.images.reasons import Reason, Rejected
from tests.mos.images.pictures import close, encode, picture

LIMITS = ImageLimits()


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> Reason:
    with pytest.raises(Rejected) as caught:
        decode_image(data, limits)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_allowed_formats_decode(kind):
    assert close(decode_image(encode(picture(), kind, quality=95), LIMITS), picture())


def test_progressive_jpeg_and_garbage_after_its_end_decode():
    data = encode(picture(), "JPEG", quality=95, progressive=True)
    assert close(decode_image(data + b"<html>" * 100, LIMITS), picture())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_comes_out_upright(orientation, kind):
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = picture(64, 48)
    upright.paste((250, 240, 10), (0, 0, 20, 20))
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, kind, exif=exif, quality=95)
    assert close(decode_image(data, LIMITS), upright)
    header, read = decode_with_header(data, LIMITS)
    assert (header.width, header.height, header.orientation) == (64, 48, orientation)
    assert np.array_equal(decode_opened(read, LIMITS), read)  # read again, it is not turned once more


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_png_modes_become_rgb(mode):
    stored = picture().convert(mode)
    assert close(decode_image(encode(stored, "PNG"), LIMITS), stored)


def test_cmyk_and_ycck_keep_their_colours():
    stored = picture().convert("CMYK")
    assert close(decode_image(encode(stored, "JPEG", quality=95), LIMITS), picture())


def test_sixteen_bit_grey_keeps_its_scale():
    levels = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    decoded = np.asarray(decode_image(encode(Image.fromarray(levels), "PNG"), LIMITS))
    assert np.abs(decoded[..., 0].astype(int) - (levels >> 8)).max() <= 1
    assert decoded.min() == 0
    assert decoded.max() == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_lies_on_white(mode):
    stored = picture().convert("RGBA")
    stored.paste((0, 0, 0, 0), (0, 0, 20, 30))
    if mode == "P":
        stored = stored.quantize(16)
    elif mode == "LA":
        stored = stored.convert("LA")
    data = encode(stored.convert("RGBA") if mode == "PA" else stored, "PNG")
    decoded = decode_image(data, LIMITS)
    assert decoded.mode == "RGB"
    assert decoded.getpixel((5, 5)) == (255, 255, 255)
    assert decoded.getpixel((35, 5)) != (255, 255, 255)


def test_wide_gamut_is_brought_to_srgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    assert lab is not None
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert close(decode_image(encode(picture(), "PNG", icc_profile=srgb), LIMITS), picture(), tolerance=1)
    assert close(decode_image(encode(picture(), "PNG", icc_profile=b"no profile"), LIMITS), picture(), tolerance=1)


def test_reduction_keeps_aspect_and_content():
    large = picture(1600, 1200)
    for kind in ("JPEG", "PNG", "WEBP"):
        small = decode_image(encode(large, kind, quality=90), LIMITS, max_side_px=200)
        assert small.size == (200, 150)
        assert close(small, large.resize((200, 150), Image.Resampling.BOX))
    assert decode_image(encode(picture(), "PNG"), LIMITS, max_side_px=200).size == (40, 30)


def test_mpo_is_its_first_frame():
    data = encode(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)], quality=95)
    assert close(decode_image(data, LIMITS), picture())


def claiming_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (64 * 2**20), zip=True)
    return encode(picture(), "PNG", pnginfo=info)


JPEG, PNG = encode(picture(), "JPEG"), encode(picture(), "PNG")
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
NOISY_JPEG = encode(Image.fromarray(NOISE), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.IMAGE_EMPTY),
        (b"\xff", Reason.IMAGE_UNRECOGNISED),
        (b"<!DOCTYPE html><html><body>404</body></html>", Reason.IMAGE_UNRECOGNISED),
        (b"\x00\x01\x02 noise", Reason.IMAGE_UNRECOGNISED),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Reason.IMAGE_FORMAT_REFUSED),
        (b"<?xml version='1.0'?>\n<svg/>", Reason.IMAGE_FORMAT_REFUSED),
        (encode(picture(), "GIF"), Reason.IMAGE_FORMAT_REFUSED),
        (encode(picture(), "TIFF"), Reason.IMAGE_FORMAT_REFUSED),
        (encode(picture(), "BMP"), Reason.IMAGE_FORMAT_REFUSED),
        (b"SIMPLE  =                    T", Reason.IMAGE_FORMAT_REFUSED),
        (b"\0\0\0\x20ftypavif" + b"\0" * 40, Reason.IMAGE_FORMAT_REFUSED),
        (encode(picture(), "PNG", save_all=True, append_images=[picture().rotate(9)]), Reason.IMAGE_ANIMATED),
        (encode(picture(), "WEBP", save_all=True, append_images=[picture().rotate(9)]), Reason.IMAGE_ANIMATED),
        *((NOISY_JPEG[: len(NOISY_JPEG) * share // 100], Reason.IMAGE_TRUNCATED) for share in (50, 90, 99)),
        (JPEG[:-2], Reason.IMAGE_TRUNCATED),
        (PNG[: len(PNG) * 2 // 3], Reason.IMAGE_TRUNCATED),
        (claiming_png(60_000, 60_000), Reason.IMAGE_TOO_MANY_PIXELS),
        (claiming_png(10_000, 10_000), Reason.IMAGE_TOO_MANY_PIXELS),
        (claiming_png(100, 100), Reason.IMAGE_TRUNCATED),
        (text_bomb(), Reason.IMAGE_METADATA_BOMB),
        (encode(picture(8, 8), "PNG"), Reason.IMAGE_TOO_SMALL),
        (encode(picture(65_500, 1), "PNG"), Reason.IMAGE_TOO_SMALL),
        (encode(picture(400, 20), "PNG"), Reason.IMAGE_TOO_ELONGATED),
        (encode(Image.new("RGBA", (30, 30), (9, 9, 9, 0)), "PNG"), Reason.IMAGE_TRANSPARENT),
        (JPEG[:20], Reason.IMAGE_CORRUPT),
        (PNG[:16] + b"\xff\xff" + PNG[18:], Reason.IMAGE_CORRUPT),
    ],
)
def test_bad_images_end_in_their_reason(data, reason):
    assert refusal(data) == reason


def test_limits_are_read_from_the_header():
    data = encode(picture(), "PNG")
    assert refusal(data, ImageLimits(max_bytes=10)) == Reason.MEMBER_TOO_LARGE
    assert refusal(data, ImageLimits(max_pixels=100)) == Reason.IMAGE_TOO_MANY_PIXELS
    assert refusal(data, ImageLimits(min_side_px=31)) == Reason.IMAGE_TOO_SMALL
    assert refusal(data, ImageLimits(max_aspect=1.2)) == Reason.IMAGE_TOO_ELONGATED


def test_random_damage_never_escapes():
    rng = np.random.default_rng(0)
    sound = [NOISY_JPEG, encode(Image.fromarray(NOISE), "PNG"), encode(Image.fromarray(NOISE), "WEBP")]
    for number in range(600):
        data = bytearray(sound[number % 3])
        for position in rng.integers(0, len(data), rng.integers(1, 20)):
            data[position] = rng.integers(0, 256)
        try:
            image = decode_image(bytes(data[: rng.integers(1, len(data) + 1)]), LIMITS)
        except Rejected:
            continue
        assert image.mode == "RGB"


ALL_FORMATS = ImageLimits(extra_formats=("avif", "bmp", "gif", "tiff"))
FIRST_FRAME = ImageLimits(extra_formats=("avif", "gif", "tiff"), animated="first_frame")


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "TIFF"])
def test_other_formats_decode_where_the_config_says_so(kind):
    data = encode(picture(), kind)
    with pytest.raises(Rejected, match=rf'{kind}: curate.image.extra_formats = \["{kind.lower()}"\] allows it'):
        decode_image(data, LIMITS)
    assert close(decode_image(data, ALL_FORMATS), picture())
    assert decode_with_header(data, ALL_FORMATS)[0].format == kind


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_tiffs_of_several_compressions_decode(compression):
    assert close(decode_image(encode(picture(), "TIFF", compression=compression), ALL_FORMATS), picture())


def test_what_cannot_be_allowed_is_to_be_converted():
    with pytest.raises(Rejected, match="JPEG XL: convert it to PNG, JPEG or WebP"):
        decode_image(b"\xff\x0a" + b"\0" * 50, ALL_FORMATS)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_first_frame_is_read_where_the_config_says_so(kind):
    data = encode(picture(), kind, save_all=True, append_images=[picture().rotate(180), picture().rotate(90)])
    refusing = ImageLimits(extra_formats=("avif", "gif", "tiff"))
    with pytest.raises(Rejected, match=r'3 frames: curate\.image\.animated = "first_frame" takes the first') as caught:
        decode_image(data, refusing)
    assert caught.value.reason == Reason.IMAGE_ANIMATED
    assert close(decode_image(data, FIRST_FRAME), picture())


def test_random_damage_of_other_formats_never_escapes():
    rng = np.random.default_rng(0)
    limits = ImageLimits(extra_formats=("avif", "bmp", "gif", "tiff"), animated="first_frame")
    frames = [Image.fromarray(NOISE[::-1].copy())]
    sound = [
        encode(Image.fromarray(NOISE), "TIFF"),
        encode(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
        encode(Image.fromarray(NOISE), "GIF", save_all=True, append_images=frames),
        encode(Image.fromarray(NOISE), "BMP"),
        encode(Image.fromarray(NOISE), "AVIF"),
        encode(Image.fromarray(NOISE), "PNG", save_all=True, append_images=frames),
    ]
    for number in range(600):
        data = bytearray(sound[number % len(sound)])
        head = number % 2 == 0
        for position in rng.integers(0, 200 if head else len(data), rng.integers(1, 12)):
            data[position] = rng.integers(0, 256)
        try:
            image = decode_image(bytes(data), limits)
        except Rejected:
            continue
        assert image.mode == "RGB"
