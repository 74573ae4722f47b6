"""The names under which filters know the loss of a stage on a sample, and what of a filter does without."""

import re

from mos.tables.conditions import conditions, names

PREFIX = "loss_"
_COLUMN = re.compile(PREFIX + r"(?:stage[1-4]|edit)")


def loss_column(stage: str) -> str:
    """Name of the column of the samples table."""
    return PREFIX + stage


def stages_named(sql: str) -> tuple[str, ...]:
    """The stages whose losses a filter names, sorted."""
    return tuple(sorted(column.removeprefix(PREFIX) for column in names(sql, _COLUMN)))


def without_losses(sql: str) -> str:
    """A filter that keeps every sample which the given one may keep, whatever its losses are.

    Conditions that name a loss are left out, so what they choose from can be encoded before there is any loss.
    """
    if not stages_named(sql):
        return sql
    return " AND ".join(condition for condition in conditions(sql) if not stages_named(condition))
