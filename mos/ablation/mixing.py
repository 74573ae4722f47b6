"""Config of `pipelines/mix.py`: a grid of mixing ratios, small trainings that try them, and what counts as good."""

import itertools
from typing import ClassVar, Self

from pydantic import Field, model_validator

from mos.ablation.config import CasesConfig, StageToTrain
from mos.config import StrictConfig
from mos.sampling.config import SamplerConfig

Mix = dict[str, float]
"""Source -> mixing ratio, of any scale."""


class MixCases(CasesConfig):
    """The trainings of a search, one variant for each mix."""

    section: ClassVar[str] = "mix"

    def key_of(self, variant: str) -> str:
        """Where a variant's overrides stand in the config: all have those of the proxy."""
        return f"mix.proxy, at {variant}"


class MixConfig(StrictConfig):
    """Search for the mixing ratios of a stage's sources (paper, Appendix A: data reweighting by grid search)."""

    stage: StageToTrain = "stage1"
    """Stage whose ratios are searched; it starts from new or given weights, or has no stage before it."""
    sources: dict[str, tuple[float, ...]] = Field(min_length=2)
    """Source -> the ratios that are tried, of any scale. All combinations are, those of the same shares once. The
    stage's own `sources` name the same ones."""
    proxy: tuple[str, ...] = ()
    """Overrides of the run, `section.key=value`, that make a small training of the stage: fewer steps, a smaller
    model."""
    seeds: tuple[int, ...] = Field((0, 1), min_length=1)
    """Each mix is trained once for each; from two seeds on a table says which differences are more than chance."""
    jobs: int | None = Field(None, ge=1)
    """Trainings at the same time at most; null: as many as the cluster has room for."""
    goal: dict[str, float] = Field(default_factory=dict)
    """Source -> how much its held-out loss counts, of any scale; empty: all count alike."""
    held_out: float = Field(0.05, gt=0, le=0.5)
    """Share of the samples, chosen by their id, that no mix is trained on."""
    passes: int = Field(4, ge=1)
    """Times that each held-out sample is noised: see `ablate.passes`."""
    prompts_per_category: int = Field(0, ge=0)
    """Held-out prompts of each category that are drawn and checked, for runs on drawn scenes; shown beside."""
    sampler: SamplerConfig = SamplerConfig()
    """How those are drawn."""

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        for source, ratios in self.sources.items():
            if not ratios or min(ratios) <= 0:
                raise ValueError(f"sources.{source} = {list(ratios)}: name positive ratios, one or more")
        if len(self.mixes()) < 2:
            raise ValueError("sources name one mix alone: name several ratios for one of them")
        unknown = sorted(self.goal.keys() - self.sources.keys())
        if unknown:
            raise ValueError(f"goal names {unknown}, sources name {list(self.sources)}")
        if self.goal and (min(self.goal.values()) < 0 or not sum(self.goal.values())):
            raise ValueError(f"goal = {self.goal}: name weights of 0 or more, one of them positive")
        return self

    def mixes(self) -> dict[str, Mix]:
        """Every mix by its name, in the order of the grid."""
        found: dict[tuple[float, ...], Mix] = {}
        for ratios in itertools.product(*self.sources.values()):
            shares = tuple(round(ratio / sum(ratios), 9) for ratio in ratios)
            found.setdefault(shares, dict(zip(self.sources, ratios, strict=True)))
        return {", ".join(f"{source} {ratio:g}" for source, ratio in mix.items()): mix for mix in found.values()}

    def weights(self) -> dict[str, float]:
        """Source -> how much it counts; they add up to 1."""
        given = self.goal or dict.fromkeys(self.sources, 1.0)
        return {source: given.get(source, 0.0) / sum(given.values()) for source in self.sources}

    def cases(self) -> MixCases:
        """What is trained and measured."""
        return MixCases(
            stage=self.stage,
            seeds=self.seeds,
            jobs=self.jobs,
            variants={name: (*self.proxy, self._override(mix)) for name, mix in self.mixes().items()},
            held_out=self.held_out,
            passes=self.passes,
            prompts_per_category=self.prompts_per_category,
            samplers={"drawn": self.sampler},
        )

    def _override(self, mix: Mix) -> str:
        return f"{self.stage}.sources={inline_table(mix)}"


def inline_table(mix: Mix) -> str:
    """A mix in TOML."""
    return "{ " + ", ".join(f'"{source}" = {float(ratio)}' for source, ratio in mix.items()) + " }"
