"""API: find calls, read them, hear them. It writes nothing.

Lists come from the table's indexes with bounded work, and each call in them from its record, read consistently: an
erased call is in no answer from the moment of its tombstone. Who asks is in the log, what was read is not.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial
from typing import Any
from urllib.parse import unquote

import boto3
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from api.access import CALLS, NUMBERS, RECORDINGS, Reader, read_reader
from api.addresses import SIGNING, check_restored, sign
from api.athena import Athena
from api.calls import Calls
from api.parameters import (
    AddressQuery,
    CallerQuery,
    CallsQuery,
    Kind,
    Query,
    SearchQuery,
    SpanQuery,
    read_number,
    read_query,
)
from api.recorded import Recorded
from api.refusals import add_refusals
from api.remembered import Remembered, read_memories
from api.replies import ColdError, reply, reply_json
from api.rows import detail
from api.search import Search
from api.statistics import read_statistics
from shared.aws import Aws
from shared.call import Call
from shared.conversation import Turn
from shared.errors import ColdStorageError, ProblemError
from shared.keys import is_id
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings
from shared.transcription import result_key, turns_of

# If a service of AWS does not answer, the request fails after two attempts of 4 s, well within the API's 30 s.
_CONFIG = Config(
    connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2}, max_pool_connections=20
)
SECONDS = 20  # for a query of Athena; what takes longer is asked for again
ROUTES = (
    "/calls", "/calls/<id>", "/calls/<id>/transcript", "/calls/<id>/audio", "/calls/<id>/json", "/callers/<number>",
    "/search", "/stats",
)  # fmt: skip
_MESSAGES = {
    "CallsListed": "Calls listed", "CallRead": "Call read", "CallerRead": "Caller read",
    "CallsSearched": "Calls searched", "StatisticsRead": "Statistics read",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    bucket_name: str
    conversation_table_name: str
    memory_backend: str
    memory_secret_arn: str
    mem0_host: str
    text_database: str
    text_table: str
    athena_workgroup: str


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


@at_start
def signer() -> Any:
    return boto3.client("s3", config=SIGNING)


@at_start
def storage() -> Any:
    return boto3.client("s3", config=_CONFIG)


@at_start
def athena() -> Athena:
    given = settings()
    return Athena(
        boto3.client("athena", config=_CONFIG), storage(), given.bucket_name, given.text_database,
        given.athena_workgroup,
    )  # fmt: skip


@cache
def remembered(key: str) -> Remembered:
    return Remembered(settings().mem0_host, key, aws().records.get_all)


app = APIGatewayHttpResolver()


@app.get("/calls")
def list_calls() -> Response[str]:
    reader, query = read_request(CallsQuery, CALLS)
    if query.caller:
        reader.require(NUMBERS)
    page = find_calls(reader).page(query)
    note_access("CallsListed", "/calls", reader)
    return reply(page)


@app.get("/calls/<id>")
def show_call(id: str) -> Response[str]:
    reader, _ = read_request(Query, CALLS)
    call = read_call(id, reader)
    try:
        recorded, is_cold = read_recorded(call, reader), False
    except ColdError:
        recorded, is_cold = None, True
    note_access("CallRead", "/calls/{id}", reader, call)
    facts = recorded.facts() if recorded else None
    return reply(detail(call, facts, aws().records.ledger(id), reader, is_cold=is_cold))


@app.get("/calls/<id>/transcript")
def show_transcript(id: str) -> Response[str]:
    reader, _ = read_request(Query, CALLS)
    call = read_call(id, reader)
    recorded = read_recorded(call, reader)
    if recorded is None:
        raise ProblemError(404, "The transcript of this call is not in the archive.")
    note_access("CallRead", "/calls/{id}/transcript", reader, call)
    return reply_json(recorded.turns())


@app.get("/calls/<id>/audio")
def address_audio(id: str) -> Response[str]:
    reader, query = read_request(AddressQuery, CALLS)
    call = read_call(id, reader)
    reader.require(RECORDINGS)
    if not reader.may_hear(call):
        reader.require(NUMBERS)
    return reply_address("/calls/{id}/audio", call, call.mp3_key, "audio/mpeg", query, reader)


@app.get("/calls/<id>/json")
def address_json(id: str) -> Response[str]:
    reader, query = read_request(AddressQuery, CALLS)
    call = read_call(id, reader)
    reader.require(NUMBERS)
    return reply_address("/calls/{id}/json", call, call.json_key, "application/json", query, reader)


@app.get("/callers/<number>")
def show_caller(number: str) -> Response[str]:
    reader, query = read_request(CallerQuery, CALLS)
    reader.require(NUMBERS)
    try:
        caller = read_number(unquote(number))
    except ValueError as error:
        raise ProblemError(400, f"number {error}.", "number") from None
    search = CallsQuery.model_validate({"caller": caller, "limit": query.limit, "cursor": query.cursor})
    page = find_calls(reader).page(search)
    note_access("CallerRead", "/callers/{number}", reader)
    return reply({"caller": caller, **page, **memories_of(caller, page["calls"], reader)})


@app.get("/search")
def search_calls() -> Response[str]:
    deadline = time.monotonic() + SECONDS
    reader, query = read_request(SearchQuery, CALLS)
    if reader.hide(query.q) != query.q:
        reader.require(NUMBERS)
    read = partial(read_recorded, reader=reader)
    search = Search(athena(), settings().text_table, aws().records, read, reader, query)
    page, is_late = search.page(deadline, datetime.now(timezone.utc))
    note_access("CallsSearched", "/search", reader)
    return reply(page, 202 if is_late else 200)


@app.get("/stats")
def show_statistics() -> Response[str]:
    deadline = time.monotonic() + SECONDS
    reader, query = read_request(SpanQuery, CALLS)
    sums = read_statistics(athena(), settings().text_table, reader.among(query.agent), query, deadline)
    note_access("StatisticsRead", "/stats", reader)
    return reply(sums, 202 if sums["next"] else 200)


def read_request(kind: type[Kind], *scopes: str) -> tuple[Reader, Kind]:
    """The reader and the parameters of this request. Raises ProblemError with 404, 401, 403 or 400, in this order."""
    event = app.current_event.raw_event
    check_route(event["routeKey"], app.current_event.path)
    reader = read_reader(event["requestContext"])
    reader.require(*scopes)
    return reader, read_query(kind, event.get("rawQueryString", ""))


def check_route(allowed: str, path: str) -> None:
    """Raises ProblemError with 404 unless the path is of the route that the gateway has allowed.

    A path that the gateway decodes may have more parts than the one that it has checked.
    """
    expected, parts = allowed.removeprefix("GET ").split("/"), path.split("/")
    is_same = len(expected) == len(parts) and all(
        name == part or name.startswith("{") for name, part in zip(expected, parts, strict=True)
    )
    if not is_same:
        raise ProblemError(404, "There is nothing at this address.")


def find_calls(reader: Reader) -> Calls:
    return Calls(aws().table, aws().records, reader)


def read_call(id: str, reader: Reader) -> Call:
    """The call's record. A call that the reader may not see is like one that does not exist."""
    call = aws().records.get(id) if is_id(id) else None
    if call is None or call.erased_at or call.left_out or not call.is_known or not reader.may_see(call):
        raise ProblemError(404, "There is no such call.")
    return call


