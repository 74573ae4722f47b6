"""Why an item was dropped: one stable code for each cause, written to the `rejects` table and never renamed."""

from enum import StrEnum


class Reason(StrEnum):
    """Every code of the `reason` column. A new cause gets a new code; an old code keeps its meaning."""

    SHARD_UNREADABLE = "shard_unreadable"
    """The shard cannot be opened, is no tar (the detail names what it is), or its compression or a header is damaged.
    """
    SHARD_TRUNCATED = "shard_truncated"
    """The shard ends inside a member or before its end marker, or in more zeros than a writer pads with, as a file
    does whose writer was stopped; what came before is read."""
    SHARD_TRAILING_DATA = "shard_trailing_data"
    """Bytes that are no tar follow the end of the archive or of its compressed data; their number is in the detail."""
    SHARD_TOO_LARGE = "shard_too_large"
    """The members together pass the caps on bytes or count; what came before is read."""
    MEMBER_NOT_REGULAR = "member_not_regular"
    """A symbolic or hard link, a device, a sparse file, or a link that leaves its folder and the source's
    `follow_links`."""
    MEMBER_UNSAFE_NAME = "member_unsafe_name"
    """An absolute name, a `..` part, a NUL, or bytes that are not UTF-8."""
    MEMBER_NAME_TOO_LONG = "member_name_too_long"
    """A name beyond the cap."""
    MEMBER_TOO_LARGE = "member_too_large"
    """A file beyond the cap on bytes; it is not read."""
    MEMBER_TYPE_REFUSED = "member_type_refused"
    """An extension outside the whitelist stands where the image or the caption should; it is not read. For pictures
    of other formats the detail names the setting that allows them."""
    KEY_DUPLICATE = "key_duplicate"
    """The shard already held this component of this key: one reject a copy of a sample, however many its files."""
    KEY_NOT_ADJACENT = "key_not_adjacent"
    """The key's members stand so far apart in the tar that they were not kept in memory together, see
    `ShardLimits.window_bytes` (write it with `tar --sort=name`)."""
    IMAGE_MISSING = "image_missing"
    """No image under this key."""
    IMAGE_AMBIGUOUS = "image_ambiguous"
    """Several images under this key."""
    REFERENCE_MISSING = "reference_missing"
    """An edit without its source image."""
    CAPTION_MISSING = "caption_missing"
    """No caption under this key, or none of the configured caption keys."""
    FILE_UNREADABLE = "file_unreadable"
    """A dead link, or a path that the operating system cannot follow."""
    PERMISSION = "permission"
    """The user that curates may not read the file, or may not list the folder."""

    IMAGE_EMPTY = "image_empty"
    """Zero bytes."""
    IMAGE_UNRECOGNISED = "image_unrecognised"
    """The bytes are no picture we know: HTML saved as `.jpg`, a single byte, noise."""
    IMAGE_FORMAT_REFUSED = "image_format_refused"
    """A known format outside JPEG, PNG, WebP and `ImageLimits.extra_formats`."""
    IMAGE_ANIMATED = "image_animated"
    """More than one frame, and `ImageLimits.animated` does not take the first."""
    IMAGE_TRUNCATED = "image_truncated"
    """The pixel data ends early."""
    IMAGE_CORRUPT = "image_corrupt"
    """The header or the pixel data is damaged."""
    IMAGE_MODE_REFUSED = "image_mode_refused"
    """A pixel format with no agreed way to RGB."""
    IMAGE_METADATA_BOMB = "image_metadata_bomb"
    """Compressed text chunks that unpack beyond the decoder's cap."""
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels"
    """The header claims more pixels than the cap; nothing is decoded."""
    IMAGE_TOO_SMALL = "image_too_small"
    """The shorter side is below the minimum."""
    IMAGE_TOO_ELONGATED = "image_too_elongated"
    """The longer side is too many times the shorter one."""
    IMAGE_TRANSPARENT = "image_transparent"
    """Every pixel is fully transparent."""
    BUCKET_NONE = "bucket_none"
    """Too small for the bucket of its aspect at every configured resolution."""

    CAPTION_NOT_UTF8 = "caption_not_utf8"
    """Bytes that do not decode as UTF-8, nor as the UTF-16 or UTF-32 that their byte order mark names."""
    CAPTION_NOT_UNICODE = "caption_not_unicode"
    """A lone surrogate, which has no UTF-8 form."""
    CAPTION_NOT_TEXT = "caption_not_text"
    """A JSON value that is no string, and no other caption key has text."""
    CAPTION_CONTROL = "caption_control"
    """A NUL or another control character."""
    CAPTION_EMPTY = "caption_empty"
    """Nothing left after white space and invisible characters are removed."""
    CAPTION_TOO_SHORT = "caption_too_short"
    """Fewer characters than the minimum."""
    CAPTION_TOO_LONG = "caption_too_long"
    """More characters than the maximum."""
    CAPTION_WITHOUT_WORDS = "caption_without_words"
    """Not one letter or digit: only emoji or punctuation."""
    JSON_INVALID = "json_invalid"
    """Not JSON."""
    JSON_NOT_OBJECT = "json_not_object"
    """JSON, but no object."""
    JSON_NOT_FINITE = "json_not_finite"
    """`NaN` or `Infinity`, which JSON does not have."""
    JSON_TOO_DEEP = "json_too_deep"
    """Nested beyond the parser's cap."""
    JSON_TOO_LARGE = "json_too_large"
    """More bytes than the cap."""

    LATENT_NOT_FINITE = "latent_not_finite"
    """The codec's latent has NaN or a value too large for the table."""
    STATES_NOT_FINITE = "states_not_finite"
    """The tower's hidden states have NaN or a value too large for the table."""
    EDIT_UNCHANGED = "edit_unchanged"
    """Source and target are the same bytes: nothing to learn."""
    SCORE_NOT_FINITE = "score_not_finite"
    """A scorer returned NaN or infinity."""
    DUPLICATE_EXACT = "duplicate_exact"
    """The same image bytes with the same caption came earlier."""
    DUPLICATE_NEAR = "duplicate_near"
    """Nearly the same image with the same caption came earlier."""


class Rejected(Exception):
    """A verdict on an item, not a failure of the program; carries its code and the value that was refused."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # what an exception is unpickled from
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class ShardBrokenError(Rejected):
    """The rest of a shard cannot be read.

    `member` names the file it broke in, if any. `is_zero_filled`: from some place on it holds nothing but zeros. Where
    `is_certain` is false, a whole shard may end so, too: only what its samples lack tells.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        member: str | None = None,
        *,
        is_zero_filled: bool = False,
        is_certain: bool = True,
    ) -> None:
        super().__init__(reason, detail)
        self.member = member
        self.is_zero_filled = is_zero_filled
        self.is_certain = is_certain


class Notice(StrEnum):
    """Things counted apart because they are no samples: neither read nor rejected, but the user is told how many."""

    SYSTEM_FILE = "system_file"
    """A file that an operating system or a tool left behind, see `mos.curation.system_files`; skipped."""
    LONE_ZERO_BLOCK = "lone_zero_block"
    """One block of zeros between two members of a tar, where an end marker has two; read on, as GNU tar does."""
    LATE_MEMBER = "late_member"
    """A member of a tar that came after its sample was decided; left out of it."""
