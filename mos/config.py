"""Configs are data: a TOML file and `key=value` overrides in, one frozen and checked object out."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mos.errors import UserError


class StrictConfig(BaseModel):
    """Base of every config: frozen, no unknown keys, each field documented by the string below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML file, apply `section.key=value` overrides and validate.

        Raises:
            UserError: the file is missing or is not TOML, an override is not `key=value`, a key is unknown
                or a value is out of range.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"config {path} does not exist: name a TOML file such as pipelines/configs/demo.toml")
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"config {path} is not valid TOML: {error}") from error
        for override in overrides:
            _apply(tree, override)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"config {path}: {_explain(error)}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key of a parsed TOML tree; the value is TOML where it parses and a string where not."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UserError(f"override {override!r} is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UserError(f"override {override!r}: {parent!r} is a value, not a section")
    node[leaf] = value


def _explain(error: ValidationError) -> str:
    """One clause for each thing pydantic found wrong."""
    clauses = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            clauses.append(f"unknown key {key!r} (value {item['input']!r}): remove it or correct its spelling")
        else:
            clauses.append(f"{key!r} = {item['input']!r} is refused: {item['msg']}")
    return "; ".join(clauses)
