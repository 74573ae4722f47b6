import io

import pytest
from PIL import Image, PngImagePlugin

from mos.images.decode import ImageLimits, decode_image, decode_with_header
from mos.images.orientation import find_orientation
from tests.mos.images.pictures import close, encode, picture

LIMITS = ImageLimits()
ALL_FORMATS = ImageLimits(extra_formats=("avif", "bmp", "gif", "tiff"))
PROFILE = "Raw profile type "


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("raw", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff" * 300])
def test_damaged_exif_is_no_orientation(raw):
    assert decode_with_header(encode(picture(), "PNG", exif=raw), LIMITS)[0].orientation == 1


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_out_of_range_are_none(value):
    assert decode_with_header(encode(picture(), "JPEG", exif=exif(value)), LIMITS)[0].orientation == 1


def xmp(orientation: int, form: str) -> bytes:
    body = form.format(orientation)
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description {body}</rdf:Description></x:xmpmeta>".encode()


ATTRIBUTE, QUOTED, ELEMENT = (
    'tiff:Orientation="{}">',
    "tiff:Orientation = '{}'>",
    "><tiff:Orientation>{}</tiff:Orientation>",
)


def turned_right() -> tuple[Image.Image, Image.Image]:
    """An upright picture, and how a camera that was held on its side stores it: orientation 6."""
    upright = picture(64, 48)
    upright.paste((250, 240, 10), (0, 0, 20, 20))
    return upright, upright.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize("form", [ATTRIBUTE, QUOTED, ELEMENT])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_orientation_in_xmp_alone_counts(kind, form):
    upright, stored = turned_right()
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp(6, form).decode())
        data = encode(stored, kind, pnginfo=info)
    else:
        data = encode(stored, kind, xmp=xmp(6, form), quality=95)
    assert close(decode_image(data, LIMITS), upright)
    assert decode_with_header(data, LIMITS)[0].orientation == 6


def test_exif_comes_before_xmp():
    data = encode(picture(), "JPEG", exif=exif(1), xmp=xmp(6, ATTRIBUTE), quality=95)
    assert close(decode_image(data, LIMITS), picture())
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    upright, stored = turned_right()
    data = encode(stored, "JPEG", exif=tags, xmp=xmp(6, ATTRIBUTE), quality=95)
    assert close(decode_image(data, LIMITS), upright)


@pytest.mark.parametrize("text", [b"", b"tiff:Orientation", b'tiff:Orientation="9"', b'tiff:Orientation="60"'])
def test_nonsense_in_xmp_is_no_orientation(text):
    assert decode_with_header(encode(picture(), "JPEG", xmp=text or b"\0"), LIMITS)[0].orientation == 1


def raw_profile(name: str, data: bytes) -> str:
    """As ImageMagick writes it: lines of 72 hex digits."""
    digits = data.hex()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    return "\n".join(["", name, f"{len(data):8d}", *lines, ""])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["exif", "APP1", "xmp", "APP1 of xmp"])
def test_an_orientation_in_an_imagemagick_text_chunk_counts(name, compressed):
    packet = xmp(6, ATTRIBUTE)
    data = {"xmp": packet, "APP1 of xmp": b"http://ns.adobe.com/xap/1.0/\0" + packet}.get(name, exif(6))
    name = name.split()[0]
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {name}", raw_profile(name, data), zip=compressed)
    upright, stored = turned_right()
    assert close(decode_image(encode(stored, "PNG", pnginfo=info), LIMITS), upright)


def test_a_damaged_text_chunk_is_no_orientation():
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n  12\nno hex")
    assert decode_with_header(encode(picture(), "PNG", pnginfo=info), LIMITS)[0].orientation == 1


def test_an_orientation_behind_the_pixels_of_a_png_counts():
    upright, stored = turned_right()
    data = encode(stored, "PNG", exif=exif(6))
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    trailer = data.index(b"IEND") - 4
    data = data[:start] + data[end:trailer] + data[start:end] + data[trailer:]
    header, decoded = decode_with_header(data, LIMITS)
    assert close(decoded, upright)
    assert (header.width, header.height, header.orientation) == (64, 48, 6)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
@pytest.mark.parametrize("told", [{}, {"xmp": xmp(6, ATTRIBUTE)}])
def test_formats_that_turn_themselves_are_turned_once(kind, told):
    tags = Image.Exif()
    tags[0x0112] = 6
    if kind == "TIFF" and told:
        tags[0x02BC] = told["xmp"]
    upright, stored = turned_right()
    header, decoded = decode_with_header(encode(stored, kind, exif=tags, **told), ALL_FORMATS)
    assert close(decoded, upright)
    assert (header.width, header.height) == (64, 48)


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_xmp_says_nothing_of_a_format_that_turns_itself(kind):
    tags = Image.Exif()
    if kind == "TIFF":
        tags[0x02BC] = xmp(6, ATTRIBUTE)
    with Image.open(io.BytesIO(encode(picture(), kind, exif=tags, xmp=xmp(6, ATTRIBUTE)))) as image:
        assert b"Orientation" in image.info["xmp"]
        assert find_orientation(image) == 1


@pytest.mark.parametrize(
    ("info", "orientation"),
    [
        ({"exif": exif(3), f"{PROFILE}exif": raw_profile("exif", exif(8))}, 3),
        ({"exif": b"Exif\0\0garbage", f"{PROFILE}exif": raw_profile("exif", exif(8))}, 8),
        ({f"{PROFILE}exif": raw_profile("exif", exif(5)), f"{PROFILE}APP1": raw_profile("APP1", exif(8))}, 5),
        ({"exif": b"\xff" * 300, "xmp": xmp(6, ATTRIBUTE)}, 6),
        ({"exif": exif(9), "xmp": xmp(6, ATTRIBUTE)}, 1),
        ({"xmp": xmp(3, ELEMENT), f"{PROFILE}xmp": raw_profile("xmp", xmp(8, ELEMENT))}, 3),
        ({"xmp": b"<x:xmpmeta/>", f"{PROFILE}xmp": raw_profile("xmp", xmp(8, ELEMENT))}, 8),
    ],
)
def test_the_first_place_that_says_something_is_believed(info: dict, orientation: int) -> None:
    image = picture()
    image.info.update(info)
    assert find_orientation(image) == orientation


def test_looking_for_an_orientation_decodes_no_pixel() -> None:
    with Image.open(io.BytesIO(encode(picture(), "PNG"))) as image:
        assert find_orientation(image) == 1
        assert image.tile
