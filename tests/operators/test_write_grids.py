from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from operators.write_grids import write_grids


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("b/c.webp", "WEBP")])
def test_a_grid_shows_its_pictures_as_they_are(tmp_path: Path, name: str, form: str) -> None:
    colours, paths = ((255, 0, 0), (1, 254, 3), (0, 0, 255)), []
    for number, colour in enumerate(colours):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (4, 6), colour).save(paths[-1])
    told = write_grids(pa.Table.from_pylist([{"path": str(tmp_path / name), "pictures": paths, "columns": 2}]))
    assert told.to_pylist() == [{"path": str(tmp_path / name)}]
    with Image.open(tmp_path / name) as grid:
        assert (grid.format, grid.size) == (form, (8, 12))
        cells = [grid.convert("RGB").getpixel(place) for place in ((1, 1), (6, 4), (3, 7), (7, 11))]
    assert cells == [*colours, (0, 0, 0)]