def read_recorded(call: Call, reader: Reader) -> Recorded | None:
    """What the call's JSON says; None if there is none that can be read. Raises ColdError."""
    body = read_object(call.json_key) if call.json_key else None
    try:
        return Recorded(body, reader.hide, partial(read_heard, call)) if body is not None else None
    except ValueError:
        return None


def read_heard(call: Call) -> list[Turn]:
    """The turns that Amazon Transcribe heard in the recording; none if it was not asked. Raises ColdError."""
    key = result_key(call)
    body = read_object(key) if key else None
    return turns_of(body) if body is not None else []


def read_object(key: str) -> bytes | None:
    """Raises ColdError."""
    try:
        stored = aws().bucket.read(key)
    except ColdStorageError:
        raise ColdError from None
    return stored[0] if stored else None


def reply_address(
    route: str, call: Call, key: str | None, content_type: str, query: AddressQuery, reader: Reader
) -> Response[str]:
    if key is None:
        raise ProblemError(404, "The call has no such file in the archive.")
    check_restored(storage(), settings().bucket_name, key)
    note_access("CallRead", route, reader, call)
    return reply(sign(signer(), settings().bucket_name, key, content_type, download=query.download == "1"))


def note_access(metric: str, route: str, reader: Reader, call: Call | None = None) -> None:
    """Log who reads, and which call. Never the path or the query: they may have a number."""
    count(metric)
    named = {"route": route, "who": reader.who} | ({"conversation_id": call.conversation_id} if call else {})
    logger.info(_MESSAGES[metric], extra=named)


def memories_of(caller: str, calls: list[dict[str, Any]], reader: Reader) -> dict[str, Any]:
    def connect() -> Remembered | None:
        if settings().memory_backend != "platform" or not settings().memory_secret_arn:
            return None
        return remembered(aws().read_secret(settings().memory_secret_arn))

    return read_memories(connect, caller, calls, reader.may_see)


add_refusals(app, ROUTES)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
