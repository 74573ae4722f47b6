"""Members of a tar, in whatever order they stand -> samples, each once.

Members of a sample stand side by side in a shard as it should be, and pass through one at a time. Where they do not
(all images first, then all texts), samples that lack something wait in a window of bounded bytes for the rest.
"""

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mos.curation.archives.tar import SHARD, Member
from mos.curation.config import CurateConfig
from mos.curation.items import Item, assemble
from mos.curation.limits import oversize
from mos.curation.sources import SourceConfig
from mos.images.reasons import Notice, Reason, Rejected, ShardBrokenError

MAX_COMPONENTS = 16
"""Files under one key that are kept in memory together."""
_GROUP_BYTES = 1024
"""What a group takes in memory besides its files."""
_INCOMPLETE = frozenset(
    {Reason.IMAGE_MISSING, Reason.CAPTION_MISSING, Reason.REFERENCE_MISSING, Reason.MEMBER_TYPE_REFUSED}
)
"""Verdicts that another member could change."""


@dataclass
class _Group:
    """Members of one key."""

    key: str
    place: int
    """Among all samples of the shard, by their first members."""
    parts: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    fault: Rejected | None = None
    is_scattered: bool = False
    """Whether members of other keys stood between its own."""

    @property
    def num_bytes(self) -> int:
        return _GROUP_BYTES + sum(map(len, self.parts.values()))


def split_name(name: str) -> tuple[str, str]:
    """`a/b.source.png` -> (`a/b`, `source.png`): a key ends at the first dot inside the file's own name.

    Names of one file give one key: `./a//b.png` and `a/b.png`, and both Unicode forms of an accent.
    """
    if "/" not in name and name.isascii() and not name.startswith("."):
        stem, _, component = name.partition(".")
        return stem, component.lower()
    path = posixpath.normpath(name) if "/" in name else name
    folder, slash, file = unicodedata.normalize("NFC", path).rpartition("/")
    dots = len(file) - len(file.lstrip("."))
    stem, _, component = file[dots:].partition(".")
    return folder + slash + file[:dots] + stem, component.lower()


def _is_incomplete(item: Item) -> bool:
    return item.refusal is not None and item.refusal.reason in _INCOMPLETE


