"""Losses measured so far, in small files that are there whole or not at all: a run that was stopped goes on there."""

from pathlib import Path

import pyarrow as pa

from mos.files import written_whole

MEASURED = pa.schema(
    [
        pa.field("address", pa.int64(), nullable=False),  # of the sample in the pinned samples table, `_rowaddr`
        pa.field("loss", pa.float32()),  # null where there is a reason
        pa.field("reason", pa.string()),  # `mos.losses.sample.LeftOut`
    ]
)


class MeasuredParts:
    """The parts in a folder that all workers see; a sample that two of them hold counts once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, rows: pa.Table) -> None:
        """Add a part, MEASURED, of one row at least."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            written_whole(self.folder / f"{rows['address'][0].as_py():016x}.arrow") as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, MEASURED) as writer,
        ):
            writer.write_table(rows.cast(MEASURED))

    def read(self) -> pa.Table:
        """All of them by address, MEASURED. A part that a crash of the machine has damaged is removed."""
        parts = [part for path in sorted(self.folder.glob("*.arrow")) if (part := _read(path)) is not None]
        rows = pa.concat_tables(parts) if parts else MEASURED.empty_table()
        first = rows.append_column("row", pa.array(range(len(rows)))).group_by("address").aggregate([("row", "min")])
        return rows.take(first["row_min"]).sort_by("address")


def _read(path: Path) -> pa.Table | None:
    try:
        with pa.OSFile(str(path), "rb") as file:
            return pa.ipc.open_file(file).read_all().cast(MEASURED)
    except (pa.ArrowInvalid, ValueError):
        path.unlink(missing_ok=True)
        return None
