"""Whether tables, model and stage fit each other: asked before anything is spent, answered in one sentence."""

from mos.errors import UserError
from mos.loader.batch import num_micro_batches
from mos.loader.index import SampleIndex
from mos.model.mos import ModelConfig
from mos.tables.payloads import LatentTable, StateTable


def check_tables(states: StateTable, latents: LatentTable, model: ModelConfig, tower_id: str, codec_id: str) -> None:
    """Raise `UserError` where a table is of another tower, codec or width, or lacks a layer that the model routes."""
    for table, has, needed in ((states, states.tower, tower_id), (latents, latents.codec, codec_id)):
        if has != needed:
            raise UserError(
                f"table {table.table.uri} was made by {has!r}, this run uses {needed!r}: run pipelines/encode.py"
            )
    last = states.codec.layers[-1] if model.routed_layers is None else model.state_layers
    pairs = (
        ("model.state_layers", model.state_layers, "number of layers", last, states.table.uri),
        ("model.state_dim", model.state_dim, "width", states.dim, states.table.uri),
        ("model.latent_channels", model.latent_channels, "number of channels", latents.channels, latents.table.uri),
    )
    for key, value, meaning, held, uri in pairs:
        if value != held:
            raise UserError(f"{key} = {value}, but the {meaning} of table {uri} is {held}: set {key} = {held}")
    lacking = sorted(set(model.hidden_states) - set(states.codec.layers))
    if lacking:
        raise UserError(
            f"table {states.table.uri} lacks layers {lacking} that the model reads: add them to encode.layers and "
            f"encode again, or set model.routed_layers = {[layer for layer in states.codec.layers if layer]}"
        )


def check_view(index: SampleIndex, *, batch_size: int, token_px: int, sources: dict[str, float]) -> None:
    """Raise `UserError` where a view cannot be cut into batches of tokens.

    Args:
        index: the view.
        batch_size: samples of a global batch.
        token_px: side of a token in pixels: stride of the codec times patch of the model.
        sources: mixing ratios by source name.
    """
    for source in sources:
        if source not in index.sources:
            raise UserError(f"sources names {source!r}, but the view's samples come from {list(index.sources)}")
    if len(index) < batch_size:
        raise UserError(
            f"the view has {len(index)} samples, fewer than one batch of {batch_size}: loosen the filter or lower "
            "batch_size"
        )
    for group in index.groups:
        height, width = (int(side) for side in group.rpartition(" ")[2].split("x"))
        if height % token_px or width % token_px:
            raise UserError(
                f"bucket {height}x{width} is not a multiple of {token_px} px, the codec's stride times model.patch: "
                f"set curate.token_px = {token_px}"
            )


def repeating_buckets(index: SampleIndex, batch_size: int) -> dict[str, int]:
    """Samples of each bucket that has fewer than a batch, so that its batches hold some of them several times."""
    return {group: count for group, count in index.counts("group").items() if count < batch_size}


def check_share(*, batch_size: int, micro_batch_size: int | None, num_workers: int) -> None:
    """Raise `UserError` unless every rank has a sample for each micro batch, of which all ranks have as many."""
    if batch_size < num_workers:
        raise UserError(f"batch_size = {batch_size} has no sample for each of the {num_workers} training workers")
    share, parts = batch_size // num_workers, num_micro_batches(batch_size, num_workers, micro_batch_size)
    if micro_batch_size is not None and share < parts:
        raise UserError(
            f"micro_batch_size = {micro_batch_size} makes {parts} micro batches of the largest share of batch_size = "
            f"{batch_size}, and one of the {num_workers} training workers has {share} samples: set it to "
            f"{micro_batch_size + 1}, or batch_size to a multiple of the workers"
        )
