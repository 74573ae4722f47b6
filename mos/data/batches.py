"""Plan and tables in, complete batches out: one rank's share of every step, from any step on."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mos.data.batch import Batch
from mos.data.index import NO_ROW, SampleIndex
from mos.data.payloads import LatentTable
from mos.data.plan import BatchPlan
from mos.data.prefetch import prefetch
from mos.data.randomness import ExplorationRule, SampleKey, draw_noise, draw_uniform, drops_caption
from mos.model.context import Context
from mos.model.routing import Exploration
from mos.states.packed import PackedStates, concatenate


@dataclass(frozen=True)
class DrawRule:
    """How the random part of a sample is made."""

    seed: int
    """In [0, 2^64)."""
    timesteps: Callable[[Tensor], Tensor]
    """Uniform draws to timesteps, see mos.flow.timestep."""
    caption_dropout: float
    exploration: ExplorationRule | None
    """None for models whose fusion has no router."""


@dataclass(frozen=True)
class Share:
    """Which rank of how many; the number of ranks divides the global batch."""

    rank: int
    world_size: int

    def columns(self, batch_size: int) -> range:
        """This rank's places in every global batch."""
        size = batch_size // self.world_size
        return range(self.rank * size, (self.rank + 1) * size)


class StatesSource(Protocol):
    """Where hidden states come from: a table (`StateTable`), a stream of them, or the tower itself."""

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        """Each context's states, by what `SampleIndex.state` holds, in the order given; not to be written to."""
        ...


def choose_contexts(
    index: SampleIndex, rows: NDArray[np.integer], keys: Sequence[SampleKey], caption_dropout: float
) -> NDArray[np.int64]:
    """The context of each sample, or its null context where the caption is dropped, as `SampleIndex.state` numbers it.

    Args:
        index: the view.
        rows: samples of the index.
        keys: who draws, for each of them.
        caption_dropout: share of captions dropped.
    """
    dropped = np.array([drops_caption(key, caption_dropout) for key in keys], dtype=bool)
    return np.where(dropped, index.null_state[rows], index.state[rows])


class BatchBuilder:
    """Builds any step's batch for one rank."""

    def __init__(
        self,
        plan: BatchPlan,
        index: SampleIndex,
        states: StatesSource,
        latents: LatentTable,
        rule: DrawRule,
        share: Share,
    ) -> None:
        self.plan = plan
        self._index = index
        self._states = states
        self._latents = latents
        self._rule = rule
        self._share = share
        self._epoch = lru_cache(maxsize=1)(plan.epoch)

    def stream(self, first: int, last: int, depth: int) -> Generator[Batch, None, None]:
        """Batches of steps first..last - 1, counted from the start of training, read `depth` ahead."""
        return prefetch(self.build, range(first, last), depth)

    def build(self, step: int) -> Batch:
        """The batch of one step, counted from the start of training."""
        epoch, place = self.plan.locate(step)
        columns = self._share.columns(self.plan.batch_size)
        rows = self._epoch(epoch).rows[place, columns.start : columns.stop]
        keys = [SampleKey(self._rule.seed, epoch, place * self.plan.batch_size + column) for column in columns]
        latents = torch.stack(self._latents.read(self._index.latent[rows].tolist()))
        context = self._context(rows, keys)
        uniform = torch.tensor([draw_uniform(key) for key in keys])
        return Batch(
            epoch=epoch,
            step=place,
            latents=latents,
            noise=torch.stack([draw_noise(key, tuple(latents.shape[1:])) for key in keys]),
            timesteps=self._rule.timesteps(uniform),
            context=context,
            reference=self._reference(rows),
            exploration=self._exploration(keys, context),
        )

    def _context(self, rows: np.ndarray, keys: list[SampleKey]) -> Context:
        """Hidden states, those of the null context where the caption is dropped."""
        chosen = choose_contexts(self._index, rows, keys, self._rule.caption_dropout)
        return Context.of(concatenate(self._states.read(chosen.tolist())))

    def _reference(self, rows: np.ndarray) -> Tensor | None:
        references = self._index.reference[rows]
        if (references == NO_ROW).all():
            return None
        return torch.stack(self._latents.read(references.tolist()))

    def _exploration(self, keys: list[SampleKey], context: Context) -> Exploration | None:
        """Draws of every sample over its own tokens; padding explores nothing."""
        rule = self._rule.exploration
        if rule is None or rule.epsilon == 0:
            return None
        draws = [rule.draw(key, int(num)) for key, num in zip(keys, context.layout.offsets.diff(), strict=True)]
        pad = torch.nn.utils.rnn.pad_sequence
        return Exploration(
            pad([take for take, _ in draws], batch_first=True), pad([layers for _, layers in draws], batch_first=True)
        )
