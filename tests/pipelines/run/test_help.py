"""What is read from the source of the configs is what pydantic makes of them."""

import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from mos.config import StrictConfig
from pipelines.run.config import RunConfig
from pipelines.run.help import (
    REQUIRED,
    Default,
    brief,
    config_classes,
    default_of,
    describe_section,
    nested_settings,
    run_config,
    sections,
    settings_of,
)

CONFIGS = [
    name
    for name, field in RunConfig.model_fields.items()
    if name not in ("name", "root", "tables", "seed", "held_out") and field
]


def configs_of(annotation: object) -> list[type[StrictConfig]]:
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return [config for part in typing.get_args(annotation) for config in configs_of(part)]
    return []


def fields_of(section: type[StrictConfig], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        nested = configs_of(field.annotation)
        if len(nested) == 1 and "type" not in nested[0].model_fields:
            yield from fields_of(nested[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def plain(value: object) -> object:
    """As the source has it: enums by their names, tuples in a config's JSON as they are."""
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case StrictConfig():
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        case dict():
            return {plain(key): plain(item) for key, item in value.items()}
    return value


def test_every_section_is_known() -> None:
    assert sections() == RunConfig.model_fields.keys()


@pytest.mark.parametrize("section", CONFIGS)
def test_a_section_reads_as_pydantic_sees_it(section: str) -> None:
    (model,) = configs_of(RunConfig.model_fields[section].annotation)
    (source,) = config_classes("pipelines.run.config", settings_of(run_config())[section].annotation)
    expected, found = dict(fields_of(model)), dict(nested_settings(source))
    assert list(found) == list(expected)
    for key, field in expected.items():
        assert found[key].description == " ".join((field.description or "").split()), key
        default = default_of(found[key])
        assert (default is REQUIRED) == field.is_required(), key
        if default is not REQUIRED and key != "weights":
            assert default == plain(field.get_default(call_default_factory=True)), key


def test_enums_read_as_they_are_written() -> None:
    assert "default {Category.SINGLE_OBJECT: 0.4, Category.COLORS: 0.15" in describe_section("shapes")


def test_a_default_that_is_a_config_shows_its_fields() -> None:
    assert brief(Default(type="cache", num=2)) == "type = cache, num = 2"
    assert "states  (default type = cache)" in describe_section("stage1")


def test_reading_them_imports_nothing_heavy(clone: Path) -> None:
    code = (
        "import sys; from pipelines.run.help import *; [describe_section(name) for name in ('sample', 'stage1')]\n"
        "heavy = {'torch', 'ray', 'lance', 'pyarrow', 'numpy', 'pydantic', 'transformers'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=clone, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
