import hashlib
from collections.abc import Iterable
from pathlib import Path

import lance
import pyarrow.compute as pc
import pytest

from mos.errors import UserError
from mos.states.keys import context_key, latent_key
from mos.tables.encode_plan import KeySums, distinct_contexts, plan_contexts, plan_latents, planned
from mos.tables.encode_tasks import NO_IMAGE
from mos.tables.key_columns import to_hex
from mos.tables.lance import TableVersion, open_table
from mos.tables.views import View, split
from tests.mos.tables.plain_tasks import plain_contexts, plain_distinct, plain_latents
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
    samples = append_samples(tmp_path, PAIRS)
    dataset = samples.open()
    dataset.delete("key IN ('0', '2')")
    after = TableVersion(samples.uri, dataset.version, 4)
    table = after.open()
    for task in plan_latents(after, views(32), "pixel-1").to_pylist():
        data = table.take([task["row"]], columns=[task["column"]]).column(0)[0].as_py()
        assert latent_key(hashlib.sha256(data).hexdigest(), "pixel-1", task["bucket"]) == task["latent_key"]


ODD = [
    *PAIRS,
    Pair("", "red"),
    Pair("", "red", reference="green"),
    Pair("d\u00e9j\u00e0 vu \U0001f600", "yellow", buckets=("24x40", "48x48")),
    Pair('"quoted" \\', "yellow", reference="yellow", buckets=("24x40", None)),
    *(Pair(f"caption {number % 7}", ("red", "blue", "pink")[number % 3]) for number in range(25)),
]


def odd_views() -> list[View]:
    both = ("generate", "edit")
    halves = split(View(32, "length(caption) > 0", both), 0.3)
    return [*halves, View(48), View(32, "aesthetic > 3"), View(48, tasks=both), View(32, sources=("elsewhere",))]


@pytest.mark.parametrize("sees_images", [False, True])
@pytest.mark.parametrize("batch_rows", [4, 100_000])
@pytest.mark.parametrize("num", [0, 1, 5, len(ODD)])
def test_a_plan_is_what_a_walk_over_the_rows_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees_images: bool, batch_rows: int, num: int
) -> None:
    monkeypatch.setattr("mos.tables.encode_plan.BATCH_ROWS", batch_rows)
    samples, every = append_samples(tmp_path, ODD[:num]), odd_views()
    if num > 5:
        open_table(samples.uri).delete("key IN ('1', '9')")
        samples = TableVersion(samples.uri, open_table(samples.uri).version, num - 2)
    for some in (every, every[2:4], every[5:], []):
        assert plan_contexts(samples, some, sees_images).to_pylist() == plain_contexts(samples, some, sees_images)
        assert plan_latents(samples, some, "pixel-1").to_pylist() == plain_latents(samples, some, "pixel-1")
    for view in every:
        plain = plain_distinct(samples, view.predicate(), sees_images)
        assert distinct_contexts(samples, view, sees_images).to_pylist() == plain


def test_one_plan_knows_the_parts_of_each_view(tmp_path: Path) -> None:
    samples, views = append_samples(tmp_path, ODD), odd_views()
    with planned(samples, {str(n): view for n, view in enumerate(views)}, True, "pixel-1") as plan:
        sums = plan.sums([])
        totals = []
        for number, view in enumerate(views):
            contexts, latents = plain_contexts(samples, [view], True), plain_latents(samples, [view], "pixel-1")
            keys = [*(task["context_key"] for task in contexts), *(task["latent_key"] for task in latents)]
            found = plan.contexts_of([str(number)])
            assert sorted(found.table()["context_key"].to_pylist()) == sorted(task["context_key"] for task in contexts)
            assert sums.of([str(number)]) == added(keys)
            totals += keys
        assert sums.of(map(str, range(len(views)))) == added(totals)
        assert plan.sums(totals[:9]).of(map(str, range(len(views)))) == added(set(totals) - set(totals[:9]))
        assert plan.no_contexts.num_rows == 0
        assert plan.no_contexts.table().num_rows == 0


def added(keys: Iterable[str]) -> str:
    distinct = set(keys)
    return f"{len(distinct)}:{sum(int(key, 16) for key in distinct) % 2**256:064x}"


def test_a_sum_tells_sets_apart_and_not_their_order() -> None:
    rows = [(1, 2, 3, 4, 5, 6), (2, 1, 2**200, 4, 5, 7), (3, 1, 0, 0, 0, 2**64 - 1)]
    bits = {"a": 1, "b": 2}

    def of(rows: list, *names: str) -> str:
        return KeySums(lambda wanted: sum(bits[name] for name in wanted), rows).of(names)

    assert of(rows, "a", "b") == of(rows[::-1], "b", "a")
    assert of(rows, "a") == "3:" + f"{(3 << 192) + (4 << 128) + (5 << 64) + 6 + 2**64 - 1:064x}"
    assert len({of(rows, "a"), of(rows, "b"), of(rows, "a", "b"), of(rows[:1], "a")}) == 4


def test_what_a_table_holds_is_not_missing(tmp_path: Path) -> None:
    samples = append_samples(tmp_path, ODD)
    with planned(samples, {"all": View(32)}, False) as plan:
        tasks = plan.contexts.table()
        some = tasks.select(["context_key"]).filter(pc.less(tasks["context_key"], "8"))
        held = lance.write_dataset(some, str(tmp_path / "held"))
        table = TableVersion(str(tmp_path / "held"), held.version, held.count_rows())
        missing = plan.contexts.missing(table)
        keys = [key for key in tasks["context_key"].to_pylist() if key >= "8"]
        assert 0 < len(keys) < tasks.num_rows
        assert missing.table()["context_key"].to_pylist() == keys
        assert [key for batch in missing.sorted_keys() for key in to_hex(batch).to_pylist()] == sorted(keys)
        assert missing.by_key(2)["context_key"].to_pylist() == sorted(keys)[:2]
        assert plan.contexts.num_missing(table, []) == len(keys) == missing.num_rows
        assert plan.contexts.num_missing(table, keys[1:]) == 1
        assert missing.missing(table).num_rows == missing.num_rows
