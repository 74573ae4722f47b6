"""What identifies the work that a config describes: the settings that change its numbers.

Every setting of a step is of one kind, which is declared beside it: `batch_size: Annotated[int, NUMBERS]`. Work is
found again by its settings of the kind NUMBERS alone, so one of another kind may change while it is under way.
"""

from enum import StrEnum
from typing import Any

from pydantic.fields import FieldInfo

from mos.config import StrictConfig


class Kind(StrEnum):
    """Kinds of setting."""

    NUMBERS = "numbers"
    """Changes what comes out: another value is other work, which begins anew."""
    HOW_FAR = "how far"
    """The same work, shorter or longer: it goes on, or ends."""
    HOW = "how"
    """The same work done in another way: faster, in less memory, with other logs. It goes on at once."""


NUMBERS, HOW_FAR, HOW = Kind


def kind_of(setting: FieldInfo) -> Kind | None:
    """The kind that a setting declares; None for a section whose own settings declare theirs."""
    declared = [item for item in setting.metadata if isinstance(item, Kind)]
    return declared[0] if declared else None


def numbers_of(config: StrictConfig) -> dict[str, Any]:
    """The settings that change the numbers, as plain data.

    Raises:
        TypeError: a setting declares no kind.
    """
    dumped, numbers = config.model_dump(mode="json"), {}
    for name, setting in type(config).model_fields.items():
        kind, value = kind_of(setting), getattr(config, name)
        if kind is NUMBERS:
            numbers[name] = dumped[name]
        elif kind is None and isinstance(value, StrictConfig):
            numbers[name] = numbers_of(value)
        elif kind is None:
            raise TypeError(f"{type(config).__name__}.{name} declares no kind, of {', '.join(Kind)}")
    return numbers
