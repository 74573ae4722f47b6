"""States from a tower beside the trainer are those that the table of the same codec holds, images included."""

from pathlib import Path

import pytest
import torch

from mos.encoders.encoding import EncodeConfig
from mos.encoders.load import describe_tower
from mos.encoders.understanding import InternVLConfig, LlamaConfig
from mos.errors import UserError
from mos.feeding.contexts import list_contexts
from mos.feeding.recompute import RecomputedStates
from mos.images.decode import ImageLimits
from mos.states.calibration import CalibrationSample
from mos.states.payload import StateCodec
from mos.states.quantise import dequantise
from mos.tables.encode_plan import plan_contexts
from mos.tables.lance import commit_fragments, create_table, read_column
from mos.tables.payloads import RowCache, StateTable
from mos.tables.state_tables import states_schema
from mos.tables.views import View
from operators.context_encoder import ContextEncoder
from operators.encode_states import EncodeStates
from tests.samples import Pair, append_samples, views
from tests.towers import save_internvl, save_llama

PAIRS = [
    Pair("a red circle"),
    Pair("make it blue", "blue", reference="red"),
    Pair("make it red", "red", reference="green"),
    Pair("make it red", "blue", reference="green"),
]
VIEW = View(32, tasks=("generate", "edit"))


def recomputed(config: EncodeConfig, samples, codec: StateCodec, sees_images: bool, cache_bytes: int = 0):
    contexts = list_contexts(samples, VIEW, sees_images)
    tower = ContextEncoder(config, samples, ImageLimits())

    def encode(tasks, failures):
        return ((key, context.states) for key, context in tower.encode(tasks, failures))

    return contexts, RecomputedStates(contexts, encode, codec, (0, 2, 3), RowCache(cache_bytes))


@pytest.mark.parametrize("format", ["bf16", "int8"])
@pytest.mark.parametrize("tower", ["llama", "internvl"])
def test_recomputed_states_are_those_of_the_table(tmp_path: Path, tower: str, format: str) -> None:
    save, kind = (save_llama, LlamaConfig) if tower == "llama" else (save_internvl, InternVLConfig)
    config = EncodeConfig(tower=kind(path=str(save(tmp_path / tower)), dtype="float32"))
    samples, spec = append_samples(tmp_path, PAIRS), describe_tower(config.tower)
    sample = CalibrationSample()
    sample.add(torch.randn(64, 4, 32, generator=torch.Generator().manual_seed(0)).bfloat16())
    codec = StateCodec(format, (0, 1, 2, 3), 32, None if format == "bf16" else sample.learn())
    table = create_table(str(tmp_path / "states.lance"), states_schema(spec.tower_id, codec))
    tasks = plan_contexts(samples, views(32), spec.sees_images)
    (written,) = EncodeStates(config, samples, table.uri, ImageLimits())(tasks)
    (row,) = written.to_pylist()
    table = commit_fragments(table.uri, [row["fragment"]], len(row["keys"]))

    contexts, states = recomputed(config, samples, codec, spec.sees_images, cache_bytes=600)
    keys = read_column(table, "context_key")
    assert set(keys) == set(contexts["context_key"].to_pylist())
    rows = [keys.index(key) for key in contexts["context_key"].to_pylist()]
    stored = StateTable(table, RowCache(0), (0, 2, 3)).read(rows)
    for _ in range(2):
        found = states.read([*range(len(rows)), 0])
        pairs = zip(found, [*stored, stored[0]], strict=True)
        assert all(torch.equal(dequantise(one), dequantise(other)) for one, other in pairs)


def test_a_context_that_cannot_be_encoded_is_named_with_a_remedy(tmp_path: Path) -> None:
    config = EncodeConfig(tower=InternVLConfig(path=str(save_internvl(tmp_path / "tower")), dtype="float32"))
    samples = append_samples(tmp_path, [Pair("make it red", "red", reference="green")])
    contexts, states = recomputed(config, samples, StateCodec("bf16", (0, 1, 2, 3), 32), True)
    tower_failed = RecomputedStates(
        contexts,
        lambda tasks, failures: failures.update({tasks[0]["context_key"]: "torn"}) or iter(()),
        StateCodec("bf16", (0, 1, 2, 3), 32),
        (0,),
        RowCache(0),
    )
    assert len(states.read([0, 1])) == 2
    with pytest.raises(UserError, match=r"torn.*filter"):
        tower_failed.read([0])
