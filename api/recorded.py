"""What a call's JSON says beyond its record. Anything may be there; what is odd counts as absent."""

import json
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from api.replies import MOST_BYTES, size_of, to_json, too_large
from shared.conversation import Conversation, Turn
from shared.details import Analysis, Details, Metadata, Result, ToolPart, TurnPart, direction_of
from shared.parts import Json, fields, members, number, objects, read_json, restore, scalar, text
from shared.transcription import is_without_words

MOST_LEVELS = 50  # of nested values
MOST_OF_VALUE = 1_000_000  # bytes: as objects, they take many times as much memory
Hide = Callable[[str | None], str | None]  # masks phone numbers


class Recorded:
    """One JSON. Raises ValueError if it is none. `hide` masks numbers.

    `hear` reads what Amazon Transcribe heard in the recording: only if the JSON has no words.
    """

    def __init__(self, body: bytes, hide: Hide, hear: Callable[[], list[Turn]] = list) -> None:
        self._data, self._hide, self._hear = fields(Details, read_json(body)), hide, hear

    def facts(self) -> dict[str, Any]:
        metadata = fields(Metadata, self._data.metadata)
        return {
            "direction": self._hide(direction_of(metadata)),
            "language": self._text(metadata.main_language),
            "termination_reason": self._text(metadata.termination_reason),
            "evaluation": list(self._evaluation()),
            "collected": list(self._collected()),
        }

    def has_words(self) -> bool:
        return not is_without_words(Conversation(transcript=bytes(self._data.transcript)))

    def _heard(self) -> list[Turn]:
        return [] if self.has_words() else self._hear()

    def turns(self) -> str:
        """The turns as JSON. Raises ProblemError if they are too large; it stops reading there."""
        if words := self._heard():
            return to_json(heard(words, self._hide))
        written, size = [], 0
        for index, turn in enumerate(objects(TurnPart, self._data.transcript)):
            written.append(to_json(self._turn(index, turn)))
            size += size_of(written[-1])
            if size > MOST_BYTES:
                raise too_large()
        return f'{{"turns":[{",".join(written)}]}}'

    def said(self, indexes: Collection[int]) -> dict[int, dict[str, Any]]:
        """Who said what, and when, in these turns, by index."""
        if words := self._heard():
            return {
                index: {"role": turn.role, "message": self._hide(turn.message), "at_secs": turn.secs}
                for index, turn in enumerate(words) if index in indexes
            }  # fmt: skip
        last = max(indexes, default=-1)
        turns = islice(enumerate(objects(TurnPart, self._data.transcript)), last + 1)
        return {
            index: {
                "role": self._text(turn.role), "message": self._text(turn.message or turn.content),
                "at_secs": _seconds(turn.time_in_call_secs),
            }
            for index, turn in turns
            if index in indexes
        }  # fmt: skip

    def _evaluation(self) -> Iterator[dict[str, Any]]:
        analysis = fields(Analysis, self._data.analysis)
        named = list(members(analysis.evaluation_criteria_results))
        for id, part in [*named, *([("evaluation", analysis.evaluation)] if analysis.evaluation else [])]:
            found = fields(Result, part)
            yield self._named(id, found) | {
                "result": self._text(found.result),
                "rationale": self._text(found.rationale),
            }

    def _collected(self) -> Iterator[dict[str, Any]]:
        for id, part in members(fields(Analysis, self._data.analysis).data_collection_results):
            found = fields(Result, part)
            yield self._named(id, found) | {
                "value": self._value(restore(found.value)), "rationale": self._text(found.rationale)
            }  # fmt: skip

    def _named(self, id: str, found: Result) -> dict[str, Any]:
        return {"id": self._hide(id), "name": self._text(found.name) or self._hide(id)}

    def _turn(self, index: int, turn: TurnPart) -> dict[str, Any]:
        return {
            "index": index,
            "role": self._text(turn.role),
            "message": self._text(turn.message or turn.content),
            "original_message": self._text(turn.original_message),
            "interrupted": scalar(turn.interrupted) is True,
            "at_secs": _seconds(turn.time_in_call_secs),
            "tool_calls": [self._call(each) for each in objects(ToolPart, turn.tool_calls)],
            "tool_results": [self._result(each) for each in objects(ToolPart, turn.tool_results)],
        }

    def _call(self, tool: ToolPart) -> dict[str, Any]:
        given = text(tool.params_as_json)
        return {
            "id": self._text(tool.request_id), "name": self._text(tool.tool_name), "type": self._text(tool.type),
            "arguments": self._value(restore(tool.params_as_json) if given is None else _inner(given)),
        }  # fmt: skip

    def _result(self, tool: ToolPart) -> dict[str, Any]:
        return {
            "id": self._text(tool.request_id), "name": self._text(tool.tool_name),
            "result": self._value(restore(tool.result_value or tool.result)), "is_error": scalar(tool.is_error) is True,
            "latency_secs": _seconds(tool.tool_latency_secs), "error_type": self._text(tool.error_type),
        }  # fmt: skip

    def _text(self, part: Json) -> str | None:
        return self._hide(text(part))

    def _value(self, written: bytes) -> Any:
        """Any value. If JSON cannot express it, or it is nested too deeply, its text; None if it is absent."""
        if not written:
            return None
        if len(written) > MOST_OF_VALUE:
            return f"({len(written)} bytes: too large to be shown here)"
        try:
            return self._masked(json.loads(written, parse_constant=_refuse, parse_float=_finite), MOST_LEVELS)
        except (ValueError, RecursionError):
            return self._hide(written.decode(errors="replace"))

    def _masked(self, value: Any, levels: int) -> Any:
        if levels == 0:
            raise ValueError("nested too deeply")
        match value:
            case str():
                return self._hide(value)
            case dict():
                return {str(self._hide(name)): self._masked(each, levels - 1) for name, each in value.items()}
            case list():
                return [self._masked(each, levels - 1) for each in value]
            case bool():
                return value
            case int() | float():
                hidden = self._hide(str(value))
                return value if hidden == str(value) else hidden
        return value


def heard(turns: list[Turn], hide: Hide) -> dict[str, Any]:
    """What Amazon Transcribe heard, in the same form. Nobody knows which of its speakers is the agent."""
    return {
        "source": "transcribe",
        "turns": [
            {
                "index": index, "role": turn.role, "message": hide(turn.message), "original_message": None,
                "interrupted": False, "at_secs": turn.secs, "tool_calls": [], "tool_results": [],
            } for index, turn in enumerate(turns)
        ],
    }  # fmt: skip


def _inner(given: str) -> bytes:
    """JSON in a text; the text itself, as JSON, if it is none."""
    try:
        json.loads(given)
    except (ValueError, RecursionError):
        return json.dumps(given).encode()
    return given.encode(errors="surrogatepass")


def _seconds(part: Json) -> float | None:
    found = number(part)
    return found if found is not None and abs(found) < 1e12 else None


def _finite(written: str) -> float:
    found = float(written)
    if abs(found) == float("inf"):
        raise ValueError("too large")
    return found


def _refuse(_: str) -> Any:
    raise ValueError("not a number of JSON")
