import hashlib
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from mos.errors import UserError
from mos.tables.views import View, count_view, split


@pytest.fixture
def samples(tmp_path):
    rows = {
        "task": ["generate", "generate", "edit", "generate"],
        "source": ["a", "b", "a", "a"],
        "width": [64, 64, 64, 16],
        "aesthetic": [5.0, 6.5, None, 7.0],
        "bucket_32": ["32x32", "32x32", "40x24", None],
    }
    return lance.write_dataset(pa.table(rows), str(tmp_path / "samples.lance"))


@pytest.mark.parametrize(
    ("view", "rows"),
    [
        (View(32), 2),
        (View(32, tasks=("generate", "edit")), 3),
        (View(32, filter="aesthetic > 6"), 1),
        (View(32, filter="aesthetic > 6 OR width = 64", tasks=("edit",)), 1),
        (View(32, sources=("b", "it's")), 1),
    ],
)
def test_views_count_their_rows(samples, view, rows):
    counts = count_view(samples, view)
    assert counts.rows == rows == sum(counts.buckets.values()) == sum(counts.sources.values())


@pytest.mark.parametrize(
    ("view", "said"),
    [(View(64), "64"), (View(32, filter="beauty > 3"), "beauty"), (View(32, filter="width >"), "width")],
)
def test_impossible_views_are_refused(samples, view, said):
    with pytest.raises(UserError, match=said):
        count_view(samples, view)


@pytest.mark.parametrize("filter", ["", "words > 1 OR words = 0"])
def test_every_sample_is_on_one_side_and_the_share_is_about_what_was_asked_for(tmp_path: Path, filter: str):
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
    table = pa.table({"sample_id": ids, "words": [number % 3 for number in range(2000)]})
    dataset = lance.write_dataset(table, str(tmp_path / "t.lance"))
    training, held_out = split(View(16, filter), 0.1)
    sides = [set(dataset.to_table(filter=side.filter)["sample_id"].to_pylist()) for side in (training, held_out)]
    everything = set(dataset.to_table(filter=filter or None)["sample_id"].to_pylist())
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == everything
    assert len(sides[1]) == pytest.approx(0.1 * len(everything), rel=0.2)
