"""A run's config and what stands in its tables in; what the cost model is asked about each stage out.

`recommend_sources(config)` is what `auto` in a stage's config comes to.
"""

import math
from dataclasses import dataclass, replace

from mos.checkout import CLONE
from mos.encoders.prompts import Prompter, load_tokenizer
from mos.encoders.understanding import MiniLMConfig, MiniLMKeysValuesConfig, TowerConfig, checkpoint_of
from mos.errors import UserError
from mos.feeding.config import AutoStates, StatesConfig, StreamStates
from mos.planning.flops import generation_flops, tower_flops, tower_parameters, training_flops
from mos.planning.machine import MachineConfig
from mos.planning.recommend import Limits, Recommendation, recommend
from mos.planning.sizes import StatesShape, mean_at_rest
from mos.planning.sources import StageLoad
from mos.planning.tokens import TokenHistogram
from mos.planning.units import bytes_text
from mos.states.packed import FormatName
from mos.tables.encode_plan import distinct_contexts
from mos.tables.lance import latest_version, open_table, table_exists
from mos.tables.schema import TASK_EDIT, TASK_GENERATE
from mos.tables.views import count_view
from mos.workers import PoolBounds
from pipelines.run.config import RunConfig
from pipelines.run.states_table import current_states_uri
from pipelines.run.views import view_before_losses

FORMATS: tuple[FormatName, ...] = ("bf16", "int8", "int4")
COUNTED_CAPTIONS = 2_000
"""Captions that are tokenised for a view's histogram at most, spread evenly over it."""
COUNTED_CONTEXTS = 2_000_000
"""Views up to this many samples have their distinct contexts counted; in larger ones every sample counts as one."""


@dataclass(frozen=True)
class Contexts:
    """Contexts of a stage's view: how many, and how long."""

    samples: int
    distinct: int
    """Contexts to encode, null contexts with images included."""
    present: int
    """Of them, in the states table."""
    tokens: TokenHistogram
    counted: str
    """Where samples and tokens come from, for the reader."""


@dataclass(frozen=True)
class StageFigures:
    """One stage: what it reads and what the cost model needs of it."""

    contexts: Contexts
    raw_bytes: float
    """States of a context as plain bf16, mean."""
    bytes_at_rest: dict[FormatName, float]
    """Of a context in each format, mean."""
    load: StageLoad

    def bytes_per_s(self, format: FormatName, machine: MachineConfig) -> float:
        """States that one worker reads while it computes at full speed, bytes/s."""
        samples_per_s = machine.train_tflops * 1e12 / self.load.train_flops
        return samples_per_s * self.load.reads_per_draw * self.bytes_at_rest[format]


def recommend_sources(config: RunConfig) -> dict[str, Recommendation]:
    """The source of states of every stage; those that name their own keep it.

    Raises:
        UserError: the sources that are named do not keep to the byte budget, a stage has no figures, or the lead of a
            stream that `auto` comes to is too small.
    """
    loads = [settled(config, stage_figures(config, name).load) for name in config.stages()]
    try:
        items = recommend(loads, config.plan.machine_for(config.cluster.train.gpus), limits_of(config))
    except ValueError as error:
        raise UserError(f"plan.max_table_gb = {config.plan.max_table_gb:g} is too little: {error}") from error
    for item, load in zip(items, loads, strict=True):
        asked = isinstance(config.stage(item.stage).states, AutoStates)
        short = short_lead(config, item.stage, load) if asked and item.source == "stream" else None
        if short is not None:
            raise UserError(short)
    return {item.stage: item for item in items}


def settled(config: RunConfig, load: StageLoad) -> StageLoad:
    """The load with no other source than the one its stage names."""
    match config.stage(load.name).states:
        case AutoStates():
            return load
        case named:
            return replace(load, allowed=(named.type,))


def limits_of(config: RunConfig) -> Limits:
    """The byte budget of a run."""
    bound = config.plan.max_table_gb
    return Limits(None if bound is None else bound * 1e9)


