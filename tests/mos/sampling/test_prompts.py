from collections import Counter
from pathlib import Path

import pytest

from mos.errors import UserError
from mos.sampling.prompts import read_prompts

GENEVAL = Path(__file__).parents[4] / "shared" / "benchmarks" / "geneval" / "evaluation_metadata.jsonl"


def test_a_text_file_has_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\n a red circle \n\nüber # die Brücke\n", encoding="utf-8")
    assert read_prompts(path) == ["a red circle", "über # die Brücke"]


def test_json_lines_hold_a_prompt_each(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a bench", "tag": "single_object"}\n\n{"prompt": "two cows"}\n', encoding="utf-8")
    assert read_prompts(path) == ["a bench", "two cows"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"# nothing\n", "holds no prompts"),
        ("latin.txt", "für".encode("latin-1"), "not UTF-8"),
        ("broken.jsonl", b"{", "not JSON"),
        ("other.jsonl", b'{"caption": "a bench"}', "without a text `prompt`"),
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
