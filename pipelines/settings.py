"""The settings of a config section as text for `--help`: key, default, and the docstring of its field."""

import textwrap
import types
import typing
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from mos.config import StrictConfig
from pipelines.run_config import RunConfig

WIDTH = 110


def describe_section(name: str) -> str:
    """Every setting of a section of the run, nested ones as dotted keys."""
    field = RunConfig.model_fields[name]
    (section,) = _configs(field.annotation)
    lines = [f"settings of [{name}] (override any as key=value; each TOML in pipelines/configs shows them in use):", ""]
    for key, item in _settings(section):
        default = "required" if item.is_required() else f"default {_brief(item)}"
        lines.append(f"  {key}  ({default})")
        text = " ".join((item.description or "").split())
        lines.extend(textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)


def _settings(section: type[StrictConfig], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, item in section.model_fields.items():
        nested = _configs(item.annotation)
        if len(nested) == 1 and "type" not in nested[0].model_fields:
            yield from _settings(nested[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def _configs(annotation: object) -> list[type[StrictConfig]]:
    """The config classes that a field's value may be an instance of; collections of configs count as plain values."""
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [config for part in typing.get_args(annotation) for config in _configs(part)]
    return []


def _brief(item: FieldInfo) -> str:
    default = item.get_default(call_default_factory=True)
    if isinstance(default, StrictConfig):
        return ", ".join(f"{key} = {value}" for key, value in default.model_dump(mode="json").items())
    return repr(default)
