"""What is missing is drawn by a pool, what stands stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mos.benchmarks.item import Grid, Item
from mos.errors import UserError
from mos.sampling.config import SamplerConfig
from pipelines.draw.files import (
    ROWS,
    FileRequest,
    Pool,
    draw_missing,
    missing_files,
    requests_of,
    write_missing_grids,
    write_texts,
)
from pipelines.run.config import RunConfig
from tests.mos.sampling.tiny_export import save_export

ITEMS = [
    Item(
        f"f:{number}", prompt, (f"{number}/0.png", f"{number}/1.png"), Grid(f"{number}.png", 2), {f"{number}.txt": "é"}
    )
    for number, prompt in enumerate(("a ring", "a star"))
]


def pool(config: RunConfig, export: Path) -> Pool:
    workers = config.cluster.generate
    return Pool(str(export), "0123", SamplerConfig(steps=1), workers, 3, False, config.curate.image)


def test_seeds_follow_the_items_whatever_is_there(tmp_path: Path) -> None:
    assert [request.seed for request in requests_of(ITEMS, tmp_path, 5, None)] == [5, 6, 7, 8]
    (tmp_path / "0").mkdir()
    (tmp_path / "0/1.png").touch()
    left = requests_of(ITEMS, tmp_path, 5, 24)
    assert [(request.seed, request.side) for request in left] == [(5, 24), (7, 24), (8, 24)]
    assert requests_of(ITEMS[:1], tmp_path, 5, None)[0].seed == 5
    assert set(left[0].row()) == set(ROWS.names)


def test_texts_are_written_where_they_differ(tmp_path: Path) -> None:
    write_texts(ITEMS, tmp_path)
    first = (tmp_path / "0.txt").stat().st_mtime_ns
    (tmp_path / "1.txt").write_text("other")
    write_texts(ITEMS, tmp_path)
    assert (tmp_path / "0.txt").stat().st_mtime_ns == first
    assert (tmp_path / "1.txt").read_text(encoding="utf-8") == "é"


@pytest.mark.slow
def test_missing_pictures_are_drawn_and_put_into_grids(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_run("cluster.generate={num=1, cpus=1}")
    folder, who = tmp_path / "out", pool(config, save_export(tmp_path / "export"))
    draw_missing(requests_of(ITEMS, folder, 0, None), who, "benchmark")
    assert "benchmark: 4/4 pictures\n" in capsys.readouterr().out
    kept = (folder / "0/0.png").stat().st_mtime_ns
    drawn = (folder / "1/1.png").read_bytes()
    (folder / "1/1.png").unlink()
    draw_missing(requests_of(ITEMS, folder, 0, None), who, "benchmark")
    assert (folder / "0/0.png").stat().st_mtime_ns == kept
    assert Image.open(folder / "1/1.png").size == (16, 16)
    assert (folder / "1/1.png").read_bytes() == drawn
    write_texts(ITEMS, folder)
    write_missing_grids(ITEMS, folder)
    assert missing_files(ITEMS, folder) == []
    with Image.open(folder / "1.png") as grid, Image.open(folder / "1/1.png") as single:
        assert grid.size == (32, 16)
        assert grid.crop((16, 0, 32, 16)).tobytes() == single.tobytes()


@pytest.mark.slow
def test_what_cannot_be_drawn_is_told_when_the_rest_is(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = small_run("cluster.generate={num=1, cpus=1}")
    who = pool(config, save_export(tmp_path / "export"))
    gone = [str(tmp_path / f"gone{number}.png") for number in range(2)]
    requests = [FileRequest(str(tmp_path / f"{n}.png"), "a ring", n, source, None) for n, source in enumerate(gone)]
    fine = FileRequest(str(tmp_path / "fine.png"), "a ring", 2, None, None)
    with pytest.raises(UserError, match=r"0\.png: picture to edit .*gone0.* cannot be read.*; 1 more pictures"):
        draw_missing([*requests, fine], who, "benchmark")
    assert (tmp_path / "fine.png").is_file()


def test_nothing_to_draw_asks_for_nobody(
    small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_missing([], pool(small_run(), tmp_path), "benchmark")
    write_missing_grids([], tmp_path)
    assert capsys.readouterr().out == ""
