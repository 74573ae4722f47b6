"""Which files of a sample are opened, and how large each may be."""

from mos.curation.config import CurateConfig
from mos.curation.file_names import TEXT_SUFFIXES, suffix
from mos.images.reasons import Reason, Rejected


def is_opened(name: str, config: CurateConfig) -> bool:
    """True if a file's extension stands on the whitelist; no other file is ever read."""
    return (kind := suffix(name)) in TEXT_SUFFIXES or kind in config.image.suffixes()


def oversize(name: str, size: int, config: CurateConfig) -> Rejected | None:
    """The verdict on a file of a whitelisted type that is larger than its type may be."""
    if size <= (limit := max_bytes(name, config)) or not is_opened(name, config):
        return None
    match suffix(name):
        case "txt":
            return Rejected(Reason.CAPTION_TOO_LONG, f"{size} bytes, at most {config.caption.max_chars} characters")
        case "json":
            return Rejected(Reason.JSON_TOO_LARGE, f"{size} bytes, at most {limit}")
        case _:
            return Rejected(Reason.MEMBER_TOO_LARGE, f"{name}: {size} bytes, at most {limit}")


def max_bytes(name: str, config: CurateConfig) -> int:
    """The bytes that are read of a file of this name at most."""
    match suffix(name):
        case "txt":
            return 4 * config.caption.max_chars
        case "json":
            return config.caption.max_json_bytes
        case _:
            return config.image.max_bytes
