import pytest
import torch

from mos.errors import UserError
from mos.sampling.config import SamplerConfig
from mos.sampling.draw import draw_pictures
from mos.sampling.pipeline import MoSPipeline
from mos.sampling.traced import draw_traced
from tests.mos.sampling.test_arguments import distance
from tests.mos.sampling.tiny_export import random_model
from tests.mos.sampling.tiny_pipeline import tiny_pipeline


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_a_trace_tells_the_story_of_the_same_picture(pipe: MoSPipeline, guidance: float) -> None:
    sampler = SamplerConfig(steps=3, guidance=guidance)
    traced = draw_traced(pipe, "a red circle", sampler, seed=4)
    assert distance(traced.image, draw_pictures(pipe, ["a red circle"], sampler=sampler, seed=4)[0]) == 0
    assert len(traced.noisy) == len(traced.predicted) == 3
    assert traced.trace.tokens == ("[CLS]", "a", "red", "circle", "[SEP]")
    assert traced.trace.weights.shape == (3, 5, 6, 3)
    assert (traced.trace.picked.sum(dim=2) == 2).all()


def test_values_that_are_not_finite_are_no_picture() -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight[0] = float("nan")
    with pytest.raises(UserError, match="picture of seed 0 has values that are not finite"):
        draw_traced(tiny_pipeline(model), "a", SamplerConfig(steps=1))
