"""How the reconciler reads answers of ElevenLabs: one odd field never costs the rest."""

from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

_LAST_SECOND = 9_999_999_999  # in 2286


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """A field that is not what it used to be is as good as absent: one odd field never costs the call."""
    try:
        return read(value)
    except ValidationError:
        return None


Kind = TypeVar("Kind")
Loose = Annotated[Kind | None, WrapValidator(_or_none)]
Seconds = Annotated[float, Field(ge=0, le=_LAST_SECOND)]


class Sent(BaseModel):
    """A part of what ElevenLabs sends: only what we use of it, all of it optional."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)
