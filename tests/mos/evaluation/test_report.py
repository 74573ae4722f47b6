import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mos.evaluation.report import Report, write_report
from mos.sampling.trace import RouterTrace
from tests.mos.evaluation.stories import full_report

EVERYTHING = {"pictures", "scores", "edits", "router", "layers", "losses", "rejects", "buckets"}


@pytest.fixture(scope="module")
def report() -> Report:
    return full_report()


@pytest.fixture(scope="module")
def folder(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(report, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_figure_is_also_a_picture_file(folder: Path) -> None:
    assert {path.stem for path in folder.glob("*.png")} == EVERYTHING
    for path in folder.glob("*.png"):
        assert min(Image.open(path).size) > 100


def test_the_page_needs_nothing_besides_itself(page: str) -> None:
    addresses = re.findall(r'(?:src|srcset|href)="([^"]{0,30})', page)
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "http" not in page
    assert "<script" not in page


def test_embedded_pictures_are_pictures(page: str) -> None:
    import base64

    for data in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page):
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


def test_the_page_shows_what_the_records_say(page: str, report: Report) -> None:
    assert "12 items read" in page
    assert "9 kept" in page
    assert "3 rejected" in page
    for picture in report.pictures:
        assert picture.prompt in page
    for edit in report.edits:
        assert edit.instruction in page
    assert "single object" in page
    assert "Left out" not in page


def test_text_of_the_run_is_escaped(page: str) -> None:
    assert "a &lt;tiny&gt; run" in page
    assert "<tiny>" not in page


def test_scores_and_trace_can_be_read_back(folder: Path, report: Report) -> None:
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert scores["overall"] == report.scores.overall
    assert set(scores["categories"]) == {str(category) for category in report.scores.categories}
    assert RouterTrace.load(folder / "router_trace.npz").tokens == report.router.trace.tokens


def test_what_a_run_lacks_is_left_out_visibly(report: Report, tmp_path: Path) -> None:
    bare = replace(
        report,
        pictures=[],
        scores=None,
        edits=[],
        router=None,
        losses=[],
        omissions={"scores": "they need drawn scenes"},
    )
    page = write_report(bare, tmp_path).read_text(encoding="utf-8")
    assert "Left out: they need drawn scenes." in page
    assert page.count("Left out") == 5
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "rejects.png", "buckets.png"}
