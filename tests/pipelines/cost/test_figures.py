"""What the cost model is asked about a stage: figures of the config without tables, counted ones where they stand."""

from dataclasses import replace
from pathlib import Path

import pytest

from mos.encoders.understanding import LlamaConfig
from mos.errors import UserError
from mos.planning.sources import SOURCES
from mos.planning.tokens import TokenHistogram
from mos.tables.schema import TASK_EDIT, TASK_GENERATE
from pipelines.cost import figures
from pipelines.cost.figures import (
    contexts_of,
    count_tokens,
    limits_of,
    recommend_sources,
    settled,
    stage_figures,
    streaming,
    tower_params,
)
from tests.pipelines.cost.counted_run import counted_run, write_states
from tests.towers import save_llama

ONE_WORKER = ("cluster.train={num=1, cpus=1}", "encode.actors={max=3}", "encode.state_format=bf16")
INTERNVL = "encode.tower={type='internvl', path='/nowhere', dtype='float32'}"


def test_a_stage_is_figured_from_its_config(small_run):
    stage = stage_figures(small_run(*ONE_WORKER, "plan.tokens=[[10, 1.0]]"), "stage1")
    assert (stage.contexts.samples, stage.contexts.distinct, stage.contexts.present) == (4800, 4800, 0)
    assert stage.contexts.counted == "plan.samples"
    assert stage.raw_bytes == 2 * 10 * 7 * 384
    assert stage.raw_bytes > stage.bytes_at_rest["bf16"] > stage.bytes_at_rest["int8"] > stage.bytes_at_rest["int4"]
    load = stage.load
    assert (load.draws, load.contexts, load.kind) == (1000 * 32, 4800, TASK_GENERATE)
    assert (load.workers, load.encoders, load.producers, load.lead_bytes) == (1, 3, 3, 4096e6)
    assert load.state_bytes == stage.bytes_at_rest["bf16"]
    assert load.tower_flops == 2 * (12 * 6 * 384**2) * 16  # ten tokens are padded to sixteen
    assert load.reads_per_draw == pytest.approx(0.9)
    assert load.padding == pytest.approx(32 / 29)  # 0.9 of 32 contexts of one length, in two passes of 16


def test_activation_checkpointing_costs_a_forward_and_a_worker_takes_its_share(small_run):
    plain, recomputing, halved = (
        stage_figures(small_run(*ONE_WORKER, *more), "stage1").load
        for more in ((), ("stage1.activation_checkpointing=true",), ("cluster.train={num=2, cpus=1}",))
    )
    assert recomputing.train_flops == pytest.approx(plain.train_flops * 4 / 3)
    assert (halved.workers, halved.train_flops, halved.draws) == (2, plain.train_flops, plain.draws)
    assert halved.padding > plain.padding


@pytest.mark.parametrize(
    ("overrides", "kind", "reads", "distinct", "tokens"),
    [
        ((), TASK_GENERATE, 0.9, 5400, 8),
        (("edit.tasks=['edit']",), TASK_EDIT, 0.9, 5400, 8),
        ((INTERNVL,), TASK_EDIT, 1.0, 2 * 5400, 8 + 256),
        ((INTERNVL, "plan.image_tokens=4"), TASK_EDIT, 1.0, 2 * 5400, 8 + 4),
    ],
)
def test_a_tower_that_sees_images_reads_every_context_of_an_edit(small_run, overrides, kind, reads, distinct, tokens):
    stage = stage_figures(small_run(*ONE_WORKER, "plan.edit_tokens=[[8, 1.0]]", *overrides), "edit")
    assert (stage.load.kind, stage.contexts.distinct) == (kind, distinct)
    assert stage.load.reads_per_draw == pytest.approx(reads)
    assert stage.contexts.tokens == TokenHistogram((tokens,), (1.0,))


def test_a_worker_reads_as_many_bytes_as_it_trains_on(small_run):
    stage = stage_figures(small_run(*ONE_WORKER), "stage1")
    load = replace(stage.load, train_flops=1e12, reads_per_draw=0.5)
    stage = replace(stage, load=load, bytes_at_rest={"bf16": 100.0, "int8": 60.0, "int4": 30.0})
    machine = small_run().plan.machine_for(0).model_copy(update={"train_tflops": 2.0})
    assert stage.bytes_per_s("bf16", machine) == 100
    assert stage.bytes_per_s("int4", machine) == 30


