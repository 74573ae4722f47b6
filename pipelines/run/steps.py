"""The steps of a run, what each depends on, and its fingerprint: the name under which finished work is found again."""

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mos.checkout import CLONE
from mos.curation.sources import inventory_id, list_units
from mos.errors import UserError
from mos.fingerprint import file_digest, fingerprint
from mos.identity import numbers_of
from mos.ledger import StepLedger, StepRecord
from mos.losses.names import loss_column, stages_named
from mos.training.checkpoint_format import is_complete, step_folders
from mos.training.start import GivenWeights, PreviousStage
from pipelines.run.config import STAGES, RunConfig
from pipelines.run.views import encoded_views, measured_views

STEPS = ("shapes", "curate", "codec", "encode", *STAGES, "edit", "sample", "evaluate")
"""Every step there is, in the order they run. Each is `pipelines/<step>.py`."""

TRAINING = (*STAGES, "edit")
"""The steps that train."""

LOSSES = "losses"
"""Measuring the loss of a stage on each sample: recorded as a step is, for each stage apart."""

CODE_VERSIONS = {"shapes": 5, "curate": 1, "codec": 1, "encode": 1, "sample": 1, "evaluate": 1} | dict.fromkeys(
    TRAINING, 3
)
"""Raise a step's number when its code starts to give other outputs for the same inputs."""

LOSSES_VERSION = 1
"""The same for the losses of stages."""


@dataclass(frozen=True)
class Step:
    """One step of one run, about to start or found finished."""

    name: str
    fingerprint: str
    """64 hex digits over everything that decides the outputs."""
    ledger: StepLedger
    settings: str
    """The same, raw data left out: those of a curation."""
    curation: StepRecord | None = None
    """The curation that it stands on."""
    length: int = 0
    """Updates that a step which trains is asked for."""
    started_at: float = field(default_factory=time.time)
    """Unix time."""

    @property
    def short(self) -> str:
        """First 12 hex digits of the fingerprint, for folder names."""
        return self.fingerprint[:12]

    def find(self) -> StepRecord | None:
        """The record of an earlier run that finished exactly this."""
        record = self.ledger.find(self.name, self.fingerprint)
        return record if record is not None and updates(record) >= self.length else None

    def already_finished(self, force: bool = False) -> bool:
        """True if there is nothing to do; says so on stdout. `force` runs the step again regardless."""
        record = None if force else self.find()
        if record is not None:
            self.ledger.confirm(record, self.settings)
            print(f"{self.name}: already finished ({self.short}, took {record.seconds:.0f} s)", flush=True)
        return record is not None

    def finish(self, outputs: dict[str, Any]) -> StepRecord:
        """Record the outputs, once every one of them is durable; `identity` defaults to the fingerprint.

        `identity` names what later steps would see: two runs whose outputs are equal may share it; `seen_by` has names
        of what single steps see of it. `steps` of a step that trains are the updates it has done, by default those
        asked for.
        """
        known: dict[str, Any] = {"identity": self.fingerprint}
        if self.name in TRAINING:
            known["steps"] = self.length
        return self.ledger.record(self.name, self.fingerprint, known | outputs, self.started_at, self.settings)


