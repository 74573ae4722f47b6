"""Which contexts a stage will ask for, and when: a pure function of its segments and its caption dropout.

Trainer and producers compute it each on their own, so no word about it passes between them.
"""

import numpy as np
from numpy.typing import NDArray

from mos.loader.builder import choose_contexts
from mos.loader.plan import OneEpoch
from mos.loader.randomness import SampleKey
from mos.loader.segments import Segments


class Demand:
    """The contexts of a stage's steps, by their numbers in its list of contexts, window by window.

    Args:
        segments: of the stage; `state` and `null_state` of their indices are context numbers.
        seed: of the stage's draws.
        caption_dropout: share of samples that read their null context.
        steps: updates of the stage.
        window_steps: updates of a window; the last one may be shorter.
    """

    def __init__(
        self,
        segments: Segments,
        seed: int,
        caption_dropout: float,
        *,
        steps: int,
        window_steps: int,
    ) -> None:
        self.num_windows = -(-steps // window_steps)
        self._segments = segments
        self._seed = seed
        self._caption_dropout = caption_dropout
        self._steps = steps
        self._window_steps = window_steps
        self._epoch = OneEpoch()

    def window_of(self, step: int) -> int:
        """The window of a step."""
        return step // self._window_steps

    def steps_of(self, window: int) -> range:
        """The steps of a window."""
        return range(window * self._window_steps, min(self._steps, (window + 1) * self._window_steps))

    def window(self, window: int) -> list[int]:
        """Distinct contexts of a window, in the order in which they are first asked for."""
        asked = np.concatenate([self.step(step) for step in self.steps_of(window)])
        return list(dict.fromkeys(asked.tolist()))

    def step(self, step: int) -> NDArray[np.int64]:
        """Contexts of one global batch [batch_size]."""
        index, plan = self._segments.load(self._segments.at(step))
        epoch, position = plan.locate(step)
        first = position * plan.batch_size
        keys = [SampleKey(self._seed, epoch, first + column) for column in range(plan.batch_size)]
        return choose_contexts(index, self._epoch.of(plan, epoch).batch(position), keys, self._caption_dropout)