def test_samples_nobody_counted_are_those_that_will_be_drawn(small_run):
    config = small_run("plan.samples={stage2 = 7}")
    assert [contexts_of(config, name).samples for name in ("stage1", "stage2", "edit")] == [5000, 7, 600]
    assert contexts_of(config, "stage1").counted == "shapes"
    undrawn = config.model_copy(update={"shapes": None})
    with pytest.raises(UserError, match=r"how many samples stage1 has: curate first, or set plan.samples.stage1="):
        contexts_of(undrawn, "stage1")


def test_the_tower_and_the_budget_are_as_configured_or_by_formula(small_run):
    assert tower_params(small_run()) == 12 * 6 * 384**2
    assert tower_params(small_run("plan.tower_params=7e9")) == 7e9
    assert limits_of(small_run()).table_bytes is None
    assert limits_of(small_run("plan.max_table_gb=2.5")).table_bytes == 2.5e9
    assert limits_of(small_run("plan.max_table_gb=0")).table_bytes == 0


def test_a_stream_is_as_its_stage_says_or_as_wide_as_encoding(small_run):
    config = small_run("stage1.states={type='stream', lead_mb=5}", "stage2.states={type='auto', stream={lead_mb=6}}")
    assert [streaming(config.stage(name).states, 7).lead_mb for name in ("stage1", "stage2")] == [5, 6]
    assert streaming(config.stage("stage1").states, 7).producers == config.stage("stage1").states.producers
    assert streaming(config.stage("stage3").states, 7).producers.max == 7


def test_what_stands_in_the_tables_is_counted(small_run, monkeypatch: pytest.MonkeyPatch):
    config = counted_run(small_run)
    pairs, edits = contexts_of(config, "stage1"), contexts_of(config, "edit")
    assert (pairs.samples, pairs.distinct, pairs.present) == (40, 31, 0)  # 30 captions and the empty one
    assert (edits.samples, edits.distinct) == (10, 11)
    assert pairs.counted == "samples table"
    assert 4 <= pairs.tokens.mean <= 6  # [CLS] caption <number> [SEP]
    assert stage_figures(config, "edit").load.kind == TASK_EDIT
    write_states(config, [f"caption {number}" for number in range(12)] + ["of another run"])
    assert contexts_of(config, "stage1").present == 12
    monkeypatch.setattr(figures, "COUNTED_CONTEXTS", 39)
    many = contexts_of(config, "stage1")
    assert (many.samples, many.distinct, many.present) == (40, 40, 0)


def test_without_the_towers_weights_rows_are_counted_and_tokens_assumed(small_run):
    config = counted_run(small_run, INTERNVL, "plan.edit_tokens=[[8, 1.0]]")
    edits = contexts_of(config, "edit")
    assert (edits.samples, edits.distinct, edits.present) == (10, 20, 0)  # each with a null context of its own image
    assert edits.counted == "samples table, plan.tokens"
    assert edits.tokens.mean == 8 + 256


def test_a_view_without_samples_is_named(small_run):
    config = counted_run(small_run, 'stage1.filter="sharpness > 9"')
    with pytest.raises(UserError, match=r"the view of stage1 holds no sample: loosen .*sharpness > 9"):
        contexts_of(config, "stage1")


def test_tokens_are_counted_as_the_tower_reads_them(tmp_path: Path):
    tower = LlamaConfig(path=str(save_llama(tmp_path)), template="a photo of {text}", max_tokens=3, dtype="float32")
    counted = count_tokens(tower, ["red", "two red circle", "a red circle left of a green square", ""])
    # <s> and three words of the template before one, three, three (the text is cut) and no words.
    assert counted == TokenHistogram((4, 5, 7), (0.25, 0.25, 0.5))


def test_auto_chooses_and_named_sources_stay(small_run):
    auto = tuple(f"stage{i}.states.type=auto" for i in (1, 2, 3, 4))
    config = small_run(*auto, "edit.states.type=stream")
    load = stage_figures(config, "stage1").load
    assert settled(config, load).allowed == SOURCES
    assert settled(config, replace(load, name="edit")).allowed == ("stream",)
    items = recommend_sources(config)
    assert items["edit"].source == "stream"
    assert items["stage1"].source == "cache"
    starved = small_run(*auto, "edit.states.type=recompute", "plan.max_table_gb=0")
    assert {item.source for item in recommend_sources(starved).values()} == {"recompute"}
    with pytest.raises(UserError, match=r"max_table_gb = 0 is too little"):
        recommend_sources(small_run("plan.max_table_gb=0"))
