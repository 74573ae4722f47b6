"""The folder of an export: what it is an export of, which of its files are there, and what tells others about them.

What it was made of (the view, the version of the samples, the form) is in `.export.json`; each finished file has a
small JSON in `.shards` with its number of samples, its bytes and its sha256. What others read: of WebDataset shards
`<source>.json`, an index of each source's, and `sources.toml`, the [[curate.sources]] that read it; of Parquet
`README.md`, the card of a dataset, and `shards.json`, the same numbers of each file.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from mos.errors import UserError
from mos.exports.config import ExportFormat
from mos.exports.index import WrittenShard, shard_index
from mos.exports.parquet import CARD
from mos.exports.plan import Shard
from mos.files import written_whole
from mos.fingerprint import file_digest, fingerprint
from mos.tables.schema import TASK_EDIT

ABOUT = ".export.json"
RECORDS = ".shards"
SOURCES, README, SUMS = "sources.toml", "README.md", "shards.json"


class ExportFolder:
    """A folder of one export."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def claim(self, about: dict[str, Any], replace: bool = False) -> None:
        """Make this the folder of an export; nothing happens where it is that already.

        Args:
            about: what decides the bytes of its files.
            replace: remove the files of the export that is here, and no others.

        Raises:
            UserError: it holds another export that is not to be replaced, or files that are none.
        """
        self.check(about, replace)
        if replace:
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(ABOUT, json.dumps(about, indent=1) + "\n")

    def check(self, about: dict[str, Any], replace: bool = False) -> None:
        """Raise `UserError` where `claim` would."""
        remedy = "name another folder with export.path"
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder: {remedy}")
        if (found := self._about()) is None:
            if any(self.path.iterdir()):
                raise UserError(f"folder {self.path} holds files that are no export: {remedy}")
        elif fingerprint(about=found) != fingerprint(about=about) and not replace:
            told = ", ".join(_difference(found, about))
            raise UserError(f"folder {self.path} holds another export ({told}): {remedy}, or replace it with --force")

    def missing(self, shards: Iterable[Shard]) -> list[Shard]:
        """Those that are not there as they were recorded."""
        there = {shard.name for shard in self.records()}
        return [shard for shard in shards if shard.name not in there]

    def records(self) -> list[WrittenShard]:
        """The finished files that are there in their size, by name."""
        return list(self._found())

    def record(self, shard: Shard) -> WrittenShard:
        """Note that a file is written, which it is as a whole."""
        path = self.path / shard.name
        size = path.stat().st_size
        written = WrittenShard(shard.name, shard.source, shard.task, shard.num, size, file_digest(path))
        self._write(f"{RECORDS}/{path.name}.json", json.dumps(asdict(written)))
        return written

    def finish(self, format: ExportFormat, shards: Sequence[Shard]) -> list[WrittenShard]:
        """Write what tells others about the files, all of which are there.

        Args:
            format: of the export.
            shards: all of its plan.
        """
        found = {shard.name: shard for shard in self.records()}
        written = [found[shard.name] for shard in shards]
        match format:
            case "webdataset":
                sources = {source: list(group) for source, group in groupby(written, lambda shard: shard.source)}
                for source, group in sources.items():
                    self._write(f"{source}.json", shard_index(source, group))
                tasks = {source: group[0].task for source, group in sources.items()}
                self._write(SOURCES, self._sources(tasks))
            case "parquet":
                self._write(README, CARD)
                self._write(SUMS, json.dumps([asdict(shard) for shard in written], indent=1) + "\n")
        self._sweep()
        return written

    def _clear(self) -> None:
        """Remove the files of the export that is here, but for what it was made of: so it stays an export's folder."""
        records = [WrittenShard(**json.loads(path.read_text(encoding="utf-8"))) for path in self._record_files()]
        indexes = [f"{source}.json" for source in {shard.source for shard in records} if source]
        for name in (*(shard.name for shard in records), *indexes, SOURCES, README, SUMS):
            (self.path / name).unlink(missing_ok=True)
        for path in self._record_files():
            path.unlink(missing_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what tasks left that were killed while they wrote."""
        for path in self.path.rglob(".*.partial"):
            path.unlink(missing_ok=True)

    def _record_files(self) -> list[Path]:
        return sorted((self.path / RECORDS).glob("*.json"))

    def _sources(self, tasks: dict[str, str]) -> str:
        """The sections of a config that curate this export."""
        sections = [
            f'[[curate.sources]]\nname = "{source}"\ntype = "{"edits" if task == TASK_EDIT else "webdataset"}"\n'
            f"paths = [{json.dumps(str(self.path.resolve() / f'{source}.json'), ensure_ascii=False)}]\n"
            for source, task in tasks.items()
        ]
        return "\n".join(sections)

    def _about(self) -> dict[str, Any] | None:
        path = self.path / ABOUT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _found(self) -> Iterator[WrittenShard]:
        for path in self._record_files():
            shard = WrittenShard(**json.loads(path.read_text(encoding="utf-8")))
            file = self.path / shard.name
            if file.is_file() and file.stat().st_size == shard.num_bytes:
                yield shard

    def _write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(text, encoding="utf-8")


def _difference(found: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """What of two exports is not the same, in words."""
    return [
        f"its {name} is {found.get(name)!r}, not {value!r}" for name, value in about.items() if found.get(name) != value
    ]
