"""Pictures out: prompts (and a picture to edit) in, images out; and what the router chose on the way.

`MoSPipeline` is imported when it is asked for: configs stand in this package too, and need no model.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mos.sampling.pipeline import MoSPipeline

__all__ = ["MoSPipeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mos.sampling import pipeline

    return getattr(pipeline, name)
