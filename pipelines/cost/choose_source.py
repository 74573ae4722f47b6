"""Which source of hidden states each stage of a run has: as its config says, or the cheapest where it says `auto`."""

from mos.feeding.config import AutoStates
from mos.planning.sources import SourceName
from pipelines.run.config import RunConfig


def choose_sources(config: RunConfig) -> dict[str, SourceName]:
    """Source of every stage, by its name; says what was decided and why.

    Raises:
        UserError: the sources that are named do not keep to the byte budget, or the lead of a stream that `auto` comes
            to is too small.
    """
    from pipelines.cost.figures import recommend_sources

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
