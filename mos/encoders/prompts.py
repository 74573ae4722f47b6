"""Text in, the prompt a tower is given out: cut to length, free of control tokens, inside the template."""

from functools import lru_cache
from typing import Any

from mos.encoders.weights import Checkpoint, first_line
from mos.errors import UserError

MAX_KNOWN = 8192
"""Prompts whose tokens are kept."""
IMAGE_LABEL = "<image>"
"""What every image token of a context is called."""


class Prompter:
    """A tokenizer with the template around each text.

    Padding goes to the right (`mos.encoders.batches`).
    """

    def __init__(self, tokenizer: Any, template: str, max_tokens: int) -> None:
        """Keep what makes a prompt.

        Args:
            tokenizer: as `load_tokenizer` gives it.
            template: around each text.
            max_tokens: longer texts are cut.
        """
        self._tokenizer = tokenizer
        self._template = template
        self._max_tokens = max_tokens
        self._control_tokens = [
            str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special and str(token)
        ]
        self._known: dict[str, list[int]] = {}
        self._shortened = lru_cache(MAX_KNOWN)(self._shorten)
        self._refuse_empty()

    def render(self, text: str, image: str = "") -> str:
        """The prompt of one text; `image` is what stands for its image."""
        return self._template.replace("{image}", image).replace("{text}", self.cut(text)[0])

    def cut(self, text: str) -> tuple[str, str]:
        """Part of a text that is rendered, and the rest beyond `max_tokens`: empty where nothing is left out."""
        text = self._neutral(text)
        kept = self._shortened(text)
        return kept, text[len(kept) :]

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return int(self._tokenizer.pad_token_id)

    def token_ids(self, prompts: list[str]) -> list[list[int]]:
        """Token ids of each prompt, special tokens included; the latest are kept, for planning and then encoding."""
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if unknown:
            self._known |= zip(unknown, self._tokenizer(unknown)["input_ids"], strict=True)
        return [self._known[prompt] for prompt in prompts]

    def token(self, token_id: int) -> str:
        """The tokenizer's spelling of one token id."""
        return str(self._tokenizer.convert_ids_to_tokens(token_id))

    def spell(self, token_ids: list[int]) -> list[str]:
        """The tokenizer's spelling of token ids."""
        return [str(token) for token in self._tokenizer.convert_ids_to_tokens(token_ids)]

    def _neutral(self, text: str) -> str:
        """A caption is data: a control token written out in it must not become one."""
        for token in self._control_tokens:
            text = text.replace(token, " ")
        return text

    def _shorten(self, text: str) -> str:
        """The longest beginning of a text that is at most `max_tokens` tokens."""
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if len(spans) <= self._max_tokens:
            return text
        kept = self._max_tokens
        while kept and spans[kept][0] < spans[kept - 1][1]:  # a character of several tokens, not all of which fit
            kept -= 1
        return text[: spans[kept - 1][1]] if kept else ""

    def _refuse_empty(self) -> None:
        if not self._tokenizer(self.render(""))["input_ids"]:
            raise UserError(
                f"template {self._template!r} leaves the empty caption without a single token, and it is the null "
                "context of guidance: put fixed words in front of {text}"
            )


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The fast tokenizer of a checkpoint; it pads on the right.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            **checkpoint.options(), use_fast=True, trust_remote_code=False, padding_side="right"
        )
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer of {checkpoint.path} cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise UserError(f"{checkpoint.path} has no tokenizer.json: convert its tokenizer to the fast format")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer
