import pytest

from mos.images.decode import ImageLimits
from mos.images.formats import FORMATS, PICTURE_SUFFIXES, SUFFIXES, how_to_read, sniff, suffixes_of
from tests.mos.images.pictures import encode, picture


@pytest.mark.parametrize("kind", [*FORMATS, "AVIF", "BMP", "GIF", "TIFF"])
def test_what_pillow_writes_is_known_by_its_first_bytes(kind: str) -> None:
    assert sniff(encode(picture(), kind)) == kind


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"GIF87a", "GIF"),
        (b"8BPS\0\x01", "PSD"),
        (b"\xff\x0a\xff\xff", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"%PDF-1.7", "PDF"),
        (b"\n  <SVG xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><!-- drawn --><svg/>", "SVG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmiaf", "AVIF"),
        (b"\0\0\0\x14ftypavis\0\0\0\0avis", "AVIF"),
    ],
)
def test_formats_that_are_not_read_have_names_too(data: bytes, name: str) -> None:
    assert sniff(data) == name


@pytest.mark.parametrize("brand", [b"heic", b"isom"])
def test_iso_media_that_is_no_avif_is_named_by_its_brand(brand: bytes) -> None:
    """Brands are those of the first box; `avif` in the data behind it is none."""
    assert sniff(b"\0\0\0\x14ftyp" + brand + b"\0\0\0\0mif1" + b"avif") == f"ISO media {brand!r}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"<?xml version='1.0'?><html/>",
        b"<!DOCTYPE html><svg/>",
        b"a caption",
        b" " + b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_has_no_name(data: bytes) -> None:
    assert sniff(data) is None


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES - suffixes_of(FORMATS)))
def test_the_remedy_for_a_format_that_is_not_read_works(suffix: str) -> None:
    """The setting that is named opens files of that extension; what no setting opens is to be converted."""
    before, _, rest = how_to_read(suffix.upper()).partition('curate.image.extra_formats = ["')
    if rest:
        assert rest.endswith('"] allows it')
        assert suffix in ImageLimits(extra_formats=(rest.partition('"')[0],)).suffixes()
    else:
        assert before == "convert it to PNG, JPEG or WebP"
        assert not any(suffix in group for group in SUFFIXES.values())


def test_extensions_are_those_of_the_formats_that_are_asked_for() -> None:
    assert suffixes_of(("PNG", "TIFF")) == {"png", "apng", "tif", "tiff"}
    assert suffixes_of(()) == frozenset()
