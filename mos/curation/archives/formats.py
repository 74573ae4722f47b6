"""Formats of files that should be tars and are not, by their first bytes, and what to do about each."""

_REPACK = "unpack it and read the folder, or pack it anew with `tar --sort=name`"
_RECOMPRESS = "compress the tar with zstd, gzip, bzip2, xz or lz4 instead"
_FETCH = "fetch the shard again"
_FORMATS = (
    (b"PK\x03\x04", "a zip archive", _REPACK),
    (b"PK\x05\x06", "an empty zip archive", _REPACK),
    (b"PK\x07\x08", "a zip archive in parts", _REPACK),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", _REPACK),
    (b"Rar!\x1a\x07", "a rar archive", _REPACK),
    (b"070701", "a cpio archive", _REPACK),
    (b"070702", "a cpio archive", _REPACK),
    (b"070707", "a cpio archive", _REPACK),
    (b"\xc7\x71", "a cpio archive", _REPACK),
    (b"\x71\xc7", "a cpio archive", _REPACK),
    (b"!<arch>\n", "an ar archive", _REPACK),
    (b"xar!", "a xar archive", _REPACK),
    (b"MSCF", "a cab archive", _REPACK),
    (b"\x60\xea", "an arj archive", _REPACK),
    (b"hsqs", "a squashfs image", _REPACK),
    (b"SQLite format 3\0", "an SQLite database", _REPACK),
    (b"PAR1", "a Parquet file", _REPACK),
    (b"ARROW1", "an Arrow file", _REPACK),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _REPACK),
    (b"\x1f\x9d", "data packed by `compress`", _RECOMPRESS),
    (b"\x1f\xa0", "data packed by `compress -H`", _RECOMPRESS),
    (b"LZIP", "lzip data", _RECOMPRESS),
    (b"\x89LZO\0\r\n\x1a\n", "lzop data", _RECOMPRESS),
    (b"\x02\x21\x4c\x18", "lz4 data of the legacy format", _RECOMPRESS),
    (b"\xff\x06\0\0sNaPpY", "snappy data", _RECOMPRESS),
    (b"version https://git-lfs", "a git-lfs pointer", "run `git lfs pull` where the shard was cloned"),
    (b"\xff\xd8\xff", "a JPEG picture", "read its folder with a source of type `folder`"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", "read its folder with a source of type `folder`"),
    (b"%PDF", "a PDF", _FETCH),
    (b"\x7fELF", "a program", _FETCH),
)
_PAGES = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML document"))
"""What a server answers instead of a file that is not there."""


def name_format(head: bytes) -> str | None:
    """`a zip archive, no tar: ...` with the remedy; None where the bytes are of no format that is known.

    Args:
        head: the first bytes, at least 32 where the file has them.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = next(((name, remedy) for magic, name, remedy in _FORMATS if head.startswith(magic)), None)
    found = found or next(((name, _FETCH) for start, name in _PAGES if text.startswith(start)), None)
    return None if found is None else f"{found[0]}, no tar: {found[1]}"
