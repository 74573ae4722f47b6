"""A unit of work -> its candidates, in order; whatever is wrong ends in a verdict on one item, never on its shard."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mos.curation.archives.tar import Member, read_tar
from mos.curation.config import CurateConfig
from mos.curation.file_names import TEXT_SUFFIXES, suffix
from mos.curation.folders import read_entry
from mos.curation.items import Item
from mos.curation.limits import is_opened, oversize
from mos.curation.pairing import Pairing
from mos.curation.sources import EditsSource, FolderSource, SourceConfig, Unit
from mos.curation.system_files import is_system_file
from mos.images.reasons import Notice, Reason, Rejected, ShardBrokenError

_WHOLE = (b"\xff\xd9", b"IEND\xaeB`\x82")
"""What a JPEG and a PNG end with; zeros may follow."""
_UNPACKED = frozenset({"bmp", "dib", "tif", "tiff"})
"""Pictures whose last pixels may be zeros."""


def read_unit(
    unit: Unit, source: SourceConfig, config: CurateConfig, notices: Counter[Notice] | None = None
) -> Iterator[Item]:
    """Every candidate of a unit, each exactly once, good or refused.

    Args:
        unit: what to read.
        source: what its files mean.
        config: limits.
        notices: counts what was skipped or odd; complete when the last candidate is read.
    """
    notices = Counter() if notices is None else notices
    notices[Notice.SYSTEM_FILE] += unit.num_skipped
    match source:
        case FolderSource() | EditsSource(triples=str()):
            for place, (key, reason, detail) in enumerate(unit.refused):
                yield Item(key, refusal=Rejected(Reason(reason), detail), place=place)
            for place, entry in enumerate(unit.entries, len(unit.refused)):
                yield replace(read_entry(unit.shard, entry, source, config, unit.follow), place=place)
        case _:
            yield from _read_shard(unit.shard, source, config, notices)


def _read_shard(path: str, source: SourceConfig, config: CurateConfig, notices: Counter[Notice]) -> Iterator[Item]:
    pairing = Pairing(source, config, notices)
    last: Member | None = None
    broken: ShardBrokenError | None = None

    def is_wanted(name: str, size: int) -> bool:
        return is_opened(name, config) and oversize(name, size, config) is None and not is_system_file(name)

    try:
        for member in read_tar(path, config.shard, is_wanted, notices):
            if is_system_file(member.name):
                notices[Notice.SYSTEM_FILE] += 1
                continue
            yield from pairing.add(member)
            last = member
    except ShardBrokenError as error:
        broken = error
    if last is not None and (broken is None or broken.is_zero_filled) and _was_never_written(last, broken is not None):
        detail = f"{last.name} ends in zeros, and so does the shard: its writer was stopped"
        broken = ShardBrokenError(Reason.SHARD_TRUNCATED, detail, last.name)
    if broken is None or not (broken.is_certain or pairing.lacks_members):
        yield from pairing.finish()
    else:
        yield from pairing.break_off(broken)


def _was_never_written(member: Member, is_followed_by_zeros: bool) -> bool:
    """True if the end of a file was never written: zeros end no text, and no picture of a packed format.

    Args:
        member: the last of its shard.
        is_followed_by_zeros: whether there are more of them behind it than end an archive: then one is enough.
    """
    kind = suffix(member.name)
    if not member.data or kind in _UNPACKED:
        return False
    rest = member.data.rstrip(b"\0")
    num_zeros = len(member.data) - len(rest)
    enough = 1 if is_followed_by_zeros else 4 if kind in TEXT_SUFFIXES else 16
    return num_zeros >= enough and not rest.endswith(_WHOLE)
