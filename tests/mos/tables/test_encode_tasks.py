import hashlib
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.states.keys import context_key, latent_key
from mos.tables.encode_tasks import NO_IMAGE, keep_missing, num_pieces, plan_contexts, plan_latents
from mos.tables.views import View
from tests.samples import Pair, append_samples, picture, views

PAIRS = [
    Pair("a red circle", "red"),
    Pair("a red circle", "blue"),
    Pair("too small for anything", "green", buckets=(None, None)),
    Pair("a long caption about a red circle", "red", buckets=("32x32", None)),
    Pair("make it red", "red", reference="blue"),
    Pair("make it red", "red", reference="pink"),
]


def digest(colour: str) -> str:
    return hashlib.sha256(picture(colour)).hexdigest()


def test_what_no_view_reads_is_not_planned(tmp_path: Path) -> None:
    samples = append_samples(tmp_path, PAIRS)
    short = View(32, filter="length(caption) < 20")
    everything = plan_contexts(samples, views(32), False).num_rows, plan_latents(samples, views(32), "pixel-1").num_rows
    few = plan_contexts(samples, [short], False), plan_latents(samples, [short], "pixel-1")
    assert few[0].num_rows < everything[0]
    assert few[1].num_rows < everything[1]
    assert all(len(text) < 20 for text in few[0].column("text").to_pylist())
    kept = samples.open().to_table(columns=["image"], filter=short.predicate(), with_row_address=True)["_rowaddr"]
    assert {*few[1].column("row").to_pylist()} <= {address & 0xFFFFFFFF for address in kept.to_pylist()}
    both = plan_contexts(samples, [short, *views(32)], False)
    assert both.equals(plan_contexts(samples, views(32), False))
    assert plan_contexts(samples, [], False).column("text").to_pylist() == [""]
    with pytest.raises(UserError, match="filter 'nonsense >' is refused"):
        plan_contexts(samples, [View(32, filter="nonsense >")], False)


def test_equal_captions_are_one_context_and_the_longest_comes_first(tmp_path: Path) -> None:
    tasks = plan_contexts(append_samples(tmp_path, PAIRS), views(32, 48), sees_images=False).to_pylist()
    assert [task["text"] for task in tasks] == ["a long caption about a red circle", "a red circle", "make it red", ""]
    assert all(task["row"] == NO_IMAGE for task in tasks)
    assert [task["context_key"] for task in tasks] == [context_key(task["text"]) for task in tasks]


def test_a_tower_that_sees_images_gets_a_context_and_a_null_context_per_reference(tmp_path: Path) -> None:
    tasks = plan_contexts(append_samples(tmp_path, PAIRS), views(32), sees_images=True).to_pylist()
    shown = {(task["text"], task["row"]): task["context_key"] for task in tasks if task["row"] != NO_IMAGE}
    assert shown == {
        ("make it red", 4): context_key("make it red", digest("blue")),
        ("", 4): context_key("", digest("blue")),
        ("make it red", 5): context_key("make it red", digest("pink")),
        ("", 5): context_key("", digest("pink")),
    }
    assert context_key("") in {task["context_key"] for task in tasks}


def test_every_image_and_reference_once_per_bucket(tmp_path: Path) -> None:
    tasks = plan_latents(append_samples(tmp_path, PAIRS), views(32, 48), "pixel-1").to_pylist()
    expected = {latent_key(digest(c), "pixel-1", b) for c in ("red", "blue", "pink") for b in ("32x32", "48x48")}
    assert len(tasks) == 6
    assert {task["latent_key"] for task in tasks} == expected
    assert [task["bucket"] for task in tasks] == ["32x32"] * 3 + ["48x48"] * 3


def test_other_resolutions_are_left_out(tmp_path: Path) -> None:
    samples = append_samples(tmp_path, PAIRS)
    assert plan_latents(samples, views(48), "pixel-1").num_rows == 3
    texts = plan_contexts(samples, views(48), False).column("text").to_pylist()
    assert "a long caption about a red circle" not in texts


def test_row_numbers_hold_after_rows_were_deleted(tmp_path: Path) -> None:
    from mos.tables.lance import TableVersion

    samples = append_samples(tmp_path, PAIRS)
    dataset = samples.open()
    dataset.delete("key IN ('0', '2')")
    after = TableVersion(samples.uri, dataset.version, 4)
    table = after.open()
    for task in plan_latents(after, views(32), "pixel-1").to_pylist():
        data = table.take([task["row"]], columns=[task["column"]]).column(0)[0].as_py()
        assert latent_key(hashlib.sha256(data).hexdigest(), "pixel-1", task["bucket"]) == task["latent_key"]


def test_missing_tasks_and_pieces(tmp_path: Path) -> None:
    tasks = plan_contexts(append_samples(tmp_path, PAIRS), views(32), sees_images=False)
    keys = tasks.column("context_key").to_pylist()
    assert keep_missing(tasks, keys[:-1]).column("context_key").to_pylist() == keys[-1:]
    assert keep_missing(tasks, keys).num_rows == 0
    assert [num_pieces(rows, 100, 2) for rows in (1, 2, 100, 101, 201, 1000)] == [1, 2, 2, 2, 3, 10]
