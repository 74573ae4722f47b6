"""GEdit-Bench: its data set in both of Arrow's formats and in Parquet, its sources, its tables."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mos.benchmarks.benchmark import Place
from mos.benchmarks.gedit import TASKS, GEdit
from mos.errors import UserError
from tests.mos.benchmarks.places import place_of


def encoded(colour: str) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, format="JPEG", quality=100)
    return {"bytes": buffer.getvalue(), "path": None}


def row(key: str, **changes: object) -> dict[str, object]:
    told = {"task_type": "style_change", "key": key, "instruction": f"edit {key}", "instruction_language": "en"}
    return told | {"input_image": encoded("red"), "input_image_raw": encoded("blue")} | changes


def dataset(folder: Path, rows: list[dict[str, object]], form: str = "stream") -> Path:
    path, table = folder / "dataset", pa.Table.from_pylist(rows)
    path.mkdir()
    match form:
        case "parquet":
            pq.write_table(table, path / "train.parquet")
        case "stream":
            with pa.OSFile(str(path / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        case "file":
            with pa.OSFile(str(path / "data.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
    return path


@pytest.mark.parametrize("form", ["stream", "file", "parquet"])
def test_pictures_by_task_language_and_key(tmp_path: Path, form: str) -> None:
    rows = [row(f"k{number}") for number in range(20)] + [row("k1", instruction_language="cn")]
    place = place_of(tmp_path, dataset(tmp_path, rows, form))
    items = GEdit().items(place)
    assert [item.prompt for item in items] == [f"edit k{number}" for number in range(20)]
    assert items[1].pictures == ("images/ours/fullset/style_change/en/k1.png",)
    assert items[1].where.endswith("row 2")
    GEdit().prepare(place, items[:3])
    given, shown = place.folder / "sources/style_change/en", place.images / "ours/fullset/style_change/en"
    assert sorted(path.name for path in given.iterdir()) == ["k0.png", "k1.png", "k2.png"]
    assert items[1].source == given / "k1.png"
    assert Image.open(given / "k1.png").getpixel((0, 0))[2] > 200
    assert Image.open(shown / "k1_SRCIMG.png").getpixel((0, 0))[0] > 200
    before = (given / "k1.png").stat().st_mtime_ns
    GEdit().prepare(place, items[:3])
    assert (given / "k1.png").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row("a"), row("a")], r"row 2: the picture 'style_change/en/a' stands in .*row 1 already"),
        ([row("a", task_type="cats")], r"row 1: 'task_type' = 'cats' is none of those"),
        ([row("a/b")], r"row 1: 'key' = 'a/b' becomes the name of a file"),
        ([row("a", instruction_language="cn")], r"no instructions in language 'en'"),
        ([{"task_type": "style_change"}], r"is not of GEdit-Bench, whose columns are"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, rows: list[dict[str, object]], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        GEdit().items(place_of(tmp_path, dataset(tmp_path, rows)))


def test_a_folder_without_the_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.arrow or \.parquet files"):
        GEdit().items(place_of(tmp_path, tmp_path))
    with pytest.raises(UserError, match="is no folder"):
        GEdit().items(place_of(tmp_path, tmp_path / "gone"))


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    place = place_of(tmp_path, dataset(tmp_path, [row("a", input_image={"bytes": b"no", "path": None})]))
    with pytest.raises(UserError, match="row 1: its picture cannot be read"):
        GEdit().prepare(place, GEdit().items(place))


def table(place: Place, task: str, judge: str, *marks: tuple[str, float, float]) -> None:
    folder = place.images / "ours" / judge / "eval_results_new"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{language},{semantics},{quality}" for language, semantics, quality in marks]
    text = "\n".join(["instruction_language,sementics_score,quality_score", *lines, ""])
    (folder / f"ours_{task}_gpt_score.csv").write_text(text)


def test_scores_are_means_of_tasks(tmp_path: Path) -> None:
    place = place_of(tmp_path, dataset(tmp_path, [row("a")]))
    assert GEdit().scores(place) is None
    table(place, TASKS[0], "gpt4o", ("en", 4, 9), ("en", 0, 5), ("cn", 10, 10))
    table(place, TASKS[1], "gpt4o", ("en", 9, 9))
    table(place, TASKS[2], "gpt4o")
    scores = GEdit().scores(place)
    assert scores is not None
    assert {name: score.value for name, score in scores.categories.items()} == {"semantics": 5.5, "quality": 8.0}
    assert scores.overall.value == pytest.approx((3.0 + 9.0) / 2)
    assert {name: score.num for name, score in scores.details.items()} == {TASKS[0]: 2, TASKS[1]: 1}
    assert "Of 2 of 11 tasks alone." in scores.note
    assert scores.comparable


def test_another_judge_is_not_compared(tmp_path: Path) -> None:
    place = place_of(tmp_path, dataset(tmp_path, [row("a")]))
    table(place, TASKS[0], "qwen25vl", ("en", 4, 9))
    scores = GEdit().scores(place)
    assert scores is not None
    assert not scores.comparable
    table(place, TASKS[0], "qwen25vl", ("cn", 4, 9))
    with pytest.raises(UserError, match="has no scores of language 'en'"):
        GEdit().scores(place)
