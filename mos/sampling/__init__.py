"""Pictures out: prompts (and a picture to edit) in, images out; and what the router chose on the way."""

from mos.sampling.pipeline import MosPipeline, TracedPicture

__all__ = ["MosPipeline", "TracedPicture"]
