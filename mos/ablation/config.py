"""Configs of runs that train one stage in several variants: `pipelines/ablate.py` and what it compares."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from mos.config import StrictConfig
from mos.sampling.config import SamplerConfig

StageToTrain = Literal["stage1", "stage2", "stage3", "stage4", "edit"]


class Comparison(StrictConfig):
    """Two variants, and which of them the paper found to be the better one."""

    claim: str
    """What the paper says, in a few words."""
    source: str
    """Where it says so, such as `table 1`; `none` for a comparison of our own."""
    better: str
    """Name of a variant, or `variant:sampler`; without a sampler the first one draws."""
    worse: str
    """The same; of one variant under two samplers the scores alone are compared."""


class CasesConfig(StrictConfig):
    """One stage, trained once for each variant and seed; everything that a variant does not name is the run's."""

    section: ClassVar[str] = "ablate"
    """Of the run's config, for what is printed."""

    stage: StageToTrain = "stage1"
    """Stage that is trained; the run has none before it."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seeds of the run: weights, order, noise. Variants are compared seed by seed."""
    jobs: int | None = Field(None, ge=1)
    """Trainings at the same time at most; null: as many as the cluster has room for."""
    variants: dict[str, tuple[str, ...]] = Field(min_length=2)
    """Name -> overrides of the run, `section.key=value` as on the command line; `[]` is the run as it is."""
    held_out: float = Field(0.05, gt=0, le=0.5)
    """Share of the samples, chosen by their id, that no variant is trained on."""
    passes: int = Field(4, ge=1)
    """Times that each held-out sample is noised, with other noise and another timestep each time: the same for all."""
    prompts_per_category: int = Field(32, ge=0)
    """Held-out prompts of each category that are drawn and checked; only runs on drawn scenes have any."""
    samplers: dict[str, SamplerConfig] = Field(min_length=1)
    """Name -> how pictures are drawn from each variant."""

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} name one twice")
        return self

    def key_of(self, variant: str) -> str:
        """Where a variant's overrides stand in the config."""
        return f"{self.section}.variants.{variant}"

    def samplers_of(self, variant: str) -> dict[str, SamplerConfig]:
        """Name -> how pictures are drawn from a variant."""
        return self.samplers


class AblateConfig(CasesConfig):
    """Variants, and the comparisons made between them."""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=2)
    """Seeds of the run: weights, order, noise. Variants are compared seed by seed."""
    comparisons: tuple[Comparison, ...] = ()
    further_samplers: dict[str, SamplerConfig] = Field(default_factory=dict)
    """Name -> how pictures are drawn, beside, from the variants that a comparison names with it."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "AblateConfig":
        twice = sorted(set(self.samplers) & set(self.further_samplers))
        if twice:
            raise ValueError(f"samplers and further_samplers both name {twice}")
        idle = sorted(set(self.further_samplers) - {sampler for _, sampler in self._sides()})
        if idle:
            raise ValueError(f"no comparison names the further samplers {idle}: leave them out, or compare with them")
        for comparison in self.comparisons:
            for side in (comparison.better, comparison.worse):
                variant, sampler = self.parts(side)
                for kind, name, known in (
                    ("variant", variant, self.variants),
                    ("sampler", sampler, self.samplers | self.further_samplers),
                ):
                    if name not in known:
                        raise ValueError(
                            f"comparison {comparison.claim!r} names the {kind} {name!r}: use {list(known)}"
                        )
            if comparison.better == comparison.worse:
                raise ValueError(f"comparison {comparison.claim!r} compares {comparison.better!r} with itself")
        return self

    def parts(self, side: str) -> tuple[str, str]:
        """Variant and sampler of one side of a comparison."""
        variant, _, sampler = side.partition(":")
        return variant, sampler or next(iter(self.samplers))

    def samplers_of(self, variant: str) -> dict[str, SamplerConfig]:
        """Name -> how pictures are drawn from a variant."""
        sides = self._sides()
        further = {name: rule for name, rule in self.further_samplers.items() if (variant, name) in sides}
        return self.samplers | further

    def _sides(self) -> set[tuple[str, str]]:
        """Variant and sampler of every side."""
        return {self.parts(side) for said in self.comparisons for side in (said.better, said.worse)}
