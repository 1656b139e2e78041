"""`ops calls` and `ops show`: what the page shows, on the terminal."""

import json
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from scripts.api_client import Answer, Api
from scripts.aws_session import OpsError, is_forbidden
from scripts.operations.stack import Stack
from scripts.operations.view import View, parse_time, several
from shared.aws_errors import AwsError
from shared.times import utc

OLDER = "This stack has no API to read calls. It is older than this command. Update it: make deploy"
MOST_PAGES = 100  # a page may be short, or empty, while more follow
COLUMNS = {
    "started_at": "Started", "caller": "Caller", "agent_id": "Agent", "duration_secs": "Seconds", "outcome": "Outcome",
    "audio": "Audio", "conversation_id": "Conversation", "title": "Title",
}  # fmt: skip
PARTS = {
    "evaluation": {"name": "Criterion", "result": "Result", "rationale": "Rationale"},
    "collected": {"name": "Name", "value": "Value", "rationale": "Rationale"},
    "memories": {"type": "Type", "state": "State", "reason": "Reason", "count": "Memories", "at": "At"},
}


def calls(
    context: typer.Context,
    text: Annotated[str, typer.Option(help="Words of the title or summary.")] = "",
    caller: Annotated[str, typer.Option(help="The caller's number, with or without +.")] = "",
    agent: Annotated[list[str] | None, typer.Option(help="Id of an agent. Can be repeated.")] = None,
    since: Annotated[str, typer.Option("--since", "--from", help="Calls from this time on, such as 7d.")] = "",
    until: Annotated[str, typer.Option("--until", "--to", help="Calls before this time.")] = "",
    min_seconds: Annotated[int | None, typer.Option(min=0, help="Calls of at least this duration.")] = None,
    max_seconds: Annotated[int | None, typer.Option(min=0, help="Calls of at most this duration.")] = None,
    outcome: Annotated[str, typer.Option(help="success, failure or unknown.")] = "",
    audio: Annotated[str, typer.Option(help="archived, pending, unavailable or none.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls to show at most.")] = 50,
) -> None:  # fmt: skip
    """List calls, newest first.

    The same filters are on the page (ops browse). Example: ops calls --text dog --since 30d
    """
    view: View = context.obj
    filters = {
        "text": text, "caller": caller, "agent": agent, "from": since and utc(parse_time(since)),
        "to": until and utc(parse_time(until)), "min_seconds": min_seconds, "max_seconds": max_seconds,
        "outcome": outcome, "audio": audio,
    }  # fmt: skip
    with view.progress.status("Looking for calls ..."):
        rows, has_more = find(api_of(view.stack), filters, limit)
    title = several(len(rows), "call", "calls") if rows or has_more else "There are no such calls."
    advice = ["To read a call: ops show ID"] if rows else []
    if has_more:
        advice += ["There may be older calls. Raise --limit, or look before a time with --until."]
    view.table(rows, COLUMNS, title, "\n".join(advice), empty=title)


def find(api: Api, filters: dict[str, Any], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The newest `limit` calls that fit, and whether there may be more."""
    rows: list[dict[str, Any]] = []
    cursor = None
    for _ in range(MOST_PAGES):
        page = read(api, "/calls", filters | {"limit": min(200, limit - len(rows)), "cursor": cursor})
        rows, cursor = rows + page["calls"], page["next"]
        if cursor is None or len(rows) >= limit:
            break
    return rows, cursor is not None


def show(
    context: typer.Context,
    conversation_id: Annotated[str, typer.Argument(metavar="ID", help="The call's conversation id.")],
) -> None:
    """Show a call: its record, transcript, memories, and where its files are.

    Example: ops show conv_8a1f
    """
    view: View = context.obj
    api, path = api_of(view.stack), f"/calls/{quote(conversation_id, safe='')}"
    call, turns = read(api, path), read(api, f"{path}/transcript")["turns"]
    files = where(view.stack, call)
    if view.as_json:
        view.print_json({"call": call, "turns": turns, "files": files})
        return
    record = {name: value for name, value in call.items() if not isinstance(value, dict | list)}
    view.show(record | {"files": files, "complete": call["completeness"]["explanation"]}, f"Call {conversation_id}")
    for name, columns in PARTS.items():
        if call[name]:
            view.console.print()
            view.table(call[name], columns, name.title())
    view.console.print()
    view.console.print("Transcript", style="bold")
    for turn in turns:
        print_turn(view, turn)


def where(stack: Stack, call: dict[str, Any]) -> list[str]:
    """The addresses of a call's files; only their names, if your credentials may not read the table."""
    try:
        record = stack.records.get(call["conversation_id"])
    except AwsError as error:
        if not is_forbidden(error):
            raise
        return [file["name"] for file in call["files"]]
    keys = [record.json_key, record.mp3_key, *sorted(record.event_keys)] if record else []
    return [f"s3://{stack.bucket.name}/{key}" for key in keys if key]


def print_turn(view: View, turn: dict[str, Any]) -> None:
    """What was said, with its time, and what the agent's tools were asked and answered."""
    if turn["message"]:
        view.paragraph(turn["message"], first=f"{clock(turn['at_secs'])}  {turn['role']:5}  ")
    for call in turn["tool_calls"]:
        view.paragraph(f"{call['name']} {compact(call['arguments'])}", first=f"{'':6} calls  ", style="dim")
    for result in turn["tool_results"]:
        told = "failed" if result["is_error"] else "answered"
        view.paragraph(f"{result['name']} {told} {compact(result['result'])}", first=f"{'':14}", style="dim")


def clock(seconds: float | None) -> str:
    return "  -  " if seconds is None else f"{int(seconds) // 60:2}:{int(seconds) % 60:02}"


def compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def api_of(stack: Stack) -> Api:
    """Raises OpsError if the stack has no API."""
    return Api(stack.output("ApiUrl", OLDER), stack.session)


def read(api: Api, path: str, query: dict[str, Any] | None = None) -> Any:
    """What the API answers, also if that is not complete. Raises OpsError in the API's words, and botocore's errors."""
    given = {name: value for name, value in sorted((query or {}).items()) if value not in (None, "", [])}
    answer = api.get(f"{path}?{urlencode(given, doseq=True, quote_via=quote)}" if given else path)
    if answer.status not in (200, 202):
        raise OpsError(refusal(answer), code=1 if answer.status >= 500 or answer.status == 429 else 2)
    return answer.json


def refusal(answer: Answer) -> str:
    told = answer.json
    parameter = f" ({told['parameter']})" if told.get("parameter") else ""
    return f"{told.get('detail') or told.get('title')}{parameter}"
