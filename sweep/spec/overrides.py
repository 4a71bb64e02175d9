"""A sweep's YAML as plain values, and values put over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rdmodels.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: if the file is missing, is no YAML, or holds something else than a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read ({reason})") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML ({reason})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of fields, got {values!r}")
    return values


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with each `path.to.field=value` put in; values are YAML, null removes a field.

    Raises:
        ConfigError: if an override has no `=`, or goes through something that has no fields.
    """
    out: dict[str, Any] = {**values}
    for text in overrides:
        path, separator, raw = text.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"--set takes path.to.field=value, got {text!r}")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {path}: {raw!r} is not a YAML value") from error
        out = _put(out, keys, value, path)
    return out


def _put(values: Mapping[str, Any], keys: list[str], value: Any, path: str) -> dict[str, Any]:
    head, *rest = keys
    if not rest and value is None:
        return {name: known for name, known in values.items() if name != head}
    if not rest:
        return {**values, head: value}
    inner = values.get(head, {})
    if not isinstance(inner, dict):
        raise ConfigError(f"--set {path}: {head} is {inner!r}, which has no fields to set")
    return {**values, head: _put(inner, rest, value, path)}
