from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, InternVLModel

from mos.encoders.load import load_tower
from mos.encoders.understanding import InternVLConfig, PerceptionLMConfig, Tower
from mos.errors import UserError
from tests.towers import save_internvl, save_perceptionlm

RED = Image.new("RGB", (70, 40), (255, 0, 0))
BLUE = Image.new("RGB", (40, 70), (0, 0, 255))
TEMPLATE = "<|im_start|> user {image} {text} <|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_internvl(tmp_path_factory.mktemp("internvl"))


@pytest.fixture(scope="module")
def tower(folder: Path) -> Tower:
    return load_tower(InternVLConfig(path=str(folder), dtype="float32", template=TEMPLATE))


def test_image_tokens_stand_in_the_prompt(tower: Tower) -> None:
    (context,) = tower.encode(["make it red"], [RED])
    image = ["<img>", *["<image>"] * 4, "</img>"]
    assert context.tokens == ["<|im_start|>", "user", *image, "make", "it", "red", "<|im_end|>"]
    assert context.states.shape == (12, 4, 32)
    assert tower.sees_images


def test_text_alone_needs_no_image(tower: Tower) -> None:
    (context,) = tower.encode(["make it red"])
    assert context.tokens == ["<|im_start|>", "user", "make", "it", "red", "<|im_end|>"]
    assert tower.encode([""])[0].tokens == ["<|im_start|>", "user", "<|im_end|>"]


def test_states_depend_on_the_image_from_layer_0(tower: Tower) -> None:
    red, blue = tower.encode(["make it", "make it"], [RED, BLUE])
    image = slice(3, 7)
    assert not torch.equal(red.states[image, 0], blue.states[image, 0])
    assert not torch.equal(red.states[-1, 3], blue.states[-1, 3])
    assert torch.equal(red.states[:3], blue.states[:3])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_company_in_the_batch_changes_not_a_bit(folder: Path, dtype: str) -> None:
    tower = load_tower(InternVLConfig(path=str(folder), dtype=dtype, template=TEMPLATE))
    texts = ["make it red", "a photo of two left", "", "make it blue", "make it red"] * 5
    images = [RED, None, BLUE, BLUE, None] * 5
    for text, image, padded in list(zip(texts, images, tower.encode(texts, images), strict=True))[-5:]:
        (alone,) = tower.encode([text], [image])
        assert alone.tokens == padded.tokens
        assert torch.equal(alone.states, padded.states)


def test_layers_are_those_of_the_language_side(tower: Tower, folder: Path) -> None:
    model = InternVLModel.from_pretrained(folder).eval()
    (context,) = tower.encode(["make it red"])
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(context.tokens)])
    with torch.inference_mode():
        output = model(input_ids=ids)
        embedding = model.get_input_embeddings()(ids)
    torch.testing.assert_close(context.states[:, 0], embedding[0].bfloat16(), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(context.states[:, 3], output.last_hidden_state[0].bfloat16(), atol=1e-2, rtol=1e-2)


def test_an_image_token_in_the_text_is_only_a_word(tower: Tower) -> None:
    (context,) = tower.encode(["make <IMG_CONTEXT> red"], [RED])
    assert context.tokens.count("<image>") == 4


def test_perceptionlm_reads_image_and_text(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="PerceptionLM needs timm", exc_type=(ImportError, RuntimeError))
    pytest.importorskip("torchvision", reason="and a torchvision of this torch", exc_type=(ImportError, RuntimeError))
    config = PerceptionLMConfig(path=str(save_perceptionlm(tmp_path)), dtype="float32", template="{image} {text}")
    tower = load_tower(config)
    red, plain = tower.encode(["make it red", "make it red"], [RED, None])
    assert red.tokens == ["<s>", "<image>", "make", "it", "red"]
    assert plain.tokens == ["<s>", "make", "it", "red"]
    assert red.states.shape == (5, 3, 32)
    torch.testing.assert_close(tower.encode(["make it red"], [RED])[0].states, red.states, atol=0.02, rtol=0.02)


def test_perceptionlm_without_timm_says_what_to_install(tmp_path: Path) -> None:
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError):
        pass
    else:
        pytest.skip("timm imports here")
    from tests.towers import save_tokenizer

    save_tokenizer(tmp_path)
    with pytest.raises(UserError, match="torchvision"):
        load_tower(PerceptionLMConfig(path=str(tmp_path)))
