import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mos.errors import UserError
from mos.sampling.prompts import PromptRow, read_prompts, read_rows

GENEVAL = Path(__file__).parents[4] / "shared" / "benchmarks" / "geneval" / "evaluation_metadata.jsonl"


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\n a red circle \n\nüber # die Brücke\n", encoding="utf-8")
    assert read_prompts(path) == ["a red circle", "über # die Brücke"]


def test_json_lines_hold_a_prompt_each(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a bench", "tag": "single_object"}\n\n{"prompt": "two cows"}\n', encoding="utf-8")
    assert read_prompts(path) == ["a bench", "two cows"]


ROWS = [
    PromptRow("a bench", seed=5, height=48, guidance=2.5),
    PromptRow('two "cows", one\nof them red', negative_prompt="grass", width=96),
    PromptRow("a ring", seed=2**64 - 1, guidance=0.0),
]


def test_rows_say_the_same_in_every_format(tmp_path: Path) -> None:
    trees = [{name: value for name, value in vars(row).items() if value is not None} for row in ROWS]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({**tree, "tag": [1]}) for tree in trees))
    with (tmp_path / "a.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["tag", *vars(ROWS[0])])
        writer.writeheader()
        writer.writerows(trees)
    seeds = pa.array([row.seed for row in ROWS], pa.uint64())
    columns = {name: [vars(row)[name] for row in ROWS] for name in vars(ROWS[0]) if name != "seed"}
    pyarrow.parquet.write_table(pa.table({**columns, "seed": seeds, "tag": [[1]] * 3}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        assert read_rows(tmp_path / name) == ROWS


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"seed": "x"}, "row 2: seed = 'x' is refused"),
        ({"seed": 1.5}, "row 2: seed = 1.5 is refused"),
        ({"height": 0}, "row 2: height = 0 is refused"),
        ({"guidance": 0.5}, "row 2: guidance_scale = 0.5 is refused: a scale between 0 and 1"),
        ({"negative_prompt": 3}, "row 2: negative_prompt = 3 is not a text"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(tmp_path: Path, tree: dict, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a", **one}) for one in ({}, tree)))
    with pytest.raises(UserError, match=message):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"# nothing\n", "holds no prompts"),
        ("latin.txt", "für".encode("latin-1"), "not UTF-8"),
        ("broken.jsonl", b"{", "not JSON"),
        ("other.jsonl", b'{"caption": "a bench"}', "without a text `prompt`"),
        ("damaged.parquet", b"PAR1", "cannot be read"),
        ("without.csv", b"caption\na bench\n", "row 1 is without a text `prompt`"),
        ("list.jsonl", b"[1]", "without a text `prompt`"),
    ],
)
def test_files_without_prompts_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_prompts(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_prompts(tmp_path / "none.txt")


@pytest.mark.skipif(not GENEVAL.is_file(), reason=f"{GENEVAL} is not there")
def test_the_official_geneval_prompts_are_read() -> None:
    prompts = read_prompts(GENEVAL)
    assert len(prompts) == 553
    assert Counter(prompts).most_common(1)[0][1] == 1
    assert prompts[0] == "a photo of a bench"
