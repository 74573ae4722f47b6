from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mos.checkpoints import SHAPES
from mos.encoders.pixel_codec import PixelCodec
from mos.encoders.understanding import Tower
from mos.encoders.vae import PixelConfig
from mos.errors import UserError
from mos.sampling import MosPipeline
from mos.sampling.config import SamplerConfig
from mos.sampling.export import read_export_config
from mos.sampling.prompts import CutPromptWarning
from tests.mos.sampling.tiny_export import TINY, random_model, run_of, save_export

PROMPTS = ["a red circle", "two blue squares left of a very long green star", "a ring"]


def distance(first: Image.Image, second: Image.Image) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def test_three_lines_draw_a_picture(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export"))
    image = pipe("a red circle", steps=2)[0]
    assert image.size == (16, 16)
    assert image.mode == "RGB"


def test_equal_calls_give_equal_pictures(pipe: MosPipeline) -> None:
    first, second = (pipe("a red circle", steps=3, seed=5)[0] for _ in range(2))
    assert distance(first, second) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_picture_does_not_depend_on_its_batch(pipe: MosPipeline, batch_size: int) -> None:
    together = pipe(PROMPTS, steps=3, seed=10, batch_size=batch_size)
    for i, prompt in enumerate(PROMPTS):
        assert distance(together[i], pipe(prompt, steps=3, seed=10 + i)[0]) <= 1


def test_seeds_and_prompts_and_settings_matter(pipe: MosPipeline) -> None:
    base = pipe("a red circle", steps=3)[0]
    assert distance(base, pipe("a red circle", steps=3, seed=1)[0]) > 10
    assert distance(base, pipe("a blue star", steps=3)[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, negative_prompt="a blue star")[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, guidance=8.0)[0]) > 1
    assert distance(base, pipe("a red circle", steps=3, schedule="linear_quadratic")[0]) > 1


def test_any_size_that_is_whole_tokens(pipe: MosPipeline) -> None:
    assert pipe("a ring", height=8, width=24, steps=1)[0].size == (24, 8)


@pytest.mark.parametrize(("height", "nearest"), [(33, "32 or 36"), (2, "from 4"), (0, "from 4")])
def test_other_sizes_name_the_nearest(pipe: MosPipeline, height: int, nearest: str) -> None:
    with pytest.raises(UserError, match=nearest):
        pipe("a ring", height=height)


def test_editing_depends_on_the_reference(pipe: MosPipeline) -> None:
    red, blue = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    edited = pipe("make it green", reference=red, steps=2)[0]
    assert edited.size == (20, 12)  # the bucket nearest to the reference's aspect
    assert distance(edited, pipe("make it green", reference=blue, steps=2)[0]) > 1
    both = pipe(["make it green"] * 2, reference=[red, blue], steps=2, seed=[0, 0])
    assert distance(edited, both[0]) <= 1


def test_a_reference_gives_its_aspect(pipe: MosPipeline) -> None:
    wide, tall = Image.new("RGB", (90, 30)), Image.new("RGB", (30, 90))
    assert [picture.size for picture in pipe(["a"] * 2, reference=[wide, tall], steps=1)] == [(20, 12), (12, 20)]
    assert pipe("a", reference=wide, height=16, steps=1)[0].size == (16, 16)


def test_pictures_of_several_sizes_come_back_in_order(pipe: MosPipeline) -> None:
    references = [Image.new("RGB", size, "red") for size in ((32, 32), (60, 30), (32, 32), (60, 30))]
    together = pipe(["a", "b", "c", "d"], reference=references, steps=2, batch_size=2)
    for place, (prompt, reference) in enumerate(zip("abcd", references, strict=True)):
        alone = pipe(prompt, reference=reference, steps=2, seed=place)[0]
        assert together[place].size == alone.size
        assert distance(together[place], alone) <= 1


@pytest.mark.parametrize("guidance", [0, 1, 0.0, np.float32(1)])
def test_guidance_of_0_and_1_is_none(pipe: MosPipeline, guidance: float) -> None:
    plain = pipe("a red circle", steps=2, guidance=1.0)[0]
    assert distance(plain, pipe("a red circle", steps=2, guidance=guidance, negative_prompt="a blue star")[0]) == 0


def test_numbers_and_texts_of_every_kind_are_taken(pipe: MosPipeline) -> None:
    expected = pipe(["a ring", "a star"], steps=2, seed=[3, 4], height=8, guidance=2.0, batch_size=1)
    kinds = [
        {"steps": np.int64(2), "seed": np.int32(3), "height": np.uint8(8), "guidance": np.float64(2), "batch_size": 1},
        {"steps": 2, "seed": np.array([3, 4]), "height": 8, "guidance": 2, "batch_size": np.int16(5)},
        {"steps": 2, "seed": range(3, 5), "height": 8, "guidance": Fraction(2), "progress": np.False_},
        {"steps": torch.tensor(2), "seed": torch.tensor(3), "height": 8, "guidance": torch.tensor(2.0)},
    ]
    prompts = [("a ring", "a star"), np.array(["a ring", "a star"]), iter(["a ring", "a star"]), ["a ring", "a star"]]
    for given, settings in zip(prompts, kinds, strict=True):
        for one, other in zip(expected, pipe(given, **settings), strict=True):
            assert distance(one, other) <= 1
    assert distance(expected[0], pipe("a ring", steps=2, seed=3, height=8, guidance=2, negative_prompt=None)[0]) <= 1


def test_seeds_are_those_of_torch(pipe: MosPipeline) -> None:
    last, negative = pipe(["a", "a"], steps=1, seed=[2**64 - 1, -1])
    assert distance(last, negative) == 0
    assert distance(pipe(["a", "a"], steps=1, seed=-1)[1], pipe("a", steps=1, seed=0)[0]) <= 1


def test_a_rescaled_picture_of_an_untrained_model_is_its_noise(tower: Tower) -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight.zero_()
    pipe = MosPipeline(model, tower, PixelCodec(PixelConfig()), resolution=16)
    plain, rescaled = (pipe("a", steps=2, guidance_rescale=phi)[0] for phi in (0.0, 0.7))
    assert distance(plain, rescaled) == 0
    assert np.asarray(rescaled).std() > 50


def test_values_that_are_not_finite_are_no_picture(tower: Tower) -> None:
    model = random_model()
    with torch.no_grad():
        model.patch_out.weight[0] = float("nan")
    pipe = MosPipeline(model, tower, PixelCodec(PixelConfig()), resolution=16)
    with pytest.raises(UserError, match=r"picture of seed 5 has values that are not finite: lower guidance = 4"):
        pipe(["a", "b"], steps=1, seed=5)
    with pytest.raises(UserError, match="not finite"):
        pipe.trace("a", SamplerConfig(steps=1))


def test_guidance_beyond_all_measure_is_no_picture(pipe: MosPipeline) -> None:
    with pytest.raises(UserError, match=r"lower guidance = 1e\+39"):
        pipe("a", steps=3, guidance=1e39)


LONG = " ".join(f"word{number}" for number in range(1600))


def test_a_prompt_that_is_cut_is_shown(pipe: MosPipeline) -> None:
    with pytest.warns(CutPromptWarning, match=r"is cut after '….*', and the \d+ words from '.*…' on") as caught:
        pipe(["a ring", LONG, LONG], steps=1)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(CutPromptWarning):
        pipe("a ring", negative_prompt=LONG, steps=1)
    with pytest.warns(CutPromptWarning):
        pipe.trace(LONG, SamplerConfig(steps=1))


def test_what_is_cut_is_what_the_tower_does_not_read(tower: Tower) -> None:
    kept, lost = tower.cut(LONG)
    assert kept + lost == LONG
    whole, short, longer = tower.encode([LONG, kept, kept + lost[:40]])
    assert torch.equal(whole.states, short.states)
    assert torch.equal(whole.states, longer.states)
    assert tower.cut("a red circle") == ("a red circle", "")
    assert tower.cut(f"a [SEP] ring{' ' * 500}")[1].strip() == ""


def test_a_model_of_text_alone_does_not_edit(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export", run=run_of(16, ["generate"])))
    with pytest.raises(UserError, match=r"trained on text alone and cannot edit a picture: load the `export` of an"):
        pipe("make it blue", reference=Image.new("RGB", (32, 32)), steps=1)
    assert pipe("a ring", steps=1)[0].size == (16, 16)
    assert not read_export_config(SHAPES).edits


def test_an_export_tells_how_long_its_buckets_are(tmp_path: Path) -> None:
    pipe = MosPipeline.from_export(save_export(tmp_path / "export", run={**run_of(16), "bucket_aspect": 1.0}))
    assert pipe("a", reference=Image.new("RGB", (90, 30)), steps=1)[0].size == (16, 16)
    assert read_export_config(SHAPES).bucket_aspect == 2.0


def test_a_device_is_named_in_every_way_or_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    assert MosPipeline.from_export(str(folder), device=torch.device("cpu")).model.patch_in.weight.dtype == torch.float32
    for device in ("gpu", None, 3.5, "cuda:99"):
        with pytest.raises(UserError, match=r"device = .* cannot be used"):
            MosPipeline.from_export(folder, device=device)


@pytest.mark.parametrize("folder", [None, 3, ["a"]])
def test_an_export_is_a_folder(folder: object) -> None:
    with pytest.raises(UserError, match=r"export = .* is not a folder"):
        MosPipeline.from_export(folder)


def test_pictures_that_no_memory_holds_are_refused(pipe: MosPipeline) -> None:
    with pytest.raises(UserError, match=r"height = 800000000 and width = 800000000 .* lower batch_size"):
        pipe("a", height=800_000_000, width=800_000_000, steps=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": None}, "prompts = None is not a text"),
        ({"prompts": 5}, "prompts = 5 is not a text"),
        ({"prompts": Path("a.txt")}, r"prompts = PosixPath\('a.txt'\) is a path, not a text"),
        ({"prompts": b"a"}, "prompts = b'a' is not a text"),
        ({"prompts": {"a": 1}}, "prompts = {'a': 1} is not a text"),
        ({"prompts": ["a", None]}, r"prompts\[1\] = None is not a text"),
        ({"prompts": np.array("a")}, "is not a text"),
        ({"prompts": "a\ud800"}, "is not Unicode text"),
        ({"prompts": "a", "negative_prompt": 3}, "negative_prompt = 3 is not a text"),
        ({"prompts": "a", "batch_size": -1}, "batch_size = -1 is refused: pass a whole number from 1"),
        ({"prompts": "a", "batch_size": 0}, "batch_size = 0"),
        ({"prompts": "a", "batch_size": True}, "batch_size = True"),
        ({"prompts": "a", "steps": 2.0}, "steps = 2.0"),
        ({"prompts": "a", "steps": "2"}, "steps = '2'"),
        ({"prompts": "a", "steps": None}, "steps = None"),
        ({"prompts": "a", "steps": np.array([1, 2])}, r"steps = array\(\[1, 2\]\)"),
        ({"prompts": "a", "seed": 2**64}, r"seed = 18446744073709551616 is refused: pass a whole number from -2\*\*63"),
        ({"prompts": ["a", "b"], "seed": 2**64 - 1}, "seed = 18446744073709551616"),
        ({"prompts": "a", "seed": -(2**63) - 1}, "seed = -9223372036854775809"),
        ({"prompts": "a", "seed": 1.5}, "seed = 1.5"),
        ({"prompts": "a", "seed": "7"}, "seed = '7'"),
        ({"prompts": "a", "seed": None}, "seed = None"),
        ({"prompts": "a", "seed": True}, "seed = True"),
        ({"prompts": "a", "seed": []}, "0 values of seed for 1 prompts"),
        ({"prompts": "a", "seed": {3}}, r"seed = \{3\}"),
        ({"prompts": "a", "guidance": float("nan")}, "guidance = nan is refused: pass a finite number"),
        ({"prompts": "a", "guidance": float("inf")}, "guidance = inf"),
        ({"prompts": "a", "guidance": -1}, "guidance = -1"),
        ({"prompts": "a", "guidance": True}, "guidance = True"),
        ({"prompts": "a", "guidance": "4"}, "guidance = '4'"),
        ({"prompts": "a", "guidance": 10**400}, "guidance = 1000.*… is refused"),
        ({"prompts": "a", "guidance_rescale": float("nan")}, "guidance_rescale = nan"),
        ({"prompts": "a", "guidance_rescale": 1.5}, "guidance_rescale = 1.5"),
        ({"prompts": "a", "height": True}, "height = True"),
        ({"prompts": "a", "width": 16.0}, "width = 16.0"),
        ({"prompts": "a", "width": 2**40}, "width = 1099511627776"),
        ({"prompts": "a", "schedule": None}, "schedule = None"),
        ({"prompts": "a", "progress": "yes"}, "progress = 'yes'"),
        ({"prompts": "a", "reference": 3}, "reference = 3 is no picture: pass a PIL image, a path or the bytes"),
        ({"prompts": "a", "reference": np.zeros((9, 9, 3))}, "reference = array.* is no picture"),
        (
            {"prompts": "a", "reference": ["/none/a.png"]},
            r"reference\[0\] = '/none/a.png' cannot be read: No such file",
        ),
        ({"prompts": "a", "reference": Path("/")}, "cannot be read: Is a directory"),
        ({"prompts": "a", "reference": b"GIF89a"}, "is not a picture that can be edited: image_format_refused"),
        ({"prompts": "a", "reference": Image.new("RGB", (8, 8))}, "is not a picture .* image_too_small"),
        ({"prompts": "a", "reference": Image.new("HSV", (32, 32))}, "image_mode_refused"),
        ({"prompts": ["a", "b"], "reference": [Image.new("RGB", (32, 32))]}, "1 values of reference for 2 prompts"),
        ({"prompts": "a", "steps": 0}, "steps = 0"),
        ({"prompts": "a", "guidance": 0.5}, "guidance = 0.5 is refused: a scale between 0 and 1 would weaken"),
        ({"prompts": "a", "schedule": "cosine"}, "'cosine'"),
        ({"prompts": ["a", "b"], "seed": [1]}, "1 values of seed for 2 prompts"),
        ({"prompts": ["a", "b"], "reference": [Image.new("RGB", (8, 8)), None]}, "no reference"),
        ({"prompts": "a", "steps": 1, "schedule": "linear_quadratic"}, "at least 2"),
    ],
)
def test_mistakes_end_in_one_sentence(pipe: MosPipeline, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe(**arguments)


def test_a_folder_without_an_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        MosPipeline.from_export(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not the config of an exported model"),
        (b"\xff", "is not the config of an exported model"),
        (b"{}", "is not the config of an exported model"),
        (None, "does not say at which resolution"),
    ],
)
def test_a_damaged_export_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    folder = save_export(tmp_path / "export", run={})
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        MosPipeline.from_export(folder)


def test_a_tower_of_another_width_is_refused(tmp_path: Path) -> None:
    wider = TINY.model_copy(update={"state_dim": 512}).model_dump(mode="json")
    with pytest.raises(UserError, match=r"weights .* cannot be used .*: name another export") as caught:
        MosPipeline.from_export(save_export(tmp_path / "export", model=wider))
    assert "\n" not in str(caught.value)


def test_a_codec_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="48 latent channels, but the model was trained on 12"):
        MosPipeline.from_export(save_export(tmp_path / "export", vae={"type": "pixel", "stride": 4}))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_export(tmp_path / "export")
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be used"):
        MosPipeline.from_export(folder)


def test_a_trace_tells_the_story_of_the_same_picture(pipe: MosPipeline) -> None:
    sampler = SamplerConfig(steps=3)
    traced = pipe.trace("a red circle", sampler, seed=4)
    assert distance(traced.image, pipe("a red circle", steps=3, seed=4)[0]) == 0
    assert len(traced.noisy) == len(traced.predicted) == 3
    assert traced.trace.tokens == ("[CLS]", "a", "red", "circle", "[SEP]")
    assert traced.trace.weights.shape == (3, 5, 6, 3)
    assert (traced.trace.picked.sum(dim=2) == 2).all()
