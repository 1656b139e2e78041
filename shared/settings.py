"""Settings: one frozen dataclass per function, read from the environment on first use, which on Lambda is its start."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Settings = TypeVar("Settings")

_READERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: text.lower() == "true",
}


def read_settings(cls: type[Settings]) -> Settings:
    """Fill the dataclass `cls` from the environment: field `bucket_name` from BUCKET_NAME.

    Raises RuntimeError naming the variable that is missing or cannot be read as the field's type.
    """
    hints = get_type_hints(cls)
    return cls(**{field.name: _read(field.name.upper(), hints[field.name]) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def is_on_lambda() -> bool:
    """Whether this is a Lambda function: then its module makes settings and clients at once, before the first event."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def _read(variable: str, kind: type) -> object:
    try:
        return _READERS[kind](os.environ[variable])
    except KeyError:
        raise RuntimeError(f"The environment variable {variable} is not set.") from None
    except ValueError:
        raise RuntimeError(f"The environment variable {variable} is not a valid {kind.__name__}.") from None
