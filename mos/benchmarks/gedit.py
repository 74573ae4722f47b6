"""GEdit-Bench (Liu et al. 2025): real users' edits of eleven kinds, judged for what they show and how well they look.

Formats of github.com/stepfun-ai/Step1X-Edit at 570eba6, in `GEdit-Bench`: `generate_image_example.py` tells the fields
of the data set stepfun-ai/GEdit-Bench and writes `<model>/fullset/<task>/<language>/<key>.png` and `<key>_SRCIMG.png`,
the picture that was edited; `test_gedit_score.py` reads both and writes a CSV for each task, with scores of 0 to 10;
`calculate_statistics.py` averages within tasks, then the tasks, where overall is sqrt(semantics x quality).
"""

import io
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mos.benchmarks import published
from mos.benchmarks.benchmark import Benchmark, Place
from mos.benchmarks.entries import Entry, read_entries, refuse_twice
from mos.benchmarks.item import IMAGES, Item
from mos.benchmarks.score import Score, Scores, mean, weighted
from mos.errors import UserError
from mos.files import written_whole

TASKS = (
    "background_change", "color_alter", "material_alter", "motion_change", "ps_human", "style_change", "subject-add",
    "subject-remove", "subject-replace", "text_change", "tone_transfer",
)  # fmt: skip
JUDGES = ("gpt4o", "qwen25vl")
"""As the scorer calls them: GPT-4.1 by OpenAI, or Qwen2.5-VL-72B; published figures are of the first."""
SOURCES = "sources"
"""Folder of the pictures as they are given to the model."""
WORDS = ("task_type", "key", "instruction", "instruction_language")
FILE_FORMAT = b"ARROW1"
"""How Arrow's file format begins; data sets are saved in its stream format."""


class GEdit(Benchmark):
    """606 edits, in English and in Chinese."""

    title: ClassVar = "GEdit-Bench"
    repository: ClassVar = "https://github.com/stepfun-ai/Step1X-Edit"
    commit: ClassVar = "570eba6ebda0c45c013983a483afbf2fd12bfcbc"
    prompts: ClassVar = "the data set stepfun-ai/GEdit-Bench"
    images_per_prompt: ClassVar = 1
    most_images: ClassVar = 1
    edits: ClassVar = True
    table: ClassVar = published.GEDIT

    def items(self, place: Place) -> Sequence[Item]:
        """The edits in one language."""
        entries = [entry for entry, _ in _rows(place, WORDS)]
        refuse_twice(((_name(entry), entry.where) for entry in entries), "the picture")
        if not entries:
            raise UserError(f"{place.prompts} has no instructions in language {place.language!r}: it is en or cn")
        return [_item(entry, place) for entry in entries]

    def prepare(self, place: Place, items: Sequence[Item]) -> None:
        """The pictures to edit out of the data set, for the model and for the scorer."""
        wanted = {item.pictures[0] for item in items if not _prepared(item, place)}
        if not wanted:
            return
        for entry, pictures in _rows(place, (*WORDS, "input_image", "input_image_raw")):
            own = f"{_images(place)}/{_name(entry)}.png"
            if own in wanted:
                _save(place.folder / SOURCES / f"{_name(entry)}.png", pictures["input_image_raw"], entry)
                _save(place.folder / f"{_images(place)}/{_name(entry)}_SRCIMG.png", pictures["input_image"], entry)

    def commands(self, place: Place) -> list[str]:
        """The judge; its key is the first line of a file beside it."""
        return [
            f"cd GEdit-Bench && python test_gedit_score.py --model_name {shlex.quote(place.model)} "
            f"--save_path {shlex.quote(str(place.images))} --backbone {JUDGES[0]}    # the key of the judge "
            f"(${place.judge.key_variable}) is the first line of secret_t2.env; its load_dataset needs split='train'"
        ]

    def scores(self, place: Place) -> Scores | None:
        """Means of 0 to 10 over the tasks: semantics, quality, and overall; of each task its overall score."""
        judged = [(judge, tables) for judge in JUDGES if (tables := _tables(place, judge))]
        if not judged:
            return None
        judge, tables = judged[0]
        tasks: dict[str, dict[str, Score]] = defaultdict(dict)
        for task, path in tables.items():
            rows = [row for row in read_entries(path) if row.fields.get("instruction_language") == place.language]
            pairs = [(row.number("sementics_score"), row.number("quality_score")) for row in rows]
            if pairs:
                semantics, quality = zip(*pairs, strict=True)
                tasks["semantics"][task], tasks["quality"][task] = mean(semantics), mean(quality)
                tasks["overall"][task] = mean([sqrt(one * other) for one, other in pairs])
        if not tasks:
            raise UserError(f"{next(iter(tables.values())).parent} has no scores of language {place.language!r}")
        found = {name: weighted(list(scores.values())) for name, scores in tasks.items()}
        comparable = judge == JUDGES[0] and place.language == "en"
        notes = [
            "" if comparable else f"Published figures are by {JUDGES[0]} on en, these by {judge} on {place.language}.",
            "" if len(tasks["overall"]) == len(TASKS) else f"Of {len(tasks['overall'])} of {len(TASKS)} tasks alone.",
        ]
        overall = found.pop("overall")
        return Scores(found, overall, " ".join(filter(None, notes)), comparable, details=tasks["overall"])


