"""Values from a user's file or command line, validated: pydantic's errors in one readable line."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rdmodels.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], *, where: str = "") -> Model:
    """`model` of `values`, with pydantic's errors turned into one readable `ConfigError`."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or model.__name__} must be a mapping of fields, got {values!r}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, where)) from error


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in ([where] if where else []) + list(item["loc"]))
        if item["type"] == "extra_forbidden":
            names = _fields_at(model, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(names)}"
            lines.append(f"{path}: no such field (value {item['input']!r}); {hint}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            shown = "" if isinstance(item["input"], Mapping) else f", got {item['input']!r}"
            lines.append(f"{path}: {message}{shown}" if path else f"{message}{shown}")
    return "; ".join(lines)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