class Pairing:
    """Takes the members of one shard in order and gives every sample once, good or refused."""

    def __init__(self, source: SourceConfig, config: CurateConfig, notices: Counter[Notice]) -> None:
        self._source = source
        self._config = config
        self._notices = notices
        self._seen: dict[str, set[str]] = {}
        self._copies: dict[str, Counter[str]] = {}
        self._open: _Group | None = None
        self._incomplete: dict[str, _Group] = {}
        self._complete: dict[str, _Group] = {}
        self._waiting_bytes = 0
        self._given_up: dict[str, Item] = {}
        self._is_sorted = True
        self._num_complete = 0
        self._num_places = 0

    @property
    def lacks_members(self) -> bool:
        """True if a sample is incomplete that the next members could have completed."""
        if self._open is not None and _is_incomplete(self._judge(self._open)):
            return True
        return bool(self._incomplete) and self._may_be_scattered

    @property
    def _may_be_scattered(self) -> bool:
        """True if members stand apart, or no sample was complete yet, as where all images stand before all texts."""
        return not self._is_sorted or not self._num_complete

    def add(self, member: Member) -> Iterator[Item]:
        """The samples that are decided now that this member stands next."""
        key, component = split_name(member.name)
        if self._open is not None and self._open.key != key:
            yield from self._leave()
        if key == SHARD and member.refusal is not None:
            yield Item(SHARD, refusal=member.refusal, place=self._next_place())
            return
        seen = self._seen.setdefault(key, set())
        if component in seen:
            yield from self._copy(key, component)
            return
        group = self._open or self._group(key, is_known=bool(seen))
        seen.add(component)
        if group is not None:
            self._open = group
            self._take(group, component, member)

    def finish(self) -> Iterator[Item]:
        """The samples that were still waiting, at the end of the shard."""
        if self._open is not None:
            yield from self._leave()
        for group in (*self._complete.values(), *self._incomplete.values()):
            yield self._judge(group)
        yield from self._given_up.values()

    def break_off(self, broken: ShardBrokenError) -> Iterator[Item]:
        """The samples that were still waiting where a shard cannot be read further, and the verdict on it.

        The verdict is on the sample it broke in, else on the one that the last member left incomplete. Where members
        are not sorted, or no sample was ever complete, what the others wait for was lost with the rest.
        """
        key = split_name(broken.member)[0] if broken.member else self._incomplete_key(broken)
        is_told = False
        for item in self.finish():
            is_lost = _is_incomplete(item) and self._may_be_scattered
            if item.key == key or (is_lost and broken.reason == Reason.SHARD_TRUNCATED):
                is_told = is_told or key in (item.key, None)
                yield Item(item.key, refusal=broken, place=item.place)
            else:
                yield item
        if not is_told:
            yield Item(key or SHARD, refusal=broken, place=self._next_place())

    def _incomplete_key(self, broken: ShardBrokenError) -> str | None:
        """The open sample, if what was not read could have completed it."""
        if self._open is None or broken.reason == Reason.SHARD_TRAILING_DATA:
            return None
        return self._open.key if _is_incomplete(self._judge(self._open)) else None

    def _group(self, key: str, is_known: bool) -> _Group | None:
        """The group that a member joins; None where its sample is decided already."""
        if (group := self._incomplete.pop(key, None) or self._complete.pop(key, None)) is not None:
            self._waiting_bytes -= group.num_bytes
            group.is_scattered, self._is_sorted = True, False
            return group
        if key in self._given_up:
            remedy = "write the tar with `tar --sort=name`, or raise curate.shard.window_bytes"
            refusal = Rejected(Reason.KEY_NOT_ADJACENT, f"its members stand too far apart: {remedy}")
            self._given_up[key] = Item(key, refusal=refusal, place=self._given_up[key].place)
            return None
        if is_known:
            self._notices[Notice.LATE_MEMBER] += 1
            return None
        return _Group(key, self._next_place())

    def _next_place(self) -> int:
        self._num_places += 1
        return self._num_places - 1

    def _copy(self, key: str, component: str) -> Iterator[Item]:
        """The second, third, ... sample under a key is one reject each, at the first of its members."""
        copies = self._copies.setdefault(key, Counter())
        is_new = copies[component] == max(copies.values(), default=0)
        copies[component] += 1
        if is_new:
            refusal = Rejected(Reason.KEY_DUPLICATE, f"{component} stood in the shard before")
            yield Item(key, refusal=refusal, place=self._next_place())

    def _take(self, group: _Group, component: str, member: Member) -> None:
        """Take a member into its group; the first fault of a member is the group's."""
        fault = member.refusal or oversize(member.name, member.size, self._config)
        if fault is None and len(group.parts) >= MAX_COMPONENTS:
            fault = Rejected(Reason.IMAGE_AMBIGUOUS, f"more than {MAX_COMPONENTS} files under one key")
        group.fault = group.fault or fault
        if fault is None and member.data is not None:
            group.parts[component] = member.data
        else:
            group.refused.append(component)

    def _judge(self, group: _Group) -> Item:
        """The candidate that a group makes, or the verdict on it."""
        try:
            if group.fault is not None:
                raise group.fault
            captions = self._config.caption
            return assemble(group.key, group.parts, group.refused, self._source, captions, group.place)
        except Rejected as refusal:
            return Item(group.key, refusal=refusal, place=group.place)

    def _leave(self) -> Iterator[Item]:
        """Decide the open group, or let it wait: for what it lacks, or because one scattered member may not be all."""
        assert self._open is not None
        group, self._open = self._open, None
        item = self._judge(group)
        self._num_complete += not _is_incomplete(item)
        if not _is_incomplete(item) and not group.is_scattered:
            yield item
            return
        waiting = self._incomplete if _is_incomplete(item) else self._complete
        waiting[group.key] = group
        self._waiting_bytes += group.num_bytes
        while self._waiting_bytes > self._config.shard.window_bytes:
            yield from self._give_up()

    def _give_up(self) -> Iterator[Item]:
        """Decide the group that has waited longest, a complete one if there is any.

        The verdict on an incomplete one is only given once the shard is read: it may still meet its other members.
        """
        waiting = self._complete or self._incomplete
        group = waiting.pop(next(iter(waiting)))
        self._waiting_bytes -= group.num_bytes
        item = self._judge(group)
        if _is_incomplete(item):
            self._given_up[group.key] = item
        else:
            yield item