def tower_params(config: RunConfig) -> float:
    """Parameters of the tower's blocks: as configured, or by formula."""
    return config.plan.tower_params or tower_parameters(config.model.state_layers, config.model.state_dim)


def sees_images(tower: TowerConfig) -> bool:
    """True if the tower reads the image to edit; known without its weights."""
    return tower.type in ("internvl", "perceptionlm")


def stage_figures(config: RunConfig, name: str) -> StageFigures:
    """Everything about one stage.

    Raises:
        UserError: there is neither a samples table nor a figure for the stage.
    """
    stage, model = config.stage(name), config.model
    contexts = contexts_of(config, name)
    tokens = contexts.tokens
    shape = StatesShape(len(config.encode.held_layers(model.state_layers)), model.state_dim)
    at_rest = {format: mean_at_rest(format, tokens, shape) for format in FORMATS}
    image = (stage.resolution // config.curate.token_px) ** 2
    edits = TASK_EDIT in stage.tasks
    # A stage that mixes both tasks is counted as if all its samples were edits.
    forward = generation_flops(model, image, tokens.mean, image if edits else 0)
    tower = config.encode.tower
    padded = tokens.padded_to(tower.pass_step)
    null_has_image = edits and sees_images(tower)
    reads_per_draw = 1.0 if null_has_image else 1.0 - stage.caption_dropout
    batch = max(1, round(reads_per_draw * stage.batch_size / config.cluster.train.num))
    stream = streaming(stage.states, config.encode.actors.max)
    load = StageLoad(
        name=name,
        contexts=contexts.distinct,
        draws=stage.steps * stage.batch_size,
        state_bytes=at_rest[config.encode.state_format],
        tower_flops=tower_flops(tower_params(config), padded.mean),
        train_flops=training_flops(forward, stage.activation_checkpointing),
        workers=config.cluster.train.num,
        encoders=config.encode.actors.max,
        producers=stream.producers.max,
        lead_bytes=stream.lead_mb * 1e6,
        reads_per_draw=reads_per_draw,
        padding=padded.tokens_in_passes(batch, tower.pass_rows) / (batch * padded.mean),
        # Instructions that are read without their image are texts like any other.
        kind=TASK_EDIT if edits and (null_has_image or stage.tasks == (TASK_EDIT,)) else TASK_GENERATE,
        present=contexts.present,
    )
    return StageFigures(contexts, shape.raw(tokens.mean), at_rest, load)


def worker_share(config: RunConfig, name: str) -> int:
    """Samples of a step that one worker trains on, at most."""
    return -(-config.stage(name).batch_size // config.cluster.train.num)


def latents_shape(config: RunConfig, name: str, samples: int) -> tuple[int, int, int, int]:
    """Of the latents [samples, channels, h, w] of a stage's square pictures."""
    model = config.model
    side = config.stage(name).resolution // config.curate.token_px * model.patch
    return samples, model.latent_channels, side, side


def short_lead(config: RunConfig, name: str, load: StageLoad) -> str | None:
    """A sentence where a stream's lead does not hold one window of states: the stage could not begin."""
    stage = config.stage(name)
    stream = streaming(stage.states, config.encode.actors.max)
    draws = min(stream.window_steps, stage.steps) * stage.batch_size * load.reads_per_draw
    window = min(draws, load.contexts) * load.state_bytes
    if window <= stream.lead_mb * 1e6:
        return None
    key = f"{name}.states.stream" if isinstance(stage.states, AutoStates) else f"{name}.states"
    return (
        f"{name}: a stream's window of {stream.window_steps} steps is {bytes_text(window)} of states, more than its "
        f"lead of {bytes_text(stream.lead_mb * 1e6)}: set {key}.lead_mb = {math.ceil(2 * window / 1e6)}, which holds "
        f"two of them, or lower {key}.window_steps"
    )


def streaming(states: StatesConfig, encoders: int) -> StreamStates:
    """Streaming settings of a stage: its own, or else as many producers as encode has actors."""
    match states:
        case StreamStates():
            return states
        case AutoStates():
            return states.stream
        case _:
            return StreamStates(producers=PoolBounds(max=encoders))


def contexts_of(config: RunConfig, name: str) -> Contexts:
    """The contexts of a stage's view: counted where the tables stand, as configured where they do not."""
    if table_exists(config.samples_uri()):
        return _counted(config, name)
    samples = config.plan.samples.get(name)
    edits = TASK_EDIT in config.stage(name).tasks
    source = "plan.samples"
    if samples is None and config.shapes is not None:
        samples, source = (config.shapes.num_edits if edits else config.shapes.num_scenes), "shapes"
    if samples is None:
        raise UserError(f"nothing says how many samples {name} has: curate first, or set plan.samples.{name}=<number>")
    doubled = edits and sees_images(config.encode.tower)
    return Contexts(samples, samples * (2 if doubled else 1), 0, _configured_tokens(config, edits), source)


def _configured_tokens(config: RunConfig, edits: bool) -> TokenHistogram:
    """Lengths as the [plan] section has them."""
    if not edits:
        return TokenHistogram.of(config.plan.tokens)
    tokens = TokenHistogram.of(config.plan.edit_tokens)
    return tokens.longer_by(config.plan.image_tokens) if sees_images(config.encode.tower) else tokens


def _counted(config: RunConfig, name: str) -> Contexts:
    """Samples, distinct contexts and tokens of the view as the samples table has it."""
    stage, tower = config.stage(name), config.encode.anchored(CLONE).tower
    samples = open_table(config.samples_uri())
    view = view_before_losses(config, name)
    rows = count_view(samples, view).rows
    if rows == 0:
        raise UserError(f"the view of {name} holds no sample: loosen {view.predicate()!r}")
    edits = TASK_EDIT in stage.tasks
    tokens, counted = _configured_tokens(config, edits), "samples table, plan.tokens"
    if _has_weights(tower):
        captions = samples.to_table(columns=["caption"], filter=view.predicate(), limit=COUNTED_CONTEXTS)
        stride = -(-len(captions) // COUNTED_CAPTIONS)
        tokens = count_tokens(tower, captions.column("caption").to_pylist()[::stride])
        if edits and sees_images(tower):
            tokens = tokens.longer_by(config.plan.image_tokens)
        counted = "samples table"
    if rows > COUNTED_CONTEXTS:
        return Contexts(rows, rows, 0, tokens, counted)
    pinned = latest_version(config.samples_uri())
    keys = set(distinct_contexts(pinned, view, sees_images(tower))["context_key"].to_pylist())
    present = len(keys & _encoded_keys(config)) if _has_weights(tower) else 0
    return Contexts(rows, len(keys), present, tokens, counted)


def count_tokens(tower: TowerConfig, captions: list[str]) -> TokenHistogram:
    """Tokens of captions in the tower's own template, images apart."""
    template = "{text}" if isinstance(tower, MiniLMConfig | MiniLMKeysValuesConfig) else tower.template
    prompter = Prompter(load_tokenizer(checkpoint_of(tower)), template, tower.max_tokens)
    token_ids = prompter.token_ids([prompter.render(caption) for caption in captions])
    return TokenHistogram.of((len(ids), 1) for ids in token_ids)


def _has_weights(tower: TowerConfig) -> bool:
    """True if the tower's checkpoint stands where the config says: a plan is made without it, too."""
    try:
        checkpoint_of(tower)
    except UserError:
        return False
    return True


def _encoded_keys(config: RunConfig) -> set[str]:
    uri = current_states_uri(config)
    if uri is None or not table_exists(uri):
        return set()
    return set(open_table(uri).to_table(columns=["context_key"]).column("context_key").to_pylist())
