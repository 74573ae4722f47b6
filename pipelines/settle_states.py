"""Which source of hidden states each stage of a run has: as its config says, or the cheapest where it says `auto`."""

from typing import Any

from mos.feeding.config import AutoStates, CacheStates, RecomputeStates, SettledStates
from mos.planning.sources import SourceName
from pipelines.run_config import RunConfig


def settle_sources(config: RunConfig) -> dict[str, SourceName]:
    """Source of every stage, by its name; says what was decided and why.

    Raises:
        UserError: the sources that are named do not keep to the byte budget.
    """
    from pipelines.plan_figures import recommend_sources

    configured = {name: config.stage(name).states for name in config.stages()}
    asked = any(isinstance(states, AutoStates) for states in configured.values())
    advice = recommend_sources(config) if asked else {}
    settled: dict[str, SourceName] = {}
    for name, states in configured.items():
        if isinstance(states, AutoStates):
            settled[name] = advice[name].source
            print(f"{name}: states = {settled[name]}: {advice[name].why}", flush=True)
        else:
            settled[name] = states.type
    return settled


def settled_states(config: RunConfig, stage: str, encoded: dict[str, Any]) -> SettledStates:
    """Source of a stage, as the outputs of the encode step have it where it is `auto`."""
    states = config.stage(stage).states
    if not isinstance(states, AutoStates):
        return states
    source: SourceName = encoded["sources"][stage]
    match source:
        case "cache":
            return CacheStates()
        case "stream":
            return states.stream
        case "recompute":
            return RecomputeStates()


def deciding_sources(config: RunConfig) -> dict[str, Any]:
    """What decides which states the encode step writes; empty where all stages read a table, as they do by default."""
    types = {name: config.stage(name).states.type for name in config.stages()}
    if all(kind == "cache" for kind in types.values()):
        return {}
    written = {name: kind for name, kind in types.items() if kind in ("cache", "auto")}
    plan = config.plan.model_dump(mode="json") if "auto" in written.values() else None
    return {"written": written, "plan": plan}
