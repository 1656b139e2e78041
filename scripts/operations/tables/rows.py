"""A call as rows of flat tables. The annotation of a field is its type and its meaning in every table.

A value of an unexpected type counts as absent, as everywhere in this project. Half a surrogate pair, which no UTF-8 can
hold, becomes U+FFFD. Values that may be anything are JSON texts, with every digit as it came.
"""

from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, get_type_hints

from shared.call import Call

Texts = str | None


@dataclass(frozen=True, slots=True)
class CallRow:
    conversation_id: Annotated[str, "ElevenLabs' id of the call"]
    agent_id: Annotated[Texts, "ElevenLabs' id of the agent"]
    agent_name: Annotated[Texts, "the agent's name at the time of the call"]
    caller: Annotated[Texts, "the caller's number, in international form with a +, else digits as they came"]
    direction: Annotated[Texts, "inbound or outbound"]
    started_at: Annotated[datetime | None, "when the call began, UTC"]
    archived_at: Annotated[datetime | None, "when the call was archived first, UTC"]
    seconds: Annotated[int | None, "the call's length in seconds"]
    status: Annotated[Texts, "ElevenLabs' status, such as done or failed"]
    outcome: Annotated[Texts, "success, failure or unknown, as ElevenLabs judged the call"]
    termination_reason: Annotated[Texts, "why the call ended"]
    language: Annotated[Texts, "the main language, such as en"]
    title: Annotated[Texts, "ElevenLabs' title of the call"]
    summary: Annotated[Texts, "ElevenLabs' summary of the call"]
    turns: Annotated[int | None, "number of turns in the transcript"]
    user_turns: Annotated[int | None, "number of turns of the caller with words"]
    tool_calls: Annotated[int | None, "number of tool calls"]
    cost: Annotated[int | None, "ElevenLabs' credits"]
    cost_fiat: Annotated[Decimal | None, "ElevenLabs' cost_fiat, an amount of money"]
    origin: Annotated[Texts, "webhook, or api if the reconciler fetched the call"]
    audio: Annotated[Texts, "archived, pending, unavailable or none"]
    memory_factual: Annotated[Texts, "state of the factual memory in the ledger; done when Mem0 has it"]
    memory_semantic: Annotated[Texts, "state of the semantic memory in the ledger"]
    has_json: Annotated[bool, "false if the call's JSON could not be read: then only the record is known"]
    bytes: Annotated[int | None, "size of the call's JSON"]
    json_key: Annotated[Texts, "key of the JSON in the bucket"]
    mp3_key: Annotated[Texts, "key of the recording in the bucket"]


@dataclass(frozen=True, slots=True)
class TurnRow:
    conversation_id: Annotated[str, "the call"]
    turn: Annotated[int, "number of the turn in the transcript, from 0"]
    role: Annotated[Texts, "agent or user; of a recording that was transcribed, speaker_0 or speaker_1"]
    message: Annotated[Texts, "what was said; null in a turn with tools only"]
    original_message: Annotated[Texts, "the whole message, if the caller interrupted it"]
    interrupted: Annotated[bool | None, "whether the caller interrupted the agent"]
    at_secs: Annotated[float | None, "second of the call in which the turn began"]
    source_medium: Annotated[Texts, "audio, dtmf, text, image or file; transcribe: heard by Amazon Transcribe"]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    conversation_id: Annotated[str, "the call"]
    criterion: Annotated[str, "ElevenLabs' id of the criterion"]
    result: Annotated[Texts, "success, failure or unknown"]
    rationale: Annotated[Texts, "why, in the words of ElevenLabs"]


@dataclass(frozen=True, slots=True)
class CollectedRow:
    conversation_id: Annotated[str, "the call"]
    name: Annotated[str, "ElevenLabs' id of the value"]
    value: Annotated[Texts, "the value as JSON"]
    rationale: Annotated[Texts, "why, in the words of ElevenLabs"]


@dataclass(frozen=True, slots=True)
class ToolRow:
    conversation_id: Annotated[str, "the call"]
    turn: Annotated[int, "turn in which the tool was called"]
    request_id: Annotated[Texts, "ElevenLabs' id of the tool call"]
    tool: Annotated[Texts, "name of the tool"]
    type: Annotated[Texts, "webhook, client, mcp, system or another type"]
    arguments: Annotated[Texts, "arguments as JSON"]
    result: Annotated[Texts, "the answer: a text as it is, anything else as JSON"]
    is_error: Annotated[bool | None, "whether it failed; null if there is no answer"]
    error_type: Annotated[Texts, "kind of error"]
    latency_secs: Annotated[float | None, "seconds until the answer"]


@dataclass(frozen=True)
class CallRows:
    """All rows of one call."""

    calls: list[CallRow]
    turns: list[TurnRow] = field(default_factory=list)
    evaluation: list[EvaluationRow] = field(default_factory=list)
    collected: list[CollectedRow] = field(default_factory=list)
    tools: list[ToolRow] = field(default_factory=list)

    @property
    def call(self) -> CallRow:
        return self.calls[0]


TABLES: dict[str, type] = {
    "calls": CallRow, "turns": TurnRow, "evaluation": EvaluationRow, "collected": CollectedRow, "tools": ToolRow,
}  # fmt: skip
_KINDS = {str: "text", int: "integer", float: "number", Decimal: "decimal", bool: "boolean", datetime: "timestamp"}


@dataclass(frozen=True)
class Column:
    """`kind` is text, integer, number, decimal, boolean or timestamp."""

    name: str
    kind: str
    meaning: str


def columns(table: str) -> list[Column]:
    hints = get_type_hints(TABLES[table], include_extras=True)
    return [Column(name, _kind(hint.__origin__), hint.__metadata__[0]) for name, hint in hints.items()]


def _kind(annotation: Any) -> str:
    return next(kind for python, kind in _KINDS.items() if python in getattr(annotation, "__args__", (annotation,)))


def record_only(call: Call, memories: dict[str, str], **known: Any) -> CallRow:
    """A row from the record; `known` are the facts of the call's JSON. `memories` are the states in the ledger."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("agent_name", "direction", "termination_reason", "language", "turns", "user_turns", "tool_calls", "cost_fiat",
         "bytes")
    )  # fmt: skip
    told: dict[str, Any] = {
        "agent_id": call.agent_id, "started_at": _time(call.started_at), "seconds": _whole(call.duration_secs),
        "status": call.status, "outcome": call.call_successful, "title": call.title, "summary": call.summary,
        "cost": _whole(call.cost), "has_json": False,
    }  # fmt: skip
    origin = None if call.t_order is None else "webhook" if call.t_order.startswith("1") else "api"
    return CallRow(
        conversation_id=call.conversation_id, caller=call.external_number, archived_at=_time(call.archived_at),
        origin=origin, audio=call.audio, json_key=call.json_key, mp3_key=call.mp3_key,
        memory_factual=memories.get("memory#factual"), memory_semantic=memories.get("memory#semantic"),
        **nothing | told | known,
    )  # fmt: skip


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(timezone.utc) if text else None


def _whole(number: Any) -> int | None:
    """DynamoDB's numbers are decimals."""
    return None if number is None else int(number)
