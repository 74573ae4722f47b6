"""The steps of a run, what each depends on, and its fingerprint: the name under which finished work is found again."""

import time
from dataclasses import dataclass, field
from typing import Any

from mos.checkout import CLONE
from mos.config import StrictConfig
from mos.curation.sources import inventory_id, list_units
from mos.errors import UserError
from mos.fingerprint import fingerprint
from mos.ledger import StepLedger, StepRecord
from pipelines.run.config import STAGES, RunConfig

STEPS = ("shapes", "curate", "encode", *STAGES, "edit", "sample", "evaluate")
"""Every step there is, in the order they run. Each is `pipelines/<step>.py`."""

TRAINING = (*STAGES, "edit")
"""The steps that train."""

CODE_VERSIONS = {"shapes": 1, "curate": 1, "encode": 1, "sample": 1, "evaluate": 1} | dict.fromkeys(TRAINING, 3)
"""Raise a step's number when its code starts to give other outputs for the same inputs."""

NOT_IN_OUTPUTS = {
    "encode": {"actors", "images_per_batch", "rows_per_fragment", "fragments_per_commit", "quality"},
    "stage": {
        "loader",
        "states",
        "checkpoint_every",
        "keep_checkpoints",
        "checkpoint_patience",
        "async_checkpoint",
        "log_every",
        "sample_every",
        "num_sample_images",
    },
    "sample": {"batch_size", "compile"},
    "evaluate": {"batch_size"},
}
"""Fields that decide how fast or how verbosely a section's step runs, not what comes out; they may change freely."""


@dataclass(frozen=True)
class Step:
    """One step of one run, about to start or found finished."""

    name: str
    fingerprint: str
    """64 hex digits over everything that decides the outputs."""
    ledger: StepLedger
    started_at: float = field(default_factory=time.time)
    """Unix time."""

    @property
    def short(self) -> str:
        """First 12 hex digits of the fingerprint, for folder names."""
        return self.fingerprint[:12]

    def find(self) -> StepRecord | None:
        """The record of an earlier run that finished exactly this."""
        return self.ledger.find(self.name, self.fingerprint)

    def already_finished(self, force: bool = False) -> bool:
        """Whether there is nothing to do; says so on stdout. `force` runs the step again regardless."""
        record = None if force else self.find()
        if record is not None:
            print(f"{self.name}: already finished ({self.short}, took {record.seconds:.0f} s)", flush=True)
        return record is not None

    def finish(self, outputs: dict[str, Any]) -> StepRecord:
        """Record the outputs, once every one of them is durable; `identity` defaults to the fingerprint.

        `identity` names what later steps would see: two runs whose outputs are equal may share it.
        """
        return self.ledger.record(
            self.name, self.fingerprint, {"identity": self.fingerprint, **outputs}, self.started_at
        )


def open_step(name: str, config: RunConfig) -> Step:
    """The step of this run, with the fingerprint of its config and of its finished upstream steps.

    Raises:
        UserError: the config lacks the step's section, or an upstream step is not finished.
    """
    return Step(name, fingerprint_of(name, config), StepLedger(config.root))


def require_step(name: str, config: RunConfig) -> StepRecord:
    """The record of a finished step.

    Raises:
        UserError: it is not finished; names the command that finishes it.
    """
    return StepLedger(config.root).require(name, fingerprint_of(name, config), _remedy(name))


def configured_steps(config: RunConfig) -> tuple[str, ...]:
    """The steps this run has, in the order they run."""
    return tuple(name for name in STEPS if getattr(config, name) is not None)


def upstream(name: str, config: RunConfig) -> tuple[str, ...]:
    """The configured steps whose outputs a step reads, in the order they run."""
    before = configured_steps(config)[: configured_steps(config).index(name)]
    trained = tuple(step for step in before if step in TRAINING)
    match name:
        case "shapes":
            return ()
        case "curate":
            return before
        case "encode":
            return ("curate",)
        case "sample":
            return ("encode", config.sample.stage) if config.sample.stage else ("encode", *trained[-1:])
        case "evaluate":
            named = config.evaluate.stage
            return ("curate", "encode", named) if named else ("curate", "encode", *trained, "sample")
        case _:
            return ("encode", *trained[-1:])


def fingerprint_of(name: str, config: RunConfig) -> str:
    """64 hex digits over the step's code version, the config that decides its outputs and its upstream identities.

    Raises:
        UserError: the config lacks the step's section, an upstream step is not finished, or a source is missing.
    """
    if getattr(config, name) is None:
        raise UserError(f"config {config.name!r} has no [{name}] section: add one, or choose a step it has")
    return _fingerprint(name, config, {})


def _fingerprint(name: str, config: RunConfig, known: dict[str, str]) -> str:
    """As `fingerprint_of`; `known` keeps each step's so that none is computed twice."""
    if name not in known:
        ledger = StepLedger(config.root)
        identities = {
            step: ledger.require(step, _fingerprint(step, config, known), _remedy(step)).outputs["identity"]
            for step in upstream(name, config)
        }
        parts = _deciding_parts(name, config)
        known[name] = fingerprint(step=name, code=CODE_VERSIONS[name], parts=parts, upstream=identities)
    return known[name]


def _deciding_parts(name: str, config: RunConfig) -> dict[str, Any]:
    """Everything in the config, and of the raw data, that decides a step's outputs."""
    match name:
        case "shapes":
            return {"shapes": config.shapes}
        case "curate":
            units = list_units(config.curate.sources, CLONE, config.curate.files_per_unit)
            return {"settings": config.curate.settings_id(), "inventory": inventory_id(units)}
        case "encode":
            parts = {"encode": _without(config.encode, "encode"), "resolutions": config.resolutions()}
            return parts | _deciding_sources(config)
        case "sample":
            return {"seed": config.seed, "sample": _without(config.sample, "sample")}
        case "evaluate":
            return {"seed": config.seed, "name": config.name, "evaluate": _without(config.evaluate, "evaluate")}
        case _:
            return {"seed": config.seed, "model": config.model, "stage": _without(config.stage(name), "stage")}


def _deciding_sources(config: RunConfig) -> dict[str, Any]:
    """What decides which states the encode step writes; empty where all stages read a table, as they do by default."""
    types = {name: config.stage(name).states.type for name in config.stages()}
    if all(kind == "cache" for kind in types.values()):
        return {}
    written = {name: kind for name, kind in types.items() if kind in ("cache", "auto")}
    plan = config.plan.model_dump(mode="json") if "auto" in written.values() else None
    return {"written": written, "plan": plan}


def _without(section: StrictConfig, kind: str) -> dict[str, Any]:
    return section.model_dump(mode="json", exclude=NOT_IN_OUTPUTS[kind])


def _remedy(name: str) -> str:
    return f"python pipelines/{name}.py <config>"
