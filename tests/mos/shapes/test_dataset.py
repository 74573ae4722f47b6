import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mos.shapes.checker import check
from mos.shapes.dataset import LEDGER, ShapesConfig, edit_record, pair_record, write_shards
from mos.shapes.edits import training_edit
from mos.shapes.scene import Category
from tests.mos.shapes.scenes import scene_from_dict

SMALL = ShapesConfig(num_scenes=150, num_edits=40, broken_share=0.3, samples_per_shard=64)


def read_members(folder: Path) -> dict[str, bytes]:
    members = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                members[member.name] = file.read() if file else b""
    return members


def read_picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_equal_configs_give_equal_files_whatever_was_there(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_shards(SMALL, first)
    write_shards(ShapesConfig(num_scenes=300, num_edits=3, samples_per_shard=20), second)
    write_shards(SMALL, second)
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_other_seeds_give_other_pictures() -> None:
    assert pair_record(SMALL, 0) != pair_record(SMALL.model_copy(update={"seed": 1}), 0)


def test_counts_ledger_and_shards_agree(tmp_path: Path) -> None:
    progress = []
    counts = write_shards(SMALL, tmp_path, lambda done, total: progress.append((done, total)))
    ledger = json.loads((tmp_path / LEDGER).read_text(encoding="utf-8"))
    assert (counts.pairs, counts.edits, counts.shards) == (150, 40, 4)
    assert counts.broken == Counter(ledger.values())
    assert progress == [(64, 190), (128, 190), (150, 190), (190, 190)]
    assert counts.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
    assert len(ledger) == pytest.approx(0.3 * 190, rel=0.4)
    keys = {name.partition(".")[0] for name in read_members(tmp_path)}
    assert len(keys) == 190
    assert set(ledger) <= keys


def test_an_item_does_not_depend_on_how_many_there_are() -> None:
    assert pair_record(SMALL, 7) == pair_record(ShapesConfig(num_scenes=10), 7)


def test_pictures_have_every_size_and_aspect_within_the_limits() -> None:
    sizes = [Image.open(io.BytesIO(pair_record(SMALL, index).members[0].data)).size for index in range(300)]
    assert all(48 <= side <= 160 for size in sizes for side in size)
    aspects = [width / height for width, height in sizes]
    assert min(aspects) < 0.6
    assert max(aspects) > 1.7
    assert max(aspects) <= 2.1
    assert np.mean([aspect == 1 for aspect in aspects]) == pytest.approx(0.5, abs=0.1)


def test_pairs_show_what_their_sidecar_says() -> None:
    for index in range(60):
        image, sidecar = pair_record(SMALL, index).members
        if sidecar.suffix == "json":
            described = json.loads(sidecar.data)
            assert described["caption"]
            assert check(read_picture(image.data), scene_from_dict(described["scene"])).correct


def test_triples_are_two_pictures_of_one_size_and_an_instruction() -> None:
    for index in range(10):
        source, target, sidecar = edit_record(SMALL, index).members
        assert source.suffix.startswith("source.")
        assert target.suffix.startswith("target.")
        assert read_picture(source.data).shape == read_picture(target.data).shape
        assert json.loads(sidecar.data)["instruction"] == training_edit(SMALL.seed, index).instruction


def test_weights_choose_categories() -> None:
    config = ShapesConfig(weights={Category.COUNTING: 1.0})
    sidecars = [pair_record(config, index).members[1] for index in range(20)]
    scenes = [json.loads(sidecar.data)["scene"] for sidecar in sidecars if sidecar.suffix == "json"]
    assert {scene["category"] for scene in scenes} == {"counting"}


@pytest.mark.parametrize(
    "fields",
    [{"max_px": 80}, {"weights": {}}, {"weights": {"colors": -1}}, {"weights": {"animals": 1}}, {"num_scene": 5}],
)
def test_impossible_configs_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        ShapesConfig(**fields)
