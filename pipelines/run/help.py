"""The settings of a config section as text for `--help`: key, default, and the docstring of its field.

They are read from the source of the config classes, since importing those takes seconds: they stand beside what they
configure, and that needs torch.
"""

import ast
import builtins
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mos.checkout import CLONE

WIDTH = 110
REQUIRED = object()
"""Stands for the default of a setting that has none."""


@dataclass(frozen=True)
class Module:
    """A module's top level, by name."""

    imports: Mapping[str, tuple[str, str]]
    """Name here -> module and name there."""
    classes: Mapping[str, ast.ClassDef]
    values: Mapping[str, ast.expr]
    """What is assigned."""


@dataclass(frozen=True)
class ConfigClass:
    """A config class as it is written."""

    module: str
    node: ast.ClassDef


@dataclass(frozen=True)
class Setting:
    """A field of a config class as it is written."""

    module: str
    """Where the names in its annotation and default are known."""
    annotation: ast.expr
    default: ast.expr | None
    description: str


def describe_section(name: str) -> str:
    """Every setting of a section of the run, nested ones as dotted keys."""
    (section,) = config_classes("pipelines.run.config", settings_of(run_config())[name].annotation)
    lines = [f"settings of [{name}] (override any as key=value; each TOML in pipelines/configs shows them in use):", ""]
    for key, setting in nested_settings(section):
        default = default_of(setting)
        lines.append(f"  {key}  ({'required' if default is REQUIRED else f'default {brief(default)}'})")
        lines.extend(textwrap.wrap(setting.description, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines)


def sections() -> frozenset[str]:
    """The first keys of a run's config."""
    return frozenset(settings_of(run_config()))


def run_config() -> ConfigClass:
    """The config of a whole run."""
    found = find_class("pipelines.run.config", "RunConfig")
    assert found is not None
    return found


def nested_settings(section: ConfigClass, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Dotted keys of a section's settings; a choice between configs, told apart by `type`, is one setting."""
    for name, setting in settings_of(section).items():
        nested = config_classes(setting.module, setting.annotation)
        if len(nested) == 1 and "type" not in settings_of(nested[0]):
            yield from nested_settings(nested[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", setting


def settings_of(config: ConfigClass) -> dict[str, Setting]:
    """The fields of a class, those of its bases first, the last base before the others, as pydantic has them."""
    settings: dict[str, Setting] = {}
    for base in reversed(config.node.bases):
        inherited = find_class(config.module, base.id) if isinstance(base, ast.Name) else None
        settings |= {} if inherited is None else settings_of(inherited)
    body = config.node.body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        match node:
            case ast.AnnAssign(annotation=ast.Subscript(value=ast.Name(id="ClassVar"))):
                continue
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value) if name[0] != "_":
                settings[name] = Setting(config.module, annotation, value, _text(after))
    return settings


def config_classes(module: str, annotation: ast.expr) -> list[ConfigClass]:
    """The config classes that a setting's value may be of; collections of configs count as plain values."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return config_classes(module, left) + config_classes(module, right)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[annotated, *_])):
            return config_classes(module, annotated)
        case ast.Name(id=name):
            config = find_class(module, name)
            if config is not None:
                return [config] if is_config(config) else []
            alias = find_value(module, name)
            return [] if alias is None else config_classes(*alias)
    return []


def is_config(config: ConfigClass) -> bool:
    """True if a class is a `StrictConfig`."""
    if config.node.name == "StrictConfig":
        return True
    bases = [find_class(config.module, base.id) for base in config.node.bases if isinstance(base, ast.Name)]
    return any(base is not None and is_config(base) for base in bases)


def default_of(setting: Setting) -> Any:
    """The default as a plain value (a config is a dict), `REQUIRED`, or its source where that is no literal."""
    match setting.default:
        case None | ast.Constant(value=builtins.Ellipsis):
            return REQUIRED
        case ast.Call(func=ast.Name(id="Field"), args=args, keywords=keywords):
            options = {keyword.arg: keyword.value for keyword in keywords}
            if "default_factory" in options:
                return _made_by(setting.module, options["default_factory"])
            default = args[0] if args else options.get("default")
            return REQUIRED if default is None else _value(setting.module, default)
        case default:
            return _value(setting.module, default)


def brief(default: Any) -> str:
    """A default in a line."""
    if isinstance(default, Default):
        return ", ".join(f"{key} = {value}" for key, value in default.items())
    return repr(default)


class Default(dict[str, Any]):
    """The fields of a config that is a default."""


class Source(str):
    """A default that is no plain value, as it is written."""

    __repr__ = str.__str__


def find_class(module: str, name: str) -> ConfigClass | None:
    """The class that a name means in a module of the project."""
    known = read_module(module)
    if known is None:
        return None
    if name in known.classes:
        return ConfigClass(module, known.classes[name])
    return find_class(*known.imports[name]) if name in known.imports else None


def find_value(module: str, name: str) -> tuple[str, ast.expr] | None:
    """Value that a name is assigned in a module of the project, and the module where it is."""
    known = read_module(module)
    if known is None:
        return None
    if name in known.values:
        return module, known.values[name]
    return find_value(*known.imports[name]) if name in known.imports else None


@lru_cache
def read_module(name: str) -> Module | None:
    """A module of the project, None for any other."""
    path = CLONE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        return None
    imports: dict[str, tuple[str, str]] = {}
    classes: dict[str, ast.ClassDef] = {}
    values: dict[str, ast.expr] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ImportFrom(module=str(source), names=names):
                imports |= {item.asname or item.name: (source, item.name) for item in names}
            case ast.ClassDef():
                classes[node.name] = node
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                values[target] = value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                values[target] = value
    return Module(imports, classes, values)


def _value(module: str, node: ast.expr) -> Any:
    """Evaluate a default: literals, sums and products of them, named constants, configs; else its source."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            given = {keyword.arg: _value(module, keyword.value) for keyword in keywords}
            config = find_class(module, name)
            if config is not None:
                return Default({key: given.get(key, default_of(item)) for key, item in settings_of(config).items()})
        case ast.Call(func=ast.Name(id="dict"), args=[copied]):
            return _value(module, copied)
        case ast.Name(id=name):
            found = find_value(module, name)
            return Source(name) if found is None else _value(*found)
    try:
        return eval(compile(ast.Expression(node), module, "eval"), {"__builtins__": {}})
    except (NameError, TypeError):
        return Source(ast.unparse(node))


def _made_by(module: str, factory: ast.expr) -> Any:
    """Result of a factory without arguments."""
    match factory:
        case ast.Lambda(body=body):
            return _value(module, body)
        case ast.Name(id="dict" | "list" | "tuple" as name):
            return {"dict": {}, "list": [], "tuple": ()}[name]
    return _value(module, ast.Call(factory, [], []))


def _text(node: ast.stmt) -> str:
    """The string that a statement is, in one line."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(text.split())
    return ""