class Run:
    """One run: its config, and its steps as its records have them.

    What is finished is read from the records, never from the raw data: a new shard in a source's folder is a matter of
    the next curation alone. Several curations of the same config may stand in the records; the one made, or confirmed,
    last is the newest, and `encode` and a first stage that begins stand on it. A stage that has begun keeps the samples
    it began with, whatever comes after them. A later stage, and what draws, stand on the newest for which all that they
    need is finished, so that a trained model stays usable while newer samples wait to be trained on.
    """

    def __init__(self, config: RunConfig, curation: str | None = None) -> None:
        """`curation` is the fingerprint of the one that every step stands on, where it is not left to the records."""
        self.config = config
        self._named = curation
        self.ledger = StepLedger(config.root)
        self._known: dict[tuple[str, str], str] = {}

    def step(self, name: str, anew: bool = False) -> Step:
        """The step about to start, with the fingerprint of its config and of its finished upstream steps.

        Args:
            name: of the step.
            anew: whether a stage that has begun takes the newest samples, and not those that it began with.

        Raises:
            UserError: the config lacks the step's section, an upstream step is not finished, or a source is missing.
        """
        if getattr(self.config, name) is None:
            raise UserError(f"config {self.config.name!r} has no [{name}] section: add one, or choose a step it has")
        if name == "curate":
            settings = self._fingerprint(name, None)
            return Step(name, self._curation_fingerprint(), self.ledger, settings)
        curation = self._curation_for(name, anew)
        identity = self._fingerprint(name, curation)
        length = self.config.stage(name).steps if name in TRAINING else 0
        return Step(name, identity, self.ledger, identity, curation, length)

    def losses(self, stage: str, step: Step | None = None) -> Step:
        """The measuring of a finished stage's loss on each sample, about to start or found finished.

        Args:
            stage: whose loss.
            step: one that chooses samples by it, on whose curation it stands; None: that of the finished stage.

        Raises:
            UserError: the stage is not finished.
        """
        standing = self._curations if step is None else [step.curation]
        curation = next((one for one in standing if self._stands_finished(stage, one)), standing[0])
        identity = self._losses_fingerprint(stage, curation)
        return Step(LOSSES, identity, self.ledger, identity, curation)

    def require_for(self, step: Step, name: str) -> StepRecord:
        """The record of a finished step that another one stands on.

        Raises:
            UserError: it is not finished; names the first step that is missing, and the command that finishes it.
        """
        return self._require(name, step.curation)

    def find(self, name: str) -> StepRecord | None:
        """The record of a finished step; None where it, or what it stands on, is not finished."""
        for curation in self._curations:
            with suppress(UserError):
                return self._require(name, curation)
        return None

    def require(self, name: str) -> StepRecord:
        """The record of a finished step.

        Raises:
            UserError: it is not finished; names the first step that is missing, and the command that finishes it.
        """
        return self.find(name) or self._require(name, self._curations[0])

    def newest_encoded(self) -> tuple[StepRecord, StepRecord] | None:
        """The newest curation that is encoded, and its encoding."""
        for curation in self._curations:
            with suppress(UserError):
                return (curation, self._require("encode", curation)) if curation is not None else None
        return None

    def is_finished(self, name: str) -> bool:
        """True if a step, and all that it stands on, is finished for this config."""
        return self.find(name) is not None

    @cached_property
    def _curations(self) -> list[StepRecord | None]:
        """Records of `curate` under this config, the newest first; [None] where there is none."""
        try:
            settings = self._fingerprint("curate", None)
        except UserError:  # the drawn data it reads are not finished
            return [None]
        records = [
            record
            for record in self.ledger.records("curate")
            if record.settings == settings and self._named in (None, record.fingerprint)
        ]
        return [*sorted(records, key=lambda record: record.confirmed_at, reverse=True)] or [None]

    def _curation_for(self, name: str, anew: bool) -> StepRecord | None:
        """The curation that a step about to start stands on."""
        newest, *earlier = self._curations
        if name in TRAINING and not anew:
            for curation in self._curations:
                if self._has_begun(name, curation):
                    if curation is not newest:
                        takes = f"{name}.refresh = true takes them when an epoch begins, --force begins anew"
                        newer = "come in its epochs" if self.config.stage(name).refresh else f"wait ({takes})"
                        print(f"{name}: keeps the samples it began with; newer ones {newer}")
                    return curation
        trained = any(step in TRAINING for step in upstream(name, self.config))
        if not trained or self._stands(name, newest):
            return newest
        for curation in earlier:
            if self._stands(name, curation):
                print(f"{name}: the newest samples are not trained on yet, so the model of earlier ones is used")
                return curation
        return newest

    def _has_begun(self, name: str, curation: StepRecord | None) -> bool:
        """True if a stage on the samples of a curation has a checkpoint."""
        with suppress(UserError):
            folder = self.config.folder("checkpoints", name, self._fingerprint(name, curation)[:12])
            return any(is_complete(path) for path in step_folders(folder))
        return False

    def _stands(self, name: str, curation: StepRecord | None) -> bool:
        """True if all that a step reads is finished for a curation."""
        with suppress(UserError):
            self._fingerprint(name, curation)
            return True
        return False

    def _stands_finished(self, name: str, curation: StepRecord | None) -> bool:
        """True if a step is finished for a curation."""
        with suppress(UserError):
            self._require(name, curation)
            return True
        return False

    def _losses_fingerprint(self, stage: str, curation: StepRecord | None) -> str:
        """Of a stage's losses on the samples of a curation."""
        upstream = {name: self._require(name, curation).outputs["identity"] for name in ("curate", stage)}
        parts = numbers_of(self.config.losses) | {"stage": stage}
        return fingerprint(step=LOSSES, code=LOSSES_VERSION, parts=parts, upstream=upstream)

    def _require(self, name: str, curation: StepRecord | None) -> StepRecord:
        remedy = f"python pipelines/{name}.py <config>"
        if name in TRAINING:
            record = self.ledger.require(name, self._fingerprint(name, curation), remedy)
            asked = self.config.stage(name).steps
            if updates(record) < asked:
                raise UserError(
                    f"step {name!r} is finished to update {updates(record)} of {asked}: run `{remedy}` to go on with it"
                )
            return record
        if name != "curate":
            return self.ledger.require(name, self._fingerprint(name, curation), remedy)
        if curation is None:
            self._fingerprint(name, None)  # raises where what it stands on is missing
            raise UserError(f"step 'curate' is not finished for this config: run `{remedy}` first")
        return curation

    def _curation_fingerprint(self) -> str:
        """Of the curation of the raw data as they stand."""
        curate, identities = self.config.curate, self._identities("curate", None)
        units = list_units(curate.sources, CLONE, curate.files_per_unit)
        parts = {"settings": curate.settings_id(), "inventory": inventory_id(units)}
        return fingerprint(step="curate", code=CODE_VERSIONS["curate"], parts=parts, upstream=identities)

    def _identities(self, name: str, curation: StepRecord | None) -> dict[str, str]:
        """Of the outputs of each upstream step."""
        outputs = {step: self._require(step, curation).outputs for step in upstream(name, self.config)}
        seen = {step: found.get("seen_by", {}).get(name, found["identity"]) for step, found in outputs.items()}
        named = measured_stages(self.config, name) if name in TRAINING else ()
        return seen | {loss_column(stage): self._losses_fingerprint(stage, curation) for stage in named}

    def _fingerprint(self, name: str, curation: StepRecord | None) -> str:
        """64 hex digits over code version, deciding config and upstream identities; the raw data left out."""
        key = (name, "" if curation is None else curation.fingerprint)
        if key not in self._known:
            parts, identities = _deciding_parts(name, self.config), self._identities(name, curation)
            self._known[key] = fingerprint(step=name, code=CODE_VERSIONS[name], parts=parts, upstream=identities)
        return self._known[key]