def _item(entry: Entry, place: Place) -> Item:
    name = _name(entry)
    source = place.folder / SOURCES / f"{name}.png"
    extra = (f"{_images(place)}/{name}_SRCIMG.png",)
    return Item(
        entry.where, entry.text("instruction"), (f"{_images(place)}/{name}.png",), source=source, prepared=extra
    )


def _prepared(item: Item, place: Place) -> bool:
    return item.source is not None and item.source.is_file() and (place.folder / item.prepared[0]).is_file()


def _images(place: Place) -> str:
    return f"{IMAGES}/{place.model}/fullset"


def _name(entry: Entry) -> str:
    task = entry.file_name("task_type")
    if task not in TASKS:
        raise UserError(
            f"{entry.where}: 'task_type' = {task!r} is none of those that the scorer reads: {', '.join(TASKS)}"
        )
    return f"{task}/{entry.file_name('instruction_language')}/{entry.file_name('key')}"


def _rows(place: Place, columns: Sequence[str]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Rows in the language that is asked for, with what else is in the columns."""
    if not place.prompts.is_dir():
        raise UserError(f"{place.prompts} is no folder: name that of the data set stepfun-ai/GEdit-Bench")
    paths = sorted(path for ending in ("arrow", "parquet") for path in place.prompts.rglob(f"*.{ending}"))
    if not paths:
        raise UserError(f"{place.prompts} holds no .arrow or .parquet files: name the folder of the data set")
    for path in paths:
        number = 0
        for batch in _batches(path, columns):
            for row in batch.to_pylist():
                number += 1
                entry = Entry(f"{path}, row {number}", {name: row[name] for name in WORDS})
                if entry.text("instruction_language") == place.language:
                    yield entry, row


def _batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        if path.suffix == ".parquet":
            yield from pq.ParquetFile(path).iter_batches(batch_size=16, columns=list(columns))
            return
        with pa.memory_map(str(path)) as file:
            if file.read(len(FILE_FORMAT)) == FILE_FORMAT:
                reader = pa.ipc.open_file(file)
                batches: Iterator[pa.RecordBatch] = map(reader.get_batch, range(reader.num_record_batches))
            else:
                file.seek(0)
                batches = iter(pa.ipc.open_stream(file))
            for batch in batches:
                yield from (batch.select(list(columns)).slice(start, 16) for start in range(0, len(batch), 16))
    except (pa.ArrowException, KeyError) as error:
        raise UserError(f"{path} is not of GEdit-Bench, whose columns are {', '.join(columns)}: {error}") from error


def _save(path: Path, encoded: dict[str, Any], entry: Entry) -> None:
    """A picture of the data set as a PNG, unless it is there."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Image.open(io.BytesIO(encoded["bytes"])) as image, written_whole(path) as partial:
            image.convert("RGB").save(partial, format="PNG")
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{entry.where}: its picture cannot be read: {error}") from error


def _tables(place: Place, judge: str) -> dict[str, Path]:
    folder = place.images / place.model / judge / "eval_results_new"
    paths = {task: folder / f"{place.model}_{task}_gpt_score.csv" for task in TASKS}
    return {task: path for task, path in paths.items() if path.is_file() and path.read_text("utf-8").count("\n") > 1}
