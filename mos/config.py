"""Configs are data: a TOML file and `key=value` overrides in, one frozen and checked object out."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mos.errors import UserError

_POINT_FIRST_OR_LAST = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")
"""Floats as Python writes them and TOML does not: `.5`, `5.`, `1.e-4`."""


class StrictConfig(BaseModel):
    """Base of every config: frozen, no unknown keys, finite numbers, each field documented by the string below it.

    A number may be Python's or NumPy's, a path a string or a `Path`, a sequence a list, a tuple or an array. A bool
    or a string is no number, whatever it would convert to.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys that were called something else: the name of before and that of today."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _in_plain_form(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        plain, mistakes = dict(data), []
        for name in data.keys() & cls.renamed.keys():
            today = PydanticCustomError("renamed", "it is called {name} today", {"name": cls.renamed[name]})
            mistakes.append(InitErrorDetails(type=today, loc=(name,), input=plain.pop(name)))
        for name in data.keys() & cls.model_fields.keys():
            annotation: Any = cls.model_fields[name].annotation
            try:
                plain[name] = _plain(data[name], _leaves(annotation))
            except PydanticCustomError as error:
                mistakes.append(InitErrorDetails(type=error, loc=(name,), input=data[name]))
        if mistakes:
            raise ValidationError.from_exception_data(cls.__name__, mistakes)
        return plain

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
            tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"config {path} is not valid TOML: {error}") from error
        except PermissionError as error:
            raise UserError(f"config {path} may not be read by this user: change its permissions") from error
        return cls._overridden(tree, overrides, f"config {path}: ")

    def changed(self, overrides: Sequence[str]) -> Self:
        """The same config with `section.key=value` overrides, validated anew.

        Raises:
            UserError: an override is not `key=value`, a key is unknown or a value is out of range.
        """
        return self._overridden(self.model_dump(), overrides, "")

    @classmethod
    def _overridden(cls, tree: dict[str, Any], overrides: Sequence[str], where: str) -> Self:
        """A parsed TOML tree with overrides, validated; what is wrong is told behind `where`."""
        for override in overrides:
            _apply(tree, override)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise UserError(f"{where}{_explain(error)}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    """Set one dotted key of a parsed TOML tree; the value is TOML where it parses and a string where not."""
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UserError(f"override {override!r} is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = float(text) if _POINT_FIRST_OR_LAST.fullmatch(text) else text
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise UserError(f"override {override!r}: {parent!r} is a value, not a section")
    node[leaf] = value


@cache
def _leaves(annotation: Any) -> frozenset[type]:
    """The types of single values that a field holds, at any depth of its tuples and among the values of its dicts."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return frozenset(map(type, args))
    if origin is Annotated:
        args = args[:1]
    elif isinstance(origin, type) and issubclass(origin, dict):
        args = args[1:]
    if args:
        return frozenset().union(*map(_leaves, args))
    return frozenset({annotation}) if isinstance(annotation, type) else frozenset()


def _plain(value: Any, leaves: frozenset[type]) -> Any:
    """The same value made of Python's own numbers, strings and lists.

    Raises:
        PydanticCustomError: a bool or a string stands where only numbers may.
    """
    match value:
        case np.ndarray():
            return _plain(value.tolist(), leaves)
        case np.generic():
            return _plain(value.item(), leaves)
        case list() | tuple():
            return [_plain(item, leaves) for item in value]
        case dict():
            return {key: _plain(item, leaves) for key, item in value.items()}
        case PurePath() if str in leaves:
            return str(value)
        case bool() if leaves & {int, float} and bool not in leaves:
            raise PydanticCustomError("bool_for_number", "a bool is no number")
        case str() if leaves & {int, float} and leaves <= {int, float, bool, type(None)}:
            raise PydanticCustomError("text_for_number", "a string is no number: write it without quotes")
    return value


def _explain(error: ValidationError) -> str:
    """One clause for each thing pydantic found wrong."""
    clauses = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            clauses.append(f"unknown key {key!r} (value {item['input']!r}): remove it or correct its spelling")
        elif item["type"] == "missing":
            clauses.append(f"{key!r} is missing: set it")
        else:
            clauses.append(f"{key!r} = {item['input']!r} is refused: {item['msg']}")
    return "; ".join(clauses)
