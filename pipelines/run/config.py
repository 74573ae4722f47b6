"""One TOML file configures every script of a run; each section belongs to the component that reads it."""

from math import gcd
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from cluster.config import ClusterConfig
from cluster.resources import available_cores, leaves_open, positive, share_cores
from mos.ablation.config import AblateConfig
from mos.ablation.mixing import MixConfig
from mos.autoencoder.config import CodecConfig
from mos.benchmarks.config import BenchmarksConfig
from mos.checkout import CLONE
from mos.config import StrictConfig
from mos.curation.config import CurateConfig
from mos.encoders.encoding import EncodeConfig
from mos.errors import UserError
from mos.evaluation.config import EvaluateConfig
from mos.exports.config import ExportConfig
from mos.losses.config import LossesConfig
from mos.model.mos import ModelConfig
from mos.planning.config import PlanConfig
from mos.precision import resolve_dtype
from mos.sampling.config import SampleConfig
from mos.shapes.dataset import ShapesConfig
from mos.training.stage import StageConfig

STAGES = ("stage1", "stage2", "stage3", "stage4")
"""Text-to-image stages in training order; each starts from the one before it, unless its `start` says otherwise."""


class RunConfig(StrictConfig):
    """A whole run: data, encoders, model, stages, sampling, evaluation, the cluster they run on and what it costs."""

    name: str
    """Name of the run, for titles."""
    root: str
    """Folder of everything the run writes. Every node must see it under this path. A relative one stands in the
    checkout (in `~/.mos` for a job whose checkout is temporary); `{root}` in any other value means this folder."""
    tables: str | None = None
    """Folder or object-store URI of the Lance tables; null: `<root>/tables`."""
    seed: int = 0
    """Seed of the model's weights, of the order of samples and of all noise."""
    held_out: float = Field(0.0, ge=0, lt=1)
    """Share of the samples, by their hash, that no stage trains on, encoded all the same: to measure a loss on."""
    shapes: ShapesConfig | None = None
    """Procedural demo data; leave the section out to use only your own sources."""
    curate: CurateConfig
    codec: CodecConfig | None = None
    """A latent codec to train on the kept pictures; leave the section out to use one that is there."""
    encode: EncodeConfig
    model: ModelConfig
    stage1: StageConfig | None = None
    stage2: StageConfig | None = None
    stage3: StageConfig | None = None
    stage4: StageConfig | None = None
    edit: StageConfig | None = None
    sample: SampleConfig
    evaluate: EvaluateConfig
    cluster: ClusterConfig = ClusterConfig()
    plan: PlanConfig = PlanConfig()
    losses: LossesConfig = LossesConfig()
    """How `pipelines/losses.py` measures the loss of a stage on each sample."""
    benchmarks: BenchmarksConfig = BenchmarksConfig()
    """Published benchmarks that `pipelines/benchmark.py` draws the prompts of."""
    export: ExportConfig = ExportConfig()
    """What `pipelines/export.py` writes for other trainers."""
    ablate: AblateConfig | None = None
    """Variants that `pipelines/ablate.py` trains and compares."""
    mix: MixConfig | None = None
    """Mixing ratios that `pipelines/mix.py` tries."""

    @model_validator(mode="before")
    @classmethod
    def _workers_for_this_machine(cls, tree: Any) -> Any:
        """Numbers in place of `auto` in `cluster.train`, `cluster.generate` and `encode.actors`: what the cores of this
        machine are good for.

        All stages train on one gang, and the size that is chosen here divides every batch.
        """
        if not isinstance(tree, dict) or not isinstance(tree.get("cluster", {}), dict):
            return tree
        cluster = tree.get("cluster", {})
        groups = {name: cluster[name] for name in ("train", "generate") if leaves_open(cluster.get(name))}
        actors = _growing_actors(tree)
        if not groups and actors is None:
            return tree
        cores = max(1, int(positive(cluster.get("num_cpus")) or available_cores()))
        if actors is not None:
            most = max(positive(actors.get("min")) or 1, cores // (positive(actors.get("cpus")) or 1))
            tree = {**tree, "encode": {**tree["encode"], "actors": {**actors, "max": int(most)}}}
        stages = [tree.get(name) for name in (*STAGES, "edit")]
        batch = gcd(*(int(positive(stage.get("batch_size")) or 0) for stage in stages if isinstance(stage, dict)))
        samples = {"train": batch, "generate": None}
        shared = {name: share_cores(workers, cores, samples[name]) for name, workers in groups.items()}
        return {**tree, "cluster": {**cluster, **shared}}

    def resolved(self, base: Path) -> Self:
        """The same run with an absolute `root` (a relative one stands in `base`), every `{root}` filled in, and the
        dtype of every device in place of `auto`.

        Raises:
            UserError: `root` is an object-store URI.
        """
        if "://" in self.root:
            raise UserError(
                f"root = {self.root!r} is not a folder: name a path that every node mounts, and put only the tables "
                "into the object store with `tables`"
            )
        root = str((base / Path(self.root).expanduser()).resolve())
        tree = {key: _fill(value, root) for key, value in self.model_dump().items()}
        for name in self.stages():
            precision = tree[name]["engine"]["precision"]
            precision["compute"] = resolve_dtype(precision["compute"], self.cluster.train.device)
        tower = tree["encode"]["tower"]
        tower["dtype"] = resolve_dtype(tower["dtype"], self.encode.actors.device)
        return type(self).model_validate({**tree, "root": root})

    def resolved_overrides(self) -> tuple[str, ...]:
        """Overrides that name the dtypes of this resolved run: another machine, which would resolve `auto` by its own
        CPU, then runs the same steps.
        """
        stages = [
            f"{name}.engine.precision.compute={self.stage(name).engine.precision.compute}" for name in self.stages()
        ]
        return (f"encode.tower.dtype={self.encode.tower.dtype}", *stages)

    def tables_folder(self) -> str:
        """Folder or URI under which all tables of the run stand, without a trailing slash."""
        return (self.tables or f"{self.root}/tables").rstrip("/")

    def samples_uri(self) -> str:
        """Table of kept samples, schema `mos.tables.schema.samples_schema`."""
        return f"{self.tables_folder()}/samples.lance"

    def rejects_uri(self) -> str:
        """Table of dropped items, schema `mos.tables.schema.REJECTS`."""
        return f"{self.tables_folder()}/rejects.lance"

    def states_uri(self, name: str) -> str:
        """Table of one tower's states in one codec (`mos.tables.state_tables`), schema `mos.tables.schema.STATES`."""
        return f"{self.tables_folder()}/states/{name}.lance"

    def calibration_uri(self, name: str) -> str:
        """Empty table whose metadata are the calibration of a tower's quantised states."""
        return f"{self.tables_folder()}/calibrations/{name}.lance"

    def latents_uri(self, codec_id: str) -> str:
        """Table of one codec's latents, schema `mos.tables.schema.LATENTS`."""
        return f"{self.tables_folder()}/latents/{codec_id}.lance"

    def queue_uri(self, stage: str, short: str) -> str:
        """Table of the states that a streaming stage has yet to train on, schema `mos.tables.schema.STATES`.

        Its name has the root as well as the step's short fingerprint: runs that share a tables folder may be equal.
        """
        from mos.tables.runs import run_id

        return f"{self.tables_folder()}/queues/{stage}-{short}-{run_id(self.root)}.lance"

    def folder(self, *parts: str) -> Path:
        """A folder below `root`, for example `folder("checkpoints", "stage1")`; not created."""
        return Path(self.root, *parts)

    def stage(self, name: str) -> StageConfig:
        """The configuration of `stage1`...`stage4` or `edit`.

        Raises:
            UserError: the run has no such stage.
        """
        config = getattr(self, name)
        if config is None:
            raise UserError(f"config {self.name!r} has no [{name}] section: add one, or choose a stage it has")
        return config

    def stages(self) -> tuple[str, ...]:
        """Names of the configured training steps in order, the editing stage last."""
        return tuple(name for name in (*STAGES, "edit") if getattr(self, name) is not None)

    def resolutions(self) -> tuple[int, ...]:
        """Resolutions that some training step reads, ascending: those whose latents are encoded."""
        return tuple(sorted({self.stage(name).resolution for name in self.stages()}))


def load_run(path: Path, overrides: tuple[str, ...] = (), base: Path = CLONE) -> RunConfig:
    """Read a TOML file and overrides into a run whose paths are absolute."""
    return RunConfig.load(path, overrides).resolved(base)


def _growing_actors(tree: dict[str, Any]) -> dict[str, Any] | None:
    """`encode.actors` of a run that is not validated yet, where it has `auto` for the most of them."""
    match tree:
        case {"encode": {"actors": {"max": "auto"} as actors}}:
            return actors
    return None


def _fill(value: Any, root: str) -> Any:
    """Replace `{root}` in every string of a tree of plain values."""
    match value:
        case str():
            return value.replace("{root}", root)
        case Path():
            return Path(str(value).replace("{root}", root))
        case dict():
            return {key: _fill(item, root) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_fill(item, root) for item in value)
        case _:
            return value
