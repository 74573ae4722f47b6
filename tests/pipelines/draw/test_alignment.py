"""CLIP scores of files that are there, measured once."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mos.benchmarks.item import Item
from mos.errors import UserError
from pipelines.draw.alignment import measure_alignment
from pipelines.run.config import RunConfig
from tests.mos.benchmarks.places import place_of
from tests.operators.tiny_clip import save_tiny_clip

ITEMS = [Item(f"f:{number}", "a thing", (f"{number}/0.png", f"{number}/1.png")) for number in range(2)]


@pytest.mark.slow
def test_scores_are_means_of_prompts_and_measured_once(
    local_ray: None, small_run: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, place = save_tiny_clip(tmp_path / "clip"), place_of(tmp_path, tmp_path)
    place.results.mkdir(parents=True)
    for item in ITEMS:
        for number, path in enumerate(item.pictures):
            (place.folder / path).parent.mkdir(exist_ok=True)
            Image.new("RGB", (16, 16), ("red", "blue")[number]).save(place.folder / path)
    config = small_run("cluster.generate={num=1, cpus=1}", "benchmarks.batch_size=3")
    first = measure_alignment(ITEMS[:1], place, clip, config)
    both = measure_alignment(ITEMS, place, clip, config)
    (kept,) = place.results.glob("clip-*.jsonl")
    told = {row["path"]: row["score"] for row in map(json.loads, kept.read_text().splitlines())}
    assert sorted(told) == ["0/0.png", "0/1.png", "1/0.png", "1/1.png"]
    assert both.value == pytest.approx(first.value) == pytest.approx(100 * np.mean(list(told.values())))
    assert (first.num, both.num, first.margin) == (1, 2, None)
    said = capsys.readouterr().out
    assert said.count("CLIP scores of 2 pictures are measured") == 2
    measure_alignment(ITEMS, place, clip, config)
    assert capsys.readouterr().out == ""


def test_a_folder_without_weights_is_named(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"clip = .* holds no \.safetensors"):
        measure_alignment(ITEMS, place_of(tmp_path, tmp_path), str(tmp_path), small_run())
