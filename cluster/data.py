"""Rows through actors that each hold a model, as one stage of a Ray Data dataset."""

from typing import Any

from ray.data import ActorPoolStrategy, DataContext, Dataset

from cluster.resources import actor_options
from cluster.room import refuse_too_many
from mos.workers import WorkerResources


def map_on_actors(
    rows: Dataset,
    operator: type,
    arguments: tuple[Any, ...],
    worker: WorkerResources,
    bounds: tuple[int, int],
    *,
    key: str,
    batch_size: int | None = None,
) -> Dataset:
    """Arrow batches of what the actors return; nothing runs until they are iterated.

    Args:
        rows: to be handed out.
        operator: a class whose objects are called with an Arrow table.
        arguments: of its constructor.
        worker: what one actor gets.
        bounds: fewest and most actors.
        key: the setting that asks for the fewest.
        batch_size: rows of a call; None: a block of `rows`.

    Raises:
        UserError: the cluster can never hold the fewest.
    """
    options = actor_options(worker)
    refuse_too_many(key, bounds[0], options)
    DataContext.get_current().enable_progress_bars = False
    return rows.map_batches(
        operator,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=bounds[0], max_size=bounds[1]),
        fn_constructor_args=arguments,
        **options,
    )
