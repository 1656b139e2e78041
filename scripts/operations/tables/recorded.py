"""The rows in a call's JSON."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation

from scripts.operations.tables.rows import CallRows, CollectedRow, EvaluationRow, ToolRow, TurnRow, record_only
from shared.call import Call
from shared.conversation import Turn, read_conversation
from shared.details import Analysis, Details, Metadata, Result, ToolPart, TurnPart, direction_of
from shared.parts import Json, fields, members, number, objects, read_json, restore, scalar, text
from shared.transcription import is_without_words

CENTS = Decimal("0.000001")
_MOST_MONEY = Decimal(10) ** 12
_LONGEST = 1e9  # seconds: about 30 years


def read_rows(call: Call, memories: dict[str, str], body: bytes, hear: Callable[[], list[Turn]]) -> CallRows:
    """The rows of a call whose JSON is `body`. Raises ValueError if it is not JSON.

    If it has no words, the turns are those that Amazon Transcribe heard in the recording, which `hear` reads.
    """
    part = read_json(body)
    conversation, data = read_conversation(part), fields(Details, part)
    metadata, analysis = fields(Metadata, data.metadata), fields(Analysis, data.analysis)
    turns = list(objects(TurnPart, data.transcript))
    turn_rows = [_turn(call.conversation_id, index, turn) for index, turn in enumerate(turns)]
    if is_without_words(conversation):
        turn_rows = [_heard(call.conversation_id, *each) for each in enumerate(hear())] or turn_rows
    tools = _tools(call.conversation_id, turns)
    row = record_only(
        call, memories, has_json=True, bytes=len(body),
        agent_id=whole(conversation.agent_id), agent_name=_text(data.agent_name),
        direction=whole(direction_of(metadata)),
        started_at=conversation.started_at, seconds=conversation.duration_secs, status=whole(conversation.status),
        outcome=whole(conversation.call_successful), termination_reason=_text(metadata.termination_reason),
        language=_text(metadata.main_language), title=whole(conversation.title), summary=whole(conversation.summary),
        turns=len(turn_rows), user_turns=sum(each.role == "user" and _has_words(each) for each in turn_rows),
        tool_calls=len(tools), cost=conversation.cost, cost_fiat=_money(metadata.cost_fiat),
    )  # fmt: skip
    evaluation = [
        EvaluationRow(call.conversation_id, str(whole(each.name)), whole(each.result), whole(each.rationale))
        for each in conversation.criteria()
    ]
    return CallRows([row], turn_rows, evaluation, list(_collected(call.conversation_id, analysis)), tools)


def _has_words(turn: TurnRow) -> bool:
    return (turn.message or "").strip(". ") != ""  # "..." means that nothing was recognised


def _turn(call: str, index: int, turn: TurnPart) -> TurnRow:
    return TurnRow(
        call, index, _text(turn.role), _text(turn.message or turn.content), _text(turn.original_message),
        _flag(turn.interrupted), _seconds(turn.time_in_call_secs), _text(turn.source_medium),
    )  # fmt: skip


def _heard(call: str, index: int, turn: Turn) -> TurnRow:
    return TurnRow(call, index, turn.role, turn.message, None, None, turn.secs, "transcribe")


def _collected(call: str, analysis: Analysis) -> Iterator[CollectedRow]:
    for name, part in members(analysis.data_collection_results):
        found = fields(Result, part)
        yield CollectedRow(call, str(whole(name)), _json(found.value), _text(found.rationale))


def _tools(call: str, turns: list[TurnPart]) -> list[ToolRow]:
    """Each tool call with its answer, which has the same request id; then the answers to no call."""
    answers: dict[str | None, deque[tuple[int, ToolPart]]] = defaultdict(deque)
    for index, turn in enumerate(turns):
        for answer in objects(ToolPart, turn.tool_results):
            answers[_text(answer.request_id)].append((index, answer))
    rows = []
    for index, turn in enumerate(turns):
        for asked in objects(ToolPart, turn.tool_calls):
            waiting = answers.get(_text(asked.request_id))
            rows.append(_tool(call, index, asked, waiting.popleft()[1] if waiting else None))
    return rows + [_tool(call, index, answer, answer) for each in answers.values() for index, answer in each]


def _tool(call: str, index: int, asked: ToolPart, answer: ToolPart | None) -> ToolRow:
    told = answer or ToolPart()
    given = _text(asked.params_as_json)
    return ToolRow(
        call, index, _text(asked.request_id), _text(asked.tool_name), _text(asked.type),
        _json(asked.params_as_json) if given is None else given, _answer(told.result_value or told.result),
        None if answer is None else _flag(answer.is_error) is True, _text(told.error_type),
        _seconds(told.tool_latency_secs),
    )  # fmt: skip


def whole(written: str | None) -> str | None:
    """The text with U+FFFD for each half of a surrogate pair."""
    return None if written is None else written.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(part: Json) -> str | None:
    return whole(text(part))


def _answer(part: Json) -> str | None:
    found = _text(part)
    return _json(part) if found is None else found


def _json(part: Json) -> str | None:
    """Any value but null, as its JSON stands there."""
    written = restore(part).decode()
    return None if written in ("", "null") else written


def _flag(part: Json) -> bool | None:
    found = scalar(part)
    return found if isinstance(found, bool) else None


def _seconds(part: Json) -> float | None:
    found = number(part)
    return found if found is not None and abs(found) < _LONGEST else None


def _money(part: Json) -> Decimal | None:
    """An amount with six digits after the point; None if it has more than twelve before it."""
    try:
        found = Decimal(restore(part).decode().strip('"') or "x")
        return found.quantize(CENTS) if abs(found) < _MOST_MONEY else None
    except InvalidOperation:
        return None
