"""Which runs use the tables of a folder, and what of them: registered beside the tables, told by the step records.

A run registers before it writes, so that a tables folder that many runs share knows them all; its records, in its own
root, name the versions and tell the rows. A run whose root cannot be read from here keeps everything.
"""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lance.file import LanceFileSession

from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.ledger import StepLedger
from mos.tables.encode_plan import plan_contexts, plan_latents
from mos.tables.lance import TableVersion
from mos.tables.views import View

FOLDER = "users"


@dataclass(frozen=True)
class Encoding:
    """Tables, versions and keys that one finished encode step of a run stands on."""

    samples: TableVersion
    views: tuple[View, ...]
    """What was encoded of the samples."""
    sees_images: bool
    """Whether the tower's contexts cover images."""
    codec_id: str
    tables: dict[str, TableVersion]
    """`states` and `latents`."""

    @classmethod
    def from_outputs(cls, outputs: dict[str, Any]) -> "Encoding":
        """Outputs of the encode step, as its record holds them."""
        return cls(
            samples=TableVersion(**outputs["samples"]),
            views=tuple(View.from_plain(view) for view in outputs["views"].values()),
            sees_images=outputs["sees_images"],
            codec_id=outputs["codec_id"],
            tables={kind: TableVersion(**outputs[kind]) for kind in ("states", "latents")},
        )

    def keys(self, kind: str) -> set[str]:
        """The keys of one kind of table that some view of the run can ask for."""
        if kind == "states":
            tasks = plan_contexts(self.samples, self.views, self.sees_images)
        else:
            tasks = plan_latents(self.samples, self.views, self.codec_id)
        return set(tasks.column(0).to_pylist())


@dataclass(frozen=True)
class RegisteredRun:
    """One registered run."""

    name: str
    root: str
    """Folder with the run's step records."""
    encodings: tuple[Encoding, ...] | None
    """All its finished encode steps; None where the root cannot be read from here, and everything must stay."""

    @property
    def file(self) -> str:
        """Path of its registration in the tables folder."""
        return f"{FOLDER}/{run_id(self.root)}.json"

    def versions(self, uri: str) -> set[int]:
        """Versions of a table that records of this run name."""
        tables = (table for encoding in self.encodings or () for table in encoding.tables.values())
        return {table.version for table in tables if table.uri == uri}


def run_id(root: str) -> str:
    """12 hex digits that tell the runs of a tables folder apart."""
    return fingerprint(root=root)[:12]


def register_run(tables_folder: str, root: str, name: str) -> None:
    """Note that a run uses the tables of a folder; once or many times, it is one user."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "user.json")
        path.write_text(json.dumps({"name": name, "root": root}), encoding="utf-8")
        LanceFileSession(tables_folder).upload_file(path, f"{FOLDER}/{run_id(root)}.json")


def read_runs(tables_folder: str) -> list[RegisteredRun]:
    """All registered runs, with what their records say now."""
    files = LanceFileSession(tables_folder)
    users = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sorted(files.list(FOLDER)):
            path = Path(folder, Path(name).name)
            files.download_file(f"{FOLDER}/{path.name}", path)
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
                users.append(read_run(known["name"], known["root"]))
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{tables_folder}/{FOLDER}/{path.name} names no run ({error}): delete it if the run is gone, or "
                    "run its encode step again"
                ) from error
    return users


def read_run(name: str, root: str) -> RegisteredRun:
    """One run, registered or not, with what its records say now."""
    return RegisteredRun(name, root, _encodings(Path(root)))


def needed_keys(users: Iterable[RegisteredRun], uri: str, kind: str) -> set[str]:
    """Keys of a table that some view of some run can ask for."""
    encodings = (encoding for user in users for encoding in user.encodings or ())
    return {key for encoding in encodings if encoding.tables[kind].uri == uri for key in encoding.keys(kind)}


def _encodings(root: Path) -> tuple[Encoding, ...] | None:
    if not root.is_dir():
        return None
    try:
        records = StepLedger(root).records("encode")
        return tuple(Encoding.from_outputs(record.outputs) for record in records)
    except (OSError, KeyError, TypeError, ValueError):
        return None  # written by another version of the code: not knowing what it needs, keep everything
