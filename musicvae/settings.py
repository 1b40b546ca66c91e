"""Settings: YAML and `key.sub=value` in, frozen and validated models out."""

import ast
import difflib
import inspect
import re
import textwrap
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musicvae.errors import ConfigError, NotThereError

FLOAT_TAG = "tag:yaml.org,2002:float"
PLAIN_VALUES = (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$", "-+0123456789"),
    (
        FLOAT_TAG,
        r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        "-+0123456789.",
    ),
)
"""What YAML 1.1 takes for values, without octal numbers and those to the base of 60; what a value may begin with."""
Probability = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Base of every settings model: immutable, and an unknown key is an error."""

    # Defaults are validated too: a default 48 and a typed 48.0 have to be the same setting, with the same run id.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def field_docs(kind: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field of a settings model.

    pydantic's `use_attribute_docstrings` reads them where the model is defined, which is a fifth of a command's start.
    """
    docs: dict[str, str] = {}
    for part in reversed(kind.mro()):
        if not issubclass(part, BaseModel) or part is BaseModel:
            continue
        (defined,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        for field, below in pairwise(defined.body if isinstance(defined, ast.ClassDef) else []):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = inspect.cleandoc(text)
    return docs


def parse_settings(kind: type[S], values: Mapping[str, Any]) -> S:
    """Validates a nested mapping.

    Raises:
        ConfigError: an unknown key (with the nearest legal one), or values out of range, all of them at once; or what a
            validator of the model raised as one.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for item in error.errors():
            if isinstance(refused := item.get("ctx", {}).get("error"), ConfigError):
                raise refused from None
        problems = [_explain(kind, item) for item in error.errors()]
        raise ConfigError(
            "the configuration cannot be used",
            expected="known settings with values in range",
            found="; ".join(problems),
            do="correct the setting; `--print-config` shows all settings with their values",
        ) from None


def _explain(kind: type[Settings], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    name = ".".join(path)
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        whole = not name and isinstance(error["input"], Mapping)
        return message if whole else f"{name or 'settings'} = {error['input']!r}: {message}"
    return f"unknown setting {name} ({nearest(path, _dotted_names(kind))})"


def nearest(path: list[str], legal: list[str]) -> str:
    """The legal name that was probably meant: one like it in its own group, else one like it in any group."""
    group = ".".join(path[:-1])
    siblings = [key for key in legal if key.rpartition(".")[0] == group]
    for candidates, cutoff in ((siblings, 0.5), (legal, 0.7)):
        by_last = {key.rpartition(".")[2]: key for key in reversed(candidates)}
        if near := difflib.get_close_matches(path[-1], by_last, n=1, cutoff=cutoff):
            return f"did you mean {by_last[near[0]]}?"
    return f"allowed: {', '.join(siblings)}"


def _dotted_names(kind: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for key, field in kind.model_fields.items():
        names.append(prefix + key)
        for part in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names += _dotted_names(part, f"{prefix}{key}.")
    return names


def load_yaml(text: str) -> Any:
    """What a text of YAML holds; numbers with leading zeros, dates, times, `on` and `off` are words.

    A setting reads a word by its own type: 010 is ten as a number, and stays 010 as a name.

    Raises:
        yaml.YAMLError: no YAML, or one that refers to itself or is nested too deep, which may grow without bounds.
    """
    import yaml  # not where a setting is defined: an exported model is loaded without it

    try:
        return yaml.load(text, _loader())
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


@cache
def _loader() -> Any:
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not supported; write the value itself")
            return super().compose_node(parent, index)

    words = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", FLOAT_TAG}
    PlainLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in words]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, first in PLAIN_VALUES:
        PlainLoader.add_implicit_resolver(tag, re.compile(pattern, re.VERBOSE), list(first))
    return PlainLoader


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        NotThereError: no such file.
        ConfigError: no YAML, or no mapping.
    """
    import yaml

    try:
        values = load_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        kind = NotThereError if isinstance(error, FileNotFoundError) else ConfigError
        raise kind(
            f"cannot read {path}", found=str(error), do="correct the path, or the permissions of the file"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(f"cannot use {path}", expected="`key: value` lines", found=type(values).__name__)
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of nested settings with `key.sub=value` overrides applied in order; values are read as YAML.

    Raises:
        ConfigError: an override without '=', one that YAML cannot read, or one that goes through a plain value.
    """
    import yaml

    result = _copy(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(
                f"cannot read {override!r}",
                expected="key.sub=value",
                likely="an option without its two dashes, or spaces around '='",
            )
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot read the value of {path}", found=f"{text!r}: {error}") from None
        _set(result, path, value)
    return result


def apply_values(values: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with those of dotted names set.

    Raises:
        ConfigError: a name goes through a plain value.
    """
    result = _copy(values)
    for path, value in changed.items():
        _set(result, path, value)
    return result


def without_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings without those of dotted names that have the value given for them.

    An identity (a run id, a recipe) leaves a setting that was added later out at the value that everything had before
    it was there. So whatever was made before keeps its identity.
    """
    result = _copy(values)
    for path, value in defaults.items():
        *parents, last = path.split(".")
        level: Any = result
        for part in parents:
            level = level.get(part) if isinstance(level, dict) else None
        if isinstance(level, dict) and last in level and level[last] == value:
            del level[last]
    return result


def unknown_setting(kind: type[Settings], name: str) -> str | None:
    """What is wrong with a dotted name that is to hold a value; None if nothing is."""
    legal = _dotted_names(kind)
    if name not in legal:
        return f"unknown setting {name} ({nearest(name.split('.'), legal)})"
    if inside := [other for other in legal if other.startswith(f"{name}.")]:
        return f"{name} is a group of settings ({', '.join(inside)})"
    return None


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    level = values
    for part in parents:
        level = level.setdefault(part, {})
        if not isinstance(level, dict):
            raise ConfigError(f"cannot set {path}", found=f"{part} is a value, not a group of settings")
    level[last] = value


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
