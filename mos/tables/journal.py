"""Journal of fragments written and not committed yet: one small file each, so that a killed run loses nothing.

The files stand in the table's own folder, on whatever store that is. An actor adds its fragment once it is complete;
whoever commits it removes the entry; a run that starts commits what it finds. An entry is a hint and never the truth:
committing it again adds nothing, and without it the rows are encoded again.
"""

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from lance.file import LanceFileSession

from mos.tables.append_once import WrittenFragment

FOLDER = "_journal"

MAX_AGE_S = 3 * 24 * 3600
"""Older entries are not used: Lance's own clean-up takes fragments that nobody committed for a week."""


class Journal:
    """The entries of one table."""

    def __init__(self, uri: str) -> None:
        self._files = LanceFileSession(uri)

    def add(self, written: WrittenFragment) -> None:
        """Note a complete fragment."""
        entry = {
            "fragment": written.fragment,
            "keys": written.keys,
            "packs": dict(written.packs),
            "written_at": time.time(),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "entry.json")
            path.write_text(json.dumps(entry), encoding="utf-8")
            self._files.upload_file(path, _file_name(written))

    def read(self) -> list[WrittenFragment]:
        """Fragments of all entries that can be used, the oldest first; the others are removed."""
        entries: list[tuple[float, WrittenFragment]] = []
        for name in self._files.list(FOLDER):
            entry = self._load(name)
            if entry is None or entry[0] < time.time() - MAX_AGE_S:
                self._delete(name)
            else:
                entries.append(entry)
        return [written for _, written in sorted(entries, key=lambda entry: entry[0])]

    def remove(self, written: Iterable[WrittenFragment]) -> None:
        """Forget fragments that are committed or not needed any more."""
        for one in written:
            self._delete(_file_name(one))

    def _load(self, name: str) -> tuple[float, WrittenFragment] | None:
        """An entry and its Unix time; None where its writer was killed half way or had another version of the code, or
        where another process has just removed it.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "entry.json")
            try:
                self._files.download_file(name, path)
                entry = json.loads(path.read_text(encoding="utf-8"))
                written = WrittenFragment(entry["fragment"], tuple(entry["keys"]), entry["packs"])
                return float(entry["written_at"]), written
            except (OSError, ValueError, KeyError, TypeError):
                return None

    def _delete(self, name: str) -> None:
        if self._files.contains(name):
            try:
                self._files.delete_file(name)
            except OSError:
                if self._files.contains(name):
                    raise


def _file_name(written: WrittenFragment) -> str:
    """Named after the fragment's data file, which no other fragment has."""
    return f"{FOLDER}/{Path(json.loads(written.fragment)['files'][0]['path']).stem}.json"
