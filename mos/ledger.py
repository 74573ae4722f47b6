"""The ledger of finished steps of a run: fingerprint in, recorded outputs out; one small JSON file a step.

A step's record is written last, in one rename, so it exists only if the step's outputs do. A version of a
table that no record names is not part of the run.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mos.errors import UserError
from mos.files import written_whole


@dataclass(frozen=True)
class StepRecord:
    """Record of a finished step."""

    name: str
    """Step, for example `curate`."""
    fingerprint: str
    """64 hex digits over everything that decides the outputs."""
    outputs: dict[str, Any]
    """Plain data: table uris and versions, checkpoint folders, counts."""
    seconds: float
    """Wall time of the run that produced it."""
    finished_at: float
    """Unix time."""
    settings: str = ""
    """64 hex digits as `fingerprint`, raw data left out: of the config, and of what the step stands on."""
    confirmed_at: float = 0.0
    """Unix time at which a run last found nothing to do here."""


class StepLedger:
    """Records of one run, in `<root>/steps/<name>/<fingerprint>.json`."""

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root) / "steps"

    def find(self, name: str, fingerprint: str) -> StepRecord | None:
        """The record of this step with exactly this fingerprint, if it finished."""
        path = self._path(name, fingerprint)
        if not path.is_file():
            return None
        return StepRecord(**json.loads(path.read_text(encoding="utf-8")))

    def latest(self, name: str) -> StepRecord | None:
        """The step's record that was written last, whatever its fingerprint."""
        return max(self.records(name), key=lambda record: record.finished_at, default=None)

    def records(self, name: str) -> list[StepRecord]:
        """All records of a step, whatever their fingerprints."""
        paths = sorted((self.folder / name).glob("*.json"))
        return [StepRecord(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def require(self, name: str, fingerprint: str, remedy: str) -> StepRecord:
        """The record, or a `UserError` that names the unfinished step and the command that finishes it."""
        record = self.find(name, fingerprint)
        if record is None:
            raise UserError(
                f"step {name!r} is not finished for this config (fingerprint {fingerprint[:12]} has no record in "
                f"{self.folder / name}): run `{remedy}` first"
            )
        return record

    def record(
        self, name: str, fingerprint: str, outputs: dict[str, Any], started_at: float, settings: str
    ) -> StepRecord:
        """Write the record atomically; call it once every output of the step is durable."""
        now = time.time()
        return self._write(StepRecord(name, fingerprint, outputs, now - started_at, now, settings, now))

    def forget(self, name: str, fingerprint: str) -> None:
        """Remove a record, if there is one: the step is not finished then."""
        self._path(name, fingerprint).unlink(missing_ok=True)

    def confirm(self, record: StepRecord, settings: str) -> StepRecord:
        """Note that a record still holds: of several, the one that was confirmed last is the current one."""
        return self._write(replace(record, settings=settings, confirmed_at=time.time()))

    def _write(self, record: StepRecord) -> StepRecord:
        path = self._path(record.name, record.fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(asdict(record), indent=2), encoding="utf-8")
        return record

    def _path(self, name: str, fingerprint: str) -> Path:
        return self.folder / name / f"{fingerprint}.json"