def start_identity(config: RunConfig, given: GivenWeights) -> str:
    """Of given weights: as noted when a stage of this run first trained from them, since they may be gone by then."""
    noted = start_note(config, given)
    return noted.read_text(encoding="utf-8") if noted.is_file() else given.identity()


def start_note(config: RunConfig, given: GivenWeights) -> Path:
    """File that keeps the identity of given weights."""
    return config.folder("steps", "starts", f"{fingerprint(path=given.path)[:12]}.txt")


def updates(record: StepRecord) -> int:
    """Updates that a step which trains has done; 0 for any other."""
    return int(record.outputs["steps"]) if record.name in TRAINING else 0


def configured_steps(config: RunConfig) -> tuple[str, ...]:
    """The steps this run has, in the order they run."""
    return tuple(name for name in STEPS if getattr(config, name) is not None)


def measured_stages(config: RunConfig, name: str) -> tuple[str, ...]:
    """The stages by whose losses a stage's filter chooses samples.

    Raises:
        UserError: one of them does not come before it.
    """
    named, before = stages_named(config.stage(name).filter), config.stages()[: config.stages().index(name)]
    for stage in named:
        if stage not in before:
            raise UserError(
                f"{name}.filter names {loss_column(stage)}, but {stage} does not come before {name}: name the loss of "
                f"{' or '.join(before) or 'no stage'}"
            )
    return named


def upstream(name: str, config: RunConfig) -> tuple[str, ...]:
    """The configured steps whose outputs a step reads, in the order they run."""
    before = configured_steps(config)[: configured_steps(config).index(name)]
    trained = tuple(step for step in before if step in TRAINING)
    match name:
        case "shapes":
            return ()
        case "curate":
            return before
        case "codec":
            return ("curate",)
        case "encode":
            return tuple(step for step in before if step != "shapes")
        case "sample":
            return ("encode", config.sample.stage) if config.sample.stage else ("encode", *trained[-1:])
        case "evaluate":
            named = config.evaluate.stage
            return ("curate", "encode", named) if named else ("curate", "encode", *trained, "sample")
        case _:
            read = {*measured_stages(config, name)}
            if isinstance(config.stage(name).start, PreviousStage):
                read.update(trained[-1:])
            return ("encode", *(step for step in trained if step in read))


def _deciding_parts(name: str, config: RunConfig) -> dict[str, Any]:
    """Everything in the config that decides a step's outputs."""
    match name:
        case "shapes":
            return {"shapes": config.shapes}
        case "curate":
            return {"settings": config.curate.settings_id(), "sources": config.curate.sources}
        case "codec":
            assert config.codec is not None
            return {"seed": config.seed, "codec": numbers_of(config.codec)}
        case "encode":
            parts = {
                "encode": numbers_of(config.encode),
                "views": {stage: asdict(view) for stage, view in encoded_views(config).items()},
            }
            return parts | _deciding_sources(config)
        case "sample":
            named = {"prompts": config.sample.prompts, "source": config.sample.source}
            files = {name: file_digest(path) for name, path in named.items() if path and Path(path).is_file()}
            return {"seed": config.seed, "sample": numbers_of(config.sample)} | files
        case "evaluate":
            return {"seed": config.seed, "name": config.name, "evaluate": numbers_of(config.evaluate)}
        case _:
            stage = config.stage(name)
            begun = {"start": start_identity(config, stage.start)} if isinstance(stage.start, GivenWeights) else {}
            held_out = {"held_out": config.held_out} if config.held_out else {}
            return {"seed": config.seed, "model": config.model, "stage": numbers_of(stage), **begun, **held_out}


def _deciding_sources(config: RunConfig) -> dict[str, Any]:
    """Settings that decide which states the encode step writes; empty where all stages read a table, as by default."""
    types = {name: config.stage(name).states.type for name in config.stages()}
    if all(kind == "cache" for kind in types.values()):
        return {}
    written = {name: kind for name, kind in types.items() if kind in ("cache", "auto")}
    plan = config.plan.model_dump(mode="json") if "auto" in written.values() else None
    measured = {name: asdict(view) for name, view in measured_views(config).items() if types[name] != "cache"}
    return {"written": written, "plan": plan, **({"measured": measured} if measured else {})}
