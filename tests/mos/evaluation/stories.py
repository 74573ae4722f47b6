"""Records of a small run, made without one."""

import torch
from PIL import Image

from mos.evaluation.cases import drawn_edits, scored_prompts, shown_prompts
from mos.evaluation.charts import LossCurve
from mos.evaluation.grids import Captioned, EditExample
from mos.evaluation.report import Counts, Report
from mos.evaluation.router_figure import RouterStory
from mos.evaluation.scores import score_pictures
from mos.model.routing import route
from mos.sampling.trace import RouterRecorder
from mos.shapes.captions import Prompt
from mos.shapes.render import render

WORDS = ("[CLS]", "a", "red", "circle", "left", "of", "two", "##star", "[SEP]")


def ground_truth(prompt: Prompt) -> Image.Image:
    return Image.fromarray(render(prompt.scene, 32, 32))


def router_story(num_layers: int = 6, num_blocks: int = 4, tokens: tuple[str, ...] = WORDS) -> RouterStory:
    generator = torch.Generator().manual_seed(0)
    recorder = RouterRecorder(tokens, tuple(range(1, num_layers + 1)))
    times = [1.0, 0.75, 0.5, 0.25]
    for t in times:
        recorder.add(t, route(torch.randn(1, len(tokens), num_layers, num_blocks, generator=generator), top_k=2))
    pictures = [Image.new("RGB", (32, 32), (int(255 * t), 0, 0)) for t in times]
    return RouterStory("a red circle left of two stars", pictures, pictures, recorder.finish())


def full_report() -> Report:
    prompts = scored_prompts(num_single_object=4, num_per_category=2, seed=0)
    cases = drawn_edits(2, seed=0, resolution=32)
    return Report(
        name="a <tiny> run",
        facts={"model": "3.4 M parameters"},
        counts=Counts(read=12, kept=9, rejected={"caption_empty": 2, "image_truncated": 1}),
        buckets={"32 px": {"32x32": 7, "24x44": 2}},
        losses=[LossCurve("stage1", (1, 2, 3), (2.0, 1.0, 0.5)), LossCurve("edit", (1, 2), (1.0, 0.9))],
        pictures=[Captioned(ground_truth(prompt), prompt.text, True) for prompt in shown_prompts(6, seed=0)],
        scores=score_pictures([ground_truth(prompt) for prompt in prompts], prompts),
        edits=[EditExample(case.source, case.instruction, case.target, None, False) for case in cases],
        router=router_story(),
        settings='{"name": "tiny"}',
    )
