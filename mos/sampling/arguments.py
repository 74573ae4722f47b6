"""What a caller passes, made into what drawing works with, or refused in one sentence that names it.

Whole numbers are whatever Python indexes with (numpy's too), numbers whatever it makes a float of; a bool is neither.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import SupportsIndex, TypeVar

import numpy as np
from pydantic import ValidationError

from mos.errors import UserError
from mos.sampling.config import SamplerConfig

T = TypeVar("T")

SEEDS = range(-(2**63), 2**64)
"""Seeds that torch takes; a negative one is that much below 2^64."""
MOST = 2**31 - 1
"""Of steps, pixels and pictures: nothing that can be drawn has more."""
LONGEST = 80
"""Characters of a value in a sentence."""


def whole(name: str, value: object, least: int = 1) -> int:
    """A whole number of at least `least`, and at most `MOST`.

    Raises:
        UserError: it is none.
    """
    number = _index(value)
    if number is None or not least <= number <= MOST:
        raise UserError(f"{name} = {shown(value)} is refused: pass a whole number from {least} to {MOST}")
    return number


def number(name: str, value: object) -> float:
    """A finite number.

    Raises:
        UserError: it is none.
    """
    try:
        result = math.nan if _is_bool(value) or isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        result = math.nan
    if not math.isfinite(result):
        raise UserError(f"{name} = {shown(value)} is refused: pass a finite number")
    return result


def text(name: str, value: object) -> str:
    """A text.

    Raises:
        UserError: it is none, or holds half of a character that takes two.
    """
    if isinstance(value, Path):
        raise UserError(
            f"{name} = {shown(value)} is a path, not a text: pass mos.sampling.prompts.read_prompts of it, or its str()"
        )
    if not isinstance(value, str):
        raise UserError(f"{name} = {shown(value)} is not a text: pass a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{name} = {shown(value)} is not Unicode text: {error.reason}") from error
    return str(value)


def texts(name: str, values: object) -> list[str]:
    """One text, or several.

    Raises:
        UserError: it is neither, or there is none.
    """
    several = None if isinstance(values, str) else _items(values)
    if several is None:
        return [text(name, values)]
    items = [text(f"{name}[{index}]", value) for index, value in enumerate(several)]
    if not items:
        raise UserError(f"no {name} were given: pass at least one")
    return items


def seeds(value: object, num: int) -> list[int]:
    """Seeds of `num` pictures in [0, 2^64): `value` + i for picture i, or its own entry of a sequence.

    Raises:
        UserError: a seed is no whole number in `SEEDS`, or there is not one for each picture.
    """
    several = None if isinstance(value, str) else _items(value)
    if several is None:
        first = _seed(value)
        several = [first + index for index in range(num)]
    return [_seed(item) % 2**64 for item in one_each("seed", several, num)]


def one_each(name: str, values: Sequence[T], num: int) -> list[T]:
    """The values, one for each prompt.

    Raises:
        UserError: there are more or fewer.
    """
    if len(values) != num:
        raise UserError(f"{len(values)} values of {name} for {num} prompts: pass one, or one for each")
    return list(values)


def switch(name: str, value: object) -> bool:
    """On or off.

    Raises:
        UserError: it is neither.
    """
    if not _is_bool(value):
        raise UserError(f"{name} = {shown(value)} is refused: pass True or False")
    return bool(value)


def sampler(
    num_inference_steps: object, guidance_scale: object, guidance_rescale: object, schedule: object
) -> SamplerConfig:
    """The solver's settings.

    Raises:
        UserError: one is out of range.
    """
    settings = {
        "steps": whole("num_inference_steps", num_inference_steps),
        "guidance": number("guidance_scale", guidance_scale),
        "guidance_rescale": number("guidance_rescale", guidance_rescale),
        "schedule": schedule,
    }
    try:
        return SamplerConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        name = {"steps": "num_inference_steps", "guidance": "guidance_scale"}.get(str(first["loc"][0]), first["loc"][0])
        raise UserError(f"{name} = {shown(first['input'])} is refused: {message}") from error


def shown(value: object) -> str:
    """A value in one line of bounded length."""
    line = " ".join(repr(value).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _seed(value: object) -> int:
    seed = _index(value)
    if seed is None or seed not in SEEDS:
        raise UserError(f"seed = {shown(value)} is refused: pass a whole number from -2**63 to 2**64 - 1")
    return seed


def _index(value: object) -> int | None:
    """The whole number that a value is; None if it is none."""
    if _is_bool(value) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of numpy has the method and is no number
        return None


def _is_bool(value: object) -> bool:
    return isinstance(value, bool | np.bool)


def _items(value: object) -> list[object] | None:
    """Items of a value, in its order; None where it is no collection, or one without an order."""
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping | Set):
        return None
    try:
        return list(value)
    except TypeError:  # an array of numpy or torch without dimensions
        return None
