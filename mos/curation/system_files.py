"""Names of files that operating systems and tools leave in folders and archives, and that nobody means as samples."""

from functools import lru_cache

FILES = frozenset(
    {
        ".ds_store",
        ".localized",
        ".apdisk",
        ".volumeicon.icns",
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        ".directory",
        ".gitattributes",
        ".gitignore",
        ".gitkeep",
    }
)
"""Whole names, in lower case: of macOS, Windows, KDE and git."""
FOLDERS = frozenset(
    {
        "__macosx",
        ".appledouble",
        ".documentrevisions-v100",
        ".fseventsd",
        ".spotlight-v100",
        ".temporaryitems",
        ".trash",
        ".trashes",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "@eadir",
        ".thumbnails",
        ".git",
        ".cache",
        ".ipynb_checkpoints",
        "__pycache__",
    }
)
"""Names of folders all of whose contents are meant, in lower case: also of Synology, Jupyter, Python and the hub's
downloader."""
APPLE_DOUBLE = "._"
"""What a name begins with under which macOS keeps the attributes of the file beside it."""


@lru_cache(maxsize=1024)
def is_system_file(name: str) -> bool:
    """True if a path with forward slashes is such a file, or lies in such a folder."""
    *folders, file = name.casefold().split("/")
    return file in FILES or file.startswith((APPLE_DOUBLE, ".nfs0")) or not FOLDERS.isdisjoint(folders)


def is_system_folder(name: str) -> bool:
    """True if a folder's own name is such a name."""
    return name.casefold() in FOLDERS
