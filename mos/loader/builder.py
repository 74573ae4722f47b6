"""Plan and tables in, complete batches out: one rank's share of every step, from any step on."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mos.loader.batch import Batch
from mos.loader.index import NO_ROW, SampleIndex
from mos.loader.plan import BatchPlan, OneEpoch
from mos.loader.prefetch import prefetch
from mos.loader.randomness import ExplorationRule, SampleKey, draw_noise, draw_uniform, drops_caption
from mos.model.context import Context
from mos.model.routing import Exploration
from mos.states.packed import PackedStates, concatenate
from mos.tables.payloads import LatentTable


@dataclass(frozen=True)
class DrawRule:
    """Settings of the random part of a sample."""

    seed: int
    """In [0, 2^64)."""
    timesteps: Callable[[Tensor], Tensor]
    """Uniform draws to timesteps, see mos.flow.timestep."""
    caption_dropout: float
    exploration: ExplorationRule | None
    """None for models whose fusion has no router."""


@dataclass(frozen=True)
class Share:
    """Rank and number of ranks; shares of a batch differ by a sample at most."""

    rank: int
    world_size: int

    def columns(self, batch_size: int) -> range:
        """This rank's columns of every global batch."""
        return range(self.rank * batch_size // self.world_size, (self.rank + 1) * batch_size // self.world_size)


class StatesSource(Protocol):
    """Source of hidden states: a table (`StateTable`), a stream of them, or the tower itself."""

    def read(self, rows: Iterable[int]) -> list[PackedStates]:
        """Each context's states, by what `SampleIndex.state` holds, in the order given; not to be written to."""
        ...


@dataclass(frozen=True)
class _Read:
    """Rows of a batch's samples, one entry each."""

    contexts: list[int]
    states: list[PackedStates]
    latents: list[Tensor]
    references: list[Tensor]
    """Empty where the samples have none."""

    def blank(self, position: int) -> None:
        """Zeros in place of one sample's data, which others may hold, too."""
        self.states[position] = self.states[position].zeros()
        for latents in (self.latents, self.references):
            if latents:
                latents[position] = torch.zeros_like(latents[position])


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
        leave_out: Callable[[int, str], None] | None = None,
    ) -> None:
        """`leave_out` is told which sample of the index is left out of a batch, and why; if None, none may be."""
        self.plan = plan
        self._index = index
        self._states = states
        self._latents = latents
        self._rule = rule
        self._share = share
        self._leave_out = leave_out
        self._epoch = OneEpoch()

    def stream(self, first: int, last: int, depth: int) -> Generator[Batch, None, None]:
        """Batches of steps first..last - 1, counted from the start of training, read `depth` ahead."""
        return prefetch(self.build, range(first, last), depth)

    def rows(self, step: int) -> NDArray[np.integer]:
        """Samples of the index in this rank's share of one step."""
        epoch, position = self.plan.locate(step)
        columns = self._share.columns(self.plan.batch_size)
        return self._epoch.of(self.plan, epoch).batch(position)[columns.start : columns.stop]

    def build(self, step: int) -> Batch:
        """The batch of one step, counted from the start of training."""
        epoch, position = self.plan.locate(step)
        columns, rows = self._share.columns(self.plan.batch_size), self.rows(step)
        keys = [SampleKey(self._rule.seed, epoch, position * self.plan.batch_size + column) for column in columns]
        read = self._read(rows, keys)
        weight = self._weigh(rows, read)
        latents, context = torch.stack(read.latents), Context.of(concatenate(read.states))
        uniform = torch.tensor([draw_uniform(key) for key in keys])
        return Batch(
            epoch=epoch,
            step=position,
            latents=latents,
            noise=torch.stack([draw_noise(key, tuple(latents.shape[1:])) for key in keys]),
            timesteps=self._rule.timesteps(uniform),
            context=context,
            reference=torch.stack(read.references) if read.references else None,
            exploration=self._exploration(keys, context),
            weight=weight,
        )

    def _read(self, rows: np.ndarray, keys: list[SampleKey]) -> "_Read":
        """Rows of the samples; of a sample whose caption is dropped, the null context's states."""
        contexts = choose_contexts(self._index, rows, keys, self._rule.caption_dropout)
        references = self._index.reference[rows]
        return _Read(
            contexts.tolist(),
            self._states.read(contexts.tolist()),
            self._latents.read(self._index.latent[rows].tolist()),
            [] if (references == NO_ROW).all() else self._latents.read(references.tolist()),
        )

    def _weigh(self, rows: np.ndarray, read: "_Read") -> Tensor | None:
        """0 for each sample with a value that is not finite, which gets zeros instead; None where there is none."""
        weight = None
        for position, sample in enumerate(rows.tolist()):
            reason = self._fault(sample, position, read)
            if reason is not None:
                if self._leave_out is None:
                    raise ValueError(f"sample {sample} of the index cannot be trained on: {reason}")
                self._leave_out(sample, reason)
                weight = torch.ones(len(rows)) if weight is None else weight
                weight[position] = 0
                read.blank(position)
        return weight

    def _fault(self, sample: int, position: int, read: "_Read") -> str | None:
        """Part of a sample that is not finite, or None."""
        table = self._latents.table.uri
        if not read.latents[position].isfinite().all():
            return f"its latent, row {self._index.latent[sample]} of {table}, is not finite"
        if read.references and not read.references[position].isfinite().all():
            return f"the latent of its reference, row {self._index.reference[sample]} of {table}, is not finite"
        if not read.states[position].is_finite():
            return f"the hidden states of its context, number {read.contexts[position]}, are not finite"
        return None

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
