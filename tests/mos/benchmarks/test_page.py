"""The table: ours among published ones, in words, as JSON and as a page."""

import json
from pathlib import Path

from mos.benchmarks.choose import benchmark_named
from mos.benchmarks.page import compare, write_page
from mos.benchmarks.score import Score, Scores

CATEGORIES = {"single_object": Score(0.5, 0.1, 4), "spelling": Score(0.25, None, 2)}


def test_ours_stands_below_the_published_ones() -> None:
    found = compare(benchmark_named("geneval"), "<ours>", Scores(CATEGORIES, Score(0.375, 0.05, 6), "A note."))
    assert found.columns[0] == "single_object"
    assert found.columns[-2:] == ("spelling", "overall")
    assert all(len(row.cells) == len(found.columns) for row in found.rows)
    assert found.rows[-1].ours
    assert found.rows[-1].cells == ("0.50 ± 0.10", "–", "–", "–", "–", "–", "0.25", "0.38 ± 0.05")
    assert next(row for row in found.rows if row.model.startswith("MoS-L")).cells[-2:] == ("–", "0.90")
    assert found.notes[1:] == ("Other rows: MoS, Table 6.", "A note.")


def test_what_was_not_taken_alike_stands_alone() -> None:
    scores = Scores(CATEGORIES, Score(0.375, 0.05, 6), "Another judge.", comparable=False)
    found = compare(benchmark_named("geneval"), "ours", scores)
    assert [row.model for row in found.rows] == ["ours"]
    assert not any("Table" in note for note in found.notes)


def test_the_page_and_the_json_say_the_same(tmp_path: Path) -> None:
    scores = Scores(CATEGORIES, Score(0.375, 0.05, 6), details={"more": Score(1.0, None, 1)})
    page = write_page(tmp_path, compare(benchmark_named("geneval"), "<ours>", scores), scores, tmp_path / "p.png")
    text = page.read_text(encoding="utf-8")
    assert "&lt;ours&gt;" in text
    assert "0.50 ± 0.10" in text
    assert 'src="p.png"' in text
    told = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert told["scores"]["overall"] == {"value": 0.375, "margin": 0.05, "num": 6}
    assert told["details"]["more"]["value"] == 1.0
    assert told["table"]["rows"][-1]["ours"]
