"""A function's settings: one frozen dataclass, read from the environment once."""

import dataclasses
import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

Settings = TypeVar("Settings")
Made = TypeVar("Made")

_READERS: dict[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: lambda text: text.lower() == "true",
}


def read_settings(cls: type[Settings]) -> Settings:
    """Fill the dataclass `cls` from the environment: the field `bucket_name` from BUCKET_NAME.

    Raises RuntimeError that names the missing variable, or the one that does not have the field's type.
    """
    hints = get_type_hints(cls)
    return cls(**{field.name: _read(field.name.upper(), hints[field.name]) for field in dataclasses.fields(cls)})  # type: ignore[arg-type]


def at_start(make: Callable[[], Made]) -> "_lru_cache_wrapper[Made]":
    """Make settings or clients once: on Lambda while the function starts, elsewhere at the first call."""
    made = cache(make)
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        made()
    return made


def _read(variable: str, kind: type) -> object:
    try:
        return _READERS[kind](os.environ[variable])
    except KeyError:
        raise RuntimeError(f"The environment variable {variable} is not set.") from None
    except ValueError:
        raise RuntimeError(f"The environment variable {variable} is not a valid {kind.__name__}.") from None
