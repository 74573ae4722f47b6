"""Names of a checkpoint's folders and files, and which JSON is believed."""

import json
from pathlib import Path

import pytest

from mos.training.checkpoint_format import (
    FORMAT,
    MARKER,
    METADATA,
    STATE,
    Marker,
    NewerCheckpointError,
    Saved,
    TrainState,
    UnusableCheckpointError,
    folder_name,
    in_rank_order,
    is_complete,
    parse,
    read_marker,
    set_aside,
    step_folders,
    step_of,
    write_durably,
)
from mos.training.checksums import Checksum

FILES = {STATE: Checksum.of(b"state"), METADATA: Checksum.of(b"metadata")}


def marker(**changes: object) -> str:
    return json.dumps(Marker(format=FORMAT, files=FILES).model_dump() | changes)


def state(**changes: object) -> str:
    counters = {"step": 6, "nonfinite_steps": 1} | changes
    return json.dumps({"state": counters, "ema_updates": 6, "provenance": {"a": [1]}})


def test_folders_come_in_order_of_their_steps_and_an_older_try_before_the_newer(tmp_path: Path) -> None:
    expected = ["step-000000009.before", "step-000000009", "step-000000010", "step-1000000000"]
    for name in (*reversed(expected), "step-000000011.partial", "step-x", "step-", "export", "a-step-000000012"):
        (tmp_path / name).mkdir()
    assert [path.name for path in step_folders(tmp_path)] == expected
    assert step_folders(tmp_path / "none") == []


@pytest.mark.parametrize("step", [0, 9, 999_999_999, 1_000_000_000])
def test_the_name_of_a_folder_tells_its_step(step: int) -> None:
    folder = Path("stage.1", folder_name(step))
    assert len(folder.name) >= len("step-000000000")
    assert step_of(folder) == step_of(set_aside(folder)) == step
    assert set_aside(folder).parent == folder.parent
    assert set_aside(folder) != folder


def test_a_folder_counts_with_its_marker_alone(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    (tmp_path / f".{MARKER}.partial").touch()
    (tmp_path / STATE).touch()
    assert not is_complete(tmp_path)
    (tmp_path / MARKER).touch()
    assert is_complete(tmp_path)


def test_shards_stand_in_order_of_their_ranks() -> None:
    names = [".metadata", "__0_0.distcp", "__0_1.distcp", "__2_0.distcp", "__10_0.distcp"]
    assert sorted([*names[3:], *names[:3]], key=in_rank_order) == names


def test_markers_of_both_formats_are_read(tmp_path: Path) -> None:
    path = tmp_path / MARKER
    path.write_text(marker())
    assert read_marker(path) == FILES
    path.write_text(json.dumps({STATE: 5, METADATA: 0}))
    assert read_marker(path) == {STATE: Checksum(size=5, sha256=None), METADATA: Checksum(size=0, sha256=None)}


@pytest.mark.parametrize("name", FILES)
def test_a_marker_has_to_name_the_files_that_every_checkpoint_has(tmp_path: Path, name: str) -> None:
    files = {other: checksum.model_dump() for other, checksum in FILES.items() if other != name}
    for text in (marker(files=files), json.dumps(dict.fromkeys(files, 5))):
        (tmp_path / MARKER).write_text(text)
        with pytest.raises(UnusableCheckpointError, match=f"^{MARKER} does not name {name}$"):
            read_marker(tmp_path / MARKER)


def test_a_marker_that_is_not_there_is_an_error_of_the_storage(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=MARKER):
        read_marker(tmp_path / MARKER)


@pytest.mark.parametrize(
    ("text", "is_newer"),
    [
        (marker(format=FORMAT + 1), True),
        (marker(format=FORMAT + 1, files=[]), True),
        (marker(more=1), True),
        (marker(more=1, format="2"), False),
        (marker(files={STATE: {"size": -1, "sha256": None}}), False),
        (json.dumps({STATE: -1, METADATA: 0}), False),
        (json.dumps({STATE: True, METADATA: 0}), False),
        ("{", False),
    ],
)
def test_what_a_newer_version_wrote_is_told_from_damage(tmp_path: Path, text: str, is_newer: bool) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(UnusableCheckpointError) as caught:
        read_marker(tmp_path / MARKER)
    assert isinstance(caught.value, NewerCheckpointError) is is_newer


def test_the_counters_of_a_stage_are_read() -> None:
    saved = parse(STATE, Saved, state().encode())
    assert (saved.state, saved.ema_updates, saved.provenance) == (TrainState(6, 1), 6, {"a": [1]})


@pytest.mark.parametrize("step", ["6", 6.5, -6, None, True])
def test_a_counter_that_is_no_count_is_named(step: object) -> None:
    with pytest.raises(UnusableCheckpointError, match=rf"^{STATE} is not what it should be \(state\.step: "):
        parse(STATE, Saved, state(step=step).encode())


def test_a_file_is_written_over_whole_and_a_full_disk_says_so(tmp_path: Path) -> None:
    for data in (b"a long one", b"short"):
        write_durably(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    with pytest.raises(OSError, match="No space left"):
        write_durably(Path("/dev/full"), b"data")
