"""A unit of work -> its candidates, in order; whatever is wrong ends in a verdict on one item, never on its shard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mos.data.curation import CurateConfig
from mos.data.folders import read_entry
from mos.data.items import Item, assemble
from mos.data.reasons import Reason, Rejected
from mos.data.sources import IMAGE_SUFFIXES, TEXT_SUFFIXES, EditsSource, FolderSource, SourceConfig, Unit, suffix
from mos.data.tar import Member, ShardBrokenError, read_tar

MAX_COMPONENTS = 16
"""Files under one key that are kept in memory together."""


def read_unit(unit: Unit, source: SourceConfig, config: CurateConfig) -> Iterator[Item]:
    """Every candidate of a unit, each exactly once, good or refused."""
    match source:
        case FolderSource() | EditsSource(triples=str()):
            for entry in unit.entries:
                yield read_entry(unit.shard, entry, source, config)
        case _:
            yield from _read_shard(unit.shard, source, config)


@dataclass
class _Group:
    """Adjacent members of one key."""

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    fault: Rejected | None = None

    @property
    def components(self) -> frozenset[str]:
        return frozenset((*self.parts, *self.refused))


def _read_shard(path: str, source: SourceConfig, config: CurateConfig) -> Iterator[Item]:
    closed: dict[str, frozenset[str]] = {}
    group: _Group | None = None
    try:
        for member in read_tar(path, config.shard, _reads(config)):
            key, component = split_name(member.name)
            if group is not None and (key != group.key or component in group.components):
                yield _close(group, closed, source, config)
                group = None
            group = group or _Group(key)
            _add(group, component, member, config)
    except ShardBrokenError as broken:
        yield from _break(group, broken, closed, source, config)
        return
    if group is not None:
        yield _close(group, closed, source, config)


def split_name(name: str) -> tuple[str, str]:
    """`a/b.source.png` -> (`a/b`, `source.png`): a key ends at the first dot of the file's own name."""
    folder, slash, file = name.rpartition("/")
    stem, _, component = file.partition(".")
    return folder + slash + stem, component.lower()


def _reads(config: CurateConfig) -> Callable[[str, int], bool]:
    """Which members are worth reading at all: the whitelist, within its caps."""
    return lambda name, size: _oversize(name, size, config) is None and suffix(name) in IMAGE_SUFFIXES | TEXT_SUFFIXES


def _oversize(name: str, size: int, config: CurateConfig) -> Rejected | None:
    kind = suffix(name)
    if kind == "txt" and size > 4 * config.caption.max_chars:
        return Rejected(Reason.CAPTION_TOO_LONG, f"{size} bytes, at most {config.caption.max_chars} characters")
    if kind == "json" and size > config.caption.max_json_bytes:
        return Rejected(Reason.JSON_TOO_LARGE, f"{size} bytes, at most {config.caption.max_json_bytes}")
    if kind in IMAGE_SUFFIXES and size > config.image.max_bytes:
        return Rejected(Reason.MEMBER_TOO_LARGE, f"{name}: {size} bytes, at most {config.image.max_bytes}")
    return None


def _add(group: _Group, component: str, member: Member, config: CurateConfig) -> None:
    """Take a member into its group; the first fault of a member is the group's."""
    fault = member.refusal or _oversize(member.name, member.size, config)
    if fault is None and len(group.parts) >= MAX_COMPONENTS:
        fault = Rejected(Reason.IMAGE_AMBIGUOUS, f"more than {MAX_COMPONENTS} files under one key")
    group.fault = group.fault or fault
    if fault is None and member.data is not None:
        group.parts[component] = member.data
    else:
        group.refused.append(component)


def _close(group: _Group, closed: dict[str, frozenset[str]], source: SourceConfig, config: CurateConfig) -> Item:
    """The candidate of a finished group."""
    seen = closed.get(group.key)
    closed[group.key] = group.components | (seen or frozenset())
    try:
        if group.fault is not None:
            raise group.fault
        if seen is not None:
            raise _repeated(group, seen)
        return assemble(group.key, group.parts, group.refused, source, config.caption)
    except Rejected as refusal:
        return Item(group.key, refusal=refusal)


def _repeated(group: _Group, seen: frozenset[str]) -> Rejected:
    again = sorted(group.components & seen)
    if again:
        return Rejected(Reason.KEY_DUPLICATE, f"{', '.join(again)} stood in the shard before")
    return Rejected(Reason.KEY_NOT_ADJACENT, "its other members stand elsewhere: write the tar with --sort=name")


def _break(
    group: _Group | None,
    broken: ShardBrokenError,
    closed: dict[str, frozenset[str]],
    source: SourceConfig,
    config: CurateConfig,
) -> Iterator[Item]:
    """What a shard that cannot be read further still gives: its open group if complete, and one verdict."""
    key = split_name(broken.member)[0] if broken.member else "(shard)"
    if group is not None:
        item = _close(group, closed, source, config)
        cut = group.fault is None and item.refusal is not None and item.refusal.reason in _PARTS_MISSING
        if key == group.key or cut:
            yield Item(group.key, refusal=broken)
            return
        yield item
    yield Item(key, refusal=broken)


_PARTS_MISSING = frozenset({Reason.IMAGE_MISSING, Reason.CAPTION_MISSING, Reason.REFERENCE_MISSING})
