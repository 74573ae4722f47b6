from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mos.errors import UserError
from pipelines.draw.requests import make_requests
from pipelines.run.config import RunConfig
from pipelines.run.steps import Run


def test_repeated_prompts_have_seeds_of_their_own(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a ring\na star\n", encoding="utf-8")
    config = small_run(f"sample.prompts={prompts}", "sample.images_per_prompt=2", "seed=10", "sample.width=40")
    requests = make_requests(Run(config), "stage1")
    assert [(request.prompt, request.seed) for request in requests] == [
        ("a ring", 10),
        ("a ring", 11),
        ("a star", 12),
        ("a star", 13),
    ]
    assert {(request.height, request.width) for request in requests} == {(config.stage("stage1").resolution, 40)}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sample.prompt=a", "sample.prompts=b.txt"], "both prompt and prompts"),
        (["sample.prompts=/none/b.txt"], "/none/b.txt does not exist"),
        (["sample.prompt=a", "sample.width=33"], "width = 33"),
        (["sample.prompt=a", "sample.source=/none/a.png"], "source = '/none/a.png' cannot be read: No such file"),
        (["sample.prompt=a", f"sample.source={__file__}"], "not a picture that can be edited"),
    ],
)
def test_mistakes_are_found_before_anything_is_drawn(
    small_run: Callable[..., RunConfig], overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make_requests(Run(small_run(*overrides)), "stage1")


def test_a_source_needs_an_instruction(small_run: Callable[..., RunConfig], tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(source)
    with pytest.raises(UserError, match="has no instruction"):
        make_requests(Run(small_run(f"sample.source={source}")), "edit")


@pytest.mark.parametrize(
    ("seed", "message"), [(2**64, "seed = 18446744073709551616 is refused"), (-(2**64), "seed = ")]
)
def test_seeds_are_those_of_the_pipeline(small_run: Callable[..., RunConfig], seed: int, message: str) -> None:
    config = small_run("sample.prompt=a", "sample.images_per_prompt=2").model_copy(update={"seed": seed})
    with pytest.raises(UserError, match=message):
        make_requests(Run(config), "stage1")
    requests = make_requests(Run(config.model_copy(update={"seed": -1})), "stage1")
    assert [request.seed for request in requests] == [2**64 - 1, 0]
