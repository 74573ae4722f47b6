"""Files by the pool's operator: whole, with their recipes, or a sentence why not."""

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mos.fingerprint import file_digest
from mos.images.decode import ImageLimits
from mos.sampling.config import SamplerConfig
from mos.sampling.pictures import from_png
from mos.sampling.recipe import read_recipe
from operators.draw_files import DrawFiles
from operators.generate_images import GenerateImages
from tests.mos.sampling.tiny_export import save_export

SAMPLER = SamplerConfig(steps=2)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_export(tmp_path_factory.mktemp("exports") / "model"))


def row(path: Path, **changes: object) -> dict[str, object]:
    told = {"model": "m", "prompt": "a ring", "negative_prompt": "", "seed": 3, "height": None, "width": None}
    return {"path": str(path), "source": None, **told, **changes}


def drawn(rows: list[dict[str, object]], export: str) -> list[dict[str, object]]:
    schema = pa.schema([*((name, pa.string()) for name in ("path", "source", "model", "prompt", "negative_prompt")),
                        ("seed", pa.uint64()), ("height", pa.int64()), ("width", pa.int64())])  # fmt: skip
    operator = DrawFiles({"m": export}, {"m": "0123"}, SAMPLER, "cpu", False, ImageLimits())
    return operator(pa.Table.from_pylist(rows, schema=schema)).to_pylist()


def test_a_file_is_what_the_pool_draws_with_its_recipe(export: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.png"
    (told,) = drawn([row(path)], export)
    assert told == {"path": str(path), "notices": [], "problem": None}
    whole = GenerateImages({"m": export}, SAMPLER, "cpu")(pa.Table.from_pylist([row(path)]))
    assert Image.open(path).tobytes() == from_png(whole["image"][0].as_py()).tobytes()
    recipe = read_recipe(path)
    assert (recipe.prompt, recipe.seed, recipe.height, recipe.width, recipe.model) == ("a ring", 3, 16, 16, "0123")
    assert [found.name for found in path.parent.iterdir()] == ["a.png"]


def test_an_edit_has_the_bucket_of_its_source_and_names_it(export: str, tmp_path: Path) -> None:
    source, path = tmp_path / "wide.png", tmp_path / "out.png"
    Image.new("RGB", (90, 30), "red").save(source)
    drawn([row(path, source=str(source))], export)
    assert Image.open(path).size == (20, 12)
    assert read_recipe(path).source == file_digest(source)


def test_rows_that_cannot_be_drawn_say_why_and_the_others_are(export: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    rows = [row(paths[0], source=str(tmp_path / "gone.png")), row(paths[1]), row(paths[2], height=17, width=17)]
    told = drawn(rows, export)
    assert "gone.png cannot be read: No such file" in str(told[0]["problem"])
    assert told[1]["problem"] is None
    assert "height = 17 is not a multiple" in str(told[2]["problem"])
    assert [path.exists() for path in paths] == [False, True, False]
