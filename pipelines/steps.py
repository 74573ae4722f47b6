"""The steps of a run, what each depends on, and its fingerprint: the name under which finished work is found again."""

import time
from dataclasses import dataclass, field
from typing import Any

from mos.errors import UserError
from mos.fingerprint import canonical_json, fingerprint
from mos.steps import StepLedger, StepRecord
from pipelines.run_config import STAGES, RunConfig

STEPS = ("shapes", "curate", "encode", *STAGES, "edit", "sample", "evaluate")
"""Every step there is, in the order they run. Each is `pipelines/<step>.py`."""

TRAINING = (*STAGES, "edit")
"""The steps that train."""

CODE_VERSIONS = {"shapes": 1, "curate": 1, "encode": 1, "sample": 1, "evaluate": 1} | dict.fromkeys(TRAINING, 1)
"""Raise a step's number when its code starts to give other outputs for the same inputs."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "shapes": ("shapes",),
    "curate": ("curate",),
    "encode": ("encode",),
    "sample": ("seed", "sample"),
    "evaluate": ("seed", "name", "sample", "evaluate"),
} | {name: ("seed", "model", name) for name in TRAINING}
"""Parts of the config that decide a step's outputs; the rest may change without running it again."""


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
    return StepLedger(config.root).require(name, fingerprint_of(name, config), f"python pipelines/{name}.py <config>")


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
            return ("encode", *trained[-1:])
        case "evaluate":
            return ("curate", "encode", *trained, "sample")
        case _:
            return ("encode", *trained[-1:])


def fingerprint_of(name: str, config: RunConfig) -> str:
    """64 hex digits over the step's code version, its config sections and its upstream steps' identities.

    The run's folder is left out, so a run keeps its fingerprints when it moves.

    Raises:
        UserError: the config lacks the step's section, or an upstream step is not finished.
    """
    if getattr(config, name) is None:
        raise UserError(f"config {config.name!r} has no [{name}] section: add one, or choose a step it has")
    sections = {section: getattr(config, section) for section in SECTIONS[name]}
    if name == "encode":
        sections["resolutions"] = config.resolutions()
    identities = {step: require_step(step, config).outputs["identity"] for step in upstream(name, config)}
    return fingerprint(
        step=name,
        code=CODE_VERSIONS[name],
        sections=canonical_json(sections).replace(config.root, "{root}"),
        upstream=identities,
    )
