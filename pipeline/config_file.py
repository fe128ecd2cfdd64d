"""YAML and `--set a.b=c` -> a typed configuration: one file per experiment, for what differs from the defaults.

Unknown keys are refused with the nearest known name.
"""

from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.config_section import Section
from pipeline.errors import ConfigError, nearest


class _Loader(yaml.SafeLoader):
    """YAML in which a date stays the text it is."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load_config(path: Path | str | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a YAML file (None: all defaults) and apply `a.b=value` overrides; values are YAML too.

    Raises ConfigError naming the key, what was expected and the nearest known name.
    """
    data: Any = {}
    if path is not None:
        try:
            data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
        except FileNotFoundError:
            raise ConfigError(f"no config file at {path}") from None
        except OSError as error:
            raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{path} must hold a mapping of settings, not a {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        where = f"{path}: " if path else ""
        raise ConfigError(where + "; ".join(_explain(e) for e in error.errors())) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes a.b=value, but got {override!r}")
    *parents, leaf = key.split(".")
    for parent in parents:
        if data.get(parent) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise ConfigError(f"--set {key}: `{parent}` is a single value, not a section")
    try:
        data[leaf] = yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {key}: {value!r} is not a YAML value") from None


def _explain(error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    if error["type"] != "extra_forbidden":
        return f"`{'.'.join(location)}`: {error['msg']}, but got {error['input']!r}"
    known = _section_keys(location[:-1])
    return f"unknown setting `{'.'.join(location)}`.{nearest(location[-1], known) or f' Known here: {sorted(known)}'}"


def _section_keys(location: list[str]) -> list[str]:
    """The keys of the section at `location`, seen through lists (`item_fields.0.kind`) and names (`space.NAME.low`)."""
    section: Any = Config
    for part in location:
        if part not in section.model_fields:
            continue
        annotation = section.model_fields[part].annotation
        inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, Section)]
        section = inner[0] if inner else annotation
    return list(section.model_fields)
