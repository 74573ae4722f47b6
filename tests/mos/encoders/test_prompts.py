from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mos.encoders.prompts import Prompter, load_tokenizer
from mos.encoders.understanding import MiniLMConfig, checkpoint_of
from mos.encoders.weights import locate
from mos.errors import UserError
from tests.towers import CONTROL, WORDS, save_tokenizer

CHAT = "<|im_start|> user {image} {text} <|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return folder


def ids(text: str) -> list[int]:
    """Token ids by the order of the vocabulary, with <s> before them."""
    return [(CONTROL + WORDS).index(word) for word in ("<s>", *text.split())]


def prompter(folder: Path, template: str = "{text}", max_tokens: int = 64) -> Prompter:
    return Prompter(load_tokenizer(locate(str(folder), None)), template, max_tokens)


def test_the_template_surrounds_image_and_text(folder: Path) -> None:
    chat = prompter(folder, CHAT)
    assert chat.render("make it red", "<img>*</img>") == "<|im_start|> user <img>*</img> make it red <|im_end|>"
    assert chat.render("make it red") == "<|im_start|> user  make it red <|im_end|>"
    assert chat.render("") == "<|im_start|> user   <|im_end|>"


def test_a_caption_that_spells_the_template_s_places_is_only_text(folder: Path) -> None:
    assert prompter(folder, CHAT).render("a {image} {text}", "*") == "<|im_start|> user * a {image} {text} <|im_end|>"


@pytest.mark.parametrize("sly", ["a <|im_end|> circle", "a <|im_<|im_end|>end|> circle", "<s><pad>a<s> circle </img>"])
def test_a_control_token_in_a_caption_becomes_none(folder: Path, sly: str) -> None:
    one = prompter(folder)
    tokens = one.spell(one.token_ids([one.render(sly)])[0])
    assert tokens[0] == "<s>"
    assert not set(tokens[1:]) & set(CONTROL) - {"<unk>"}
    assert {"a", "circle"} <= set(tokens)


def test_control_tokens_of_bert_are_only_words_too() -> None:
    minilm = Prompter(load_tokenizer(checkpoint_of(MiniLMConfig())), "{text}", 64)
    sly, plain = minilm.token_ids([minilm.render("a red [SEP] circle"), minilm.render("a red circle")])
    assert sly == plain
    assert minilm.spell(plain) == ["[CLS]", "a", "red", "circle", "[SEP]"]


@pytest.mark.parametrize(
    ("text", "max_tokens", "kept", "rest"),
    [
        ("a red circle", 3, "a red circle", ""),
        ("a red circle  left of it", 3, "a red circle", "  left of it"),
        ("  a red circle", 1, "  a", " red circle"),
        ("a red circle ", 3, "a red circle ", ""),
        ("", 2, "", ""),
    ],
)
def test_what_is_cut_off_is_known(folder: Path, text: str, max_tokens: int, kept: str, rest: str) -> None:
    one = prompter(folder, max_tokens=max_tokens)
    assert one.cut(text) == (kept, rest)
    assert one.render(text) == kept


@pytest.mark.parametrize(("max_tokens", "kept"), [(1, "a"), (2, "ab"), (5, "ab"), (6, "ab🙂"), (7, "ab🙂c")])
def test_a_character_of_several_tokens_is_kept_or_cut_as_a_whole(tmp_path: Path, max_tokens: int, kept: str) -> None:
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_alone = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=bytes_alone, pad_token="!").save_pretrained(tmp_path)
    one = prompter(tmp_path, "user: {text}", max_tokens)
    assert one.cut("ab🙂c") == (kept, "ab🙂c"[len(kept) :])


def test_token_ids_are_right_however_many_prompts_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mos.encoders.prompts.MAX_KNOWN", 1)
    one = prompter(folder)
    assert one.token_ids(["a", "red", "a"]) == [ids("a"), ids("red"), ids("a")]
    assert one.token_ids(["red", "of", "a red circle"]) == [ids("red"), ids("of"), ids("a red circle")]
    assert one.token_ids(["a"]) == [ids("a")]
    assert one.token_ids([]) == []


@pytest.mark.parametrize(("special", "pad_id"), [({"pad_token": "<pad>", "eos_token": "<end>"}, 2),
                                                 ({"eos_token": "<end>"}, 3), ({}, 0)])  # fmt: skip
def test_padding_needs_no_token_of_its_own(tmp_path: Path, special: dict[str, str], pad_id: int) -> None:
    tokenizer = Tokenizer(models.WordLevel({"red": 0, "<unk>": 1, "<pad>": 2, "<end>": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special).save_pretrained(tmp_path)
    one = prompter(tmp_path, "red {text}")
    assert one.pad_id == pad_id
    assert one.token_ids([one.render("red red")]) == [[0, 0, 0]]


def test_an_empty_null_context_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, adds_bos=False)
    with pytest.raises(UserError, match=r"'\{text\}' leaves the empty caption without a single token.*null context"):
        prompter(tmp_path)
    assert prompter(tmp_path, "a {text}").render("") == "a "


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the tokenizer of {tmp_path} cannot be loaded"):
        prompter(tmp_path)
