"""Messages between trainer and producers of a streaming stage, besides the table: one small file a rank.

    <folder>/rank-3.json   the step that this rank reads next, written when it enters a window
    <folder>/failed.txt    why no more states will come

The files are renamed into place, so that nobody reads half of one.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from mos.files import written_whole


@dataclass(frozen=True)
class RankProgress:
    """Progress of one rank."""

    step: int
    """Step whose states it reads next; it needs none of an earlier one."""
    waited_s: float
    """Seconds its reader waited for states so far, in the background of training."""


class StreamProgress:
    """The folder of one stage, on a file system that trainer and driver share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """Forget earlier attempts; call it before the trainer starts."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)

    def report(self, rank: int, progress: RankProgress) -> None:
        """Say where a rank is; a smaller step than before where it began again from a checkpoint."""
        self._write(f"rank-{rank}.json", json.dumps(asdict(progress)))

    def fail(self, reason: str) -> None:
        """Say why no more states will come."""
        self._write("failed.txt", reason)

    @property
    def failure(self) -> str | None:
        """Message of `fail`."""
        path = self._folder / "failed.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def keep_ranks(self, num: int) -> None:
        """Forget ranks that a smaller gang than before does not have: they would hold the window where they left."""
        for path in self._folder.glob("rank-*.json"):
            if int(path.stem.removeprefix("rank-")) >= num:
                path.unlink(missing_ok=True)

    def ranks(self) -> list[RankProgress]:
        """Every rank that has reported."""
        return [
            RankProgress(**json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(self._folder.glob("rank-*.json"))
        ]

    def reported_at(self) -> float:
        """Unix time of the newest report of a rank; 0 where there is none."""
        return max((path.stat().st_mtime for path in self._folder.glob("rank-*.json")), default=0.0)

    def _write(self, name: str, text: str) -> None:
        with written_whole(self._folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
