from pathlib import Path

import pyarrow as pa
import pytest

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_codec
from mos.tables.encode_plan import plan_latents
from mos.tables.lance import commit_fragments
from mos.tables.task_table import task_table
from operators.encode_latents import EncodeLatents
from operators.encode_pieces import EncodePieces
from tests.operators.encoding_blocks import LIMITS, commit, latents_table
from tests.samples import Pair, append_samples, views


@pytest.mark.parametrize("pieces", [[(0, 6)], [(0, 1), (1, 6)], [(3, 6), (0, 3)]])
def test_pieces_of_a_table_of_tasks_are_encoded_as_the_tasks_themselves(tmp_path: Path, pieces: list) -> None:

    config = EncodeConfig()
    samples = append_samples(tmp_path, [Pair(colour, colour) for colour in ("red", "green", "blue")])
    tasks = plan_latents(samples, views(32, 48), describe_codec(config.vae).codec_id)
    one, other = (latents_table(config, tmp_path / name) for name in ("one", "other"))
    whole, _ = commit(one, EncodeLatents(config, samples, one, LIMITS)(tasks))
    with task_table(str(tmp_path), tasks.schema, iter(tasks.to_batches(2))) as table:
        operator = EncodePieces(table, EncodeLatents, config, samples, other, LIMITS)
        starts, stops = zip(*pieces, strict=True)
        written = [row for part in operator(pa.table({"start": starts, "stop": stops})) for row in part.to_pylist()]
    assert [len(row["keys"]) for row in written] == [stop - start for start, stop in pieces]
    table = commit_fragments(other, [row["fragment"] for row in written], 6).open()
    rows = table.scanner(blob_handling="all_binary").to_table().to_pylist()
    assert {row["latent_key"]: row for row in rows} == whole
