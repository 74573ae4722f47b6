"""Shards of an export, planned -> their files, written where the task runs; only a line about each travels on."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from mos.exports.config import ExportFormat
from mos.exports.folder import ExportFolder
from mos.exports.index import WrittenShard
from mos.exports.parquet import write_parquet
from mos.exports.plan import Shard
from mos.exports.rows import exported_schema, read_rows
from mos.exports.tar import write_tar
from mos.tables.lance import TableVersion


class ExportShards:
    """Writes each shard from the pinned samples table; a repeated task writes the same file again.

    Reads   name, source, task, first, last, num: SHARDS of `mos.exports.plan`
    Writes  name, source, task, num, num_bytes, sha256 of the files that are there now
    """

    def __init__(self, samples: TableVersion, where: str, format: ExportFormat, folder: Path) -> None:
        """Take what all shards share.

        Args:
            samples: pinned: the version that the shards were planned on.
            where: SQL of the view.
            format: of the files.
            folder: of the export.
        """
        self._samples = samples
        self._where = where
        self._format = format
        self._folder = ExportFolder(folder)

    def __call__(self, shards: pa.Table) -> pa.Table:
        """One row for each shard."""
        return pa.Table.from_pylist([asdict(self._write(Shard(**row))) for row in shards.to_pylist()])

    def _write(self, shard: Shard) -> WrittenShard:
        path = self._folder.path / shard.name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_rows(self._samples, shard, self._where)
        match self._format:
            case "webdataset":
                num = write_tar(path, rows)
            case "parquet":
                num = write_parquet(path, rows, exported_schema(self._samples))
        if num != shard.num:
            path.unlink()
            raise RuntimeError(f"{path} got {num} samples of {shard.num}: the samples table changed under its version")
        return self._folder.record(shard)
