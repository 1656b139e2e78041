"""Requests to the API's handler in the form of an HTTP API, and calls to read, archived by the real archiver."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema
import pytest

import api.handler
from api.handler import lambda_handler
from api.openapi import document
from shared.conversation import read_conversation
from shared.indexes import listing
from shared.parts import read_json
from shared.record import Records
from shared.texts import CALL, Row, rows_of
from tests.archiver.conftest import archive, audio, erase, stage, transcript  # noqa: F401 (archive is a fixture)
from tests.athena_stand_in import Athena

DOCUMENT = document()
IAM = {"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/readers/ana"}}
Get = Callable[..., dict[str, Any]]


def event(
    path: str, query: Any = "", *, authorizer: dict[str, Any] | None = IAM, method: str = "GET"
) -> dict[str, Any]:
    """What the gateway sends for a request; `query` is a raw query string, or its names and values."""
    raw = query if isinstance(query, str) else urlencode(query)
    context = {
        "accountId": "123456789012", "apiId": "api123", "stage": "$default", "requestId": "request-1",
        "routeKey": route_of(path), "http": {"method": method, "path": path, "protocol": "HTTP/1.1",
        "sourceIp": "203.0.113.9", "userAgent": "tests"}, "domainName": "api.example", "timeEpoch": 1772550280000,
    }  # fmt: skip
    return {
        "version": "2.0", "routeKey": route_of(path), "rawPath": path, "rawQueryString": raw, "headers": {},
        "requestContext": context | ({"authorizer": authorizer} if authorizer else {}), "isBase64Encoded": False,
    }  # fmt: skip


def route_of(path: str) -> str:
    """The route that the gateway chooses for a path."""
    return next((f"GET {route}" for route in DOCUMENT["paths"] if is_of(route, path)), "$default")


def is_of(route: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"{\w+}", "[^/]*", route), path) is not None


def token(*scopes: str, agents: Any = None) -> dict[str, Any]:
    """The authorizer's part of an event for a JWT with these scopes, and the claim `agents`."""
    claims = {"sub": "ana", "scope": " ".join(scopes)} | ({"agents": agents} if agents is not None else {})
    return {"jwt": {"claims": claims, "scopes": None}}


@pytest.fixture
def get(aws: Any, context: Any) -> Get:
    """GET a path; the answer's JSON, with its status as `http_status` if it is not 200."""

    def run(path: str, query: Any = "", **options: Any) -> dict[str, Any]:
        answer = lambda_handler(event(path, query, **options), context)
        body = json.loads(answer["body"], parse_constant=pytest.fail)
        check_documented(path, answer["statusCode"], body)
        if answer["statusCode"] in (200, 202):
            assert answer["headers"]["Content-Type"] == "application/json"
            return body | ({"http_status": 202} if answer["statusCode"] == 202 else {})
        assert answer["headers"]["Content-Type"] == "application/problem+json"
        assert body["status"] == answer["statusCode"]
        return body

    return run


def check_documented(path: str, status: int, body: Any) -> None:
    """Compare an answer with the OpenAPI document; a path that is not in it has only problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    for template, operations in DOCUMENT["paths"].items():
        if is_of(template, path):
            content = operations["get"]["responses"][str(status)]["content"]
            schema = content["application/json" if status < 300 else "application/problem+json"]["schema"]
    jsonschema.validate(body, schema | {"components": DOCUMENT["components"]})


@pytest.fixture
def athena(aws: Any) -> Athena:
    return Athena(api.handler.athena().client, aws.s3, aws.bucket)


def save(
    aws: Any, conversation_id: str, started: str, agent_id: str = "agent_1", number: str = "+12025550123", **fields: Any
) -> None:
    """Write the record of an archived call, without its objects; faster than the archiver."""
    digits = number.lstrip("+")
    given = listing(conversation_id, agent_id, started) | {
        "agent_id": agent_id,
        "external_number": number,
        "caller": digits,
        "started_at": started,
    }
    defaults = {
        "folder": digits,
        "json_key": f"{digits}/{conversation_id}.json",
        "audio": "pending",
        "archived_at": started,
    }
    defaults = {name: value for name, value in defaults.items() if name not in fields}
    Records(table(aws)).save_transcript(
        conversation_id, given | fields, defaults, "1-1772550278000-0", "staging/x", [digits], started
    )


def index(aws: Any, athena: Athena, *conversation_ids: str) -> None:
    """Write the rows of archived calls, each into a file, as the indexer does."""
    records = api.handler.aws().records
    for each in conversation_ids:
        record = records.get(each)
        body, order = aws.body(record.json_key), aws.head(record.json_key)["Metadata"]["order"]
        listed = datetime.fromisoformat(record.listed_at)
        assert records.note_text(each, record.listed_at[:10], order)
        read, caller = read_conversation(read_json(body)), record.external_number
        rows = rows_of(read, each, caller, int(listed.timestamp()), order, record.audio)
        athena.put(record.listed_at[:10], *rows, name=f"{each} {order}")


def counted(
    athena: Athena, conversation_id: str, started: str, agent_id: str | None = "agent_1", **fields: Any
) -> None:
    """Write the row that stands for a call."""
    at = int(datetime.fromisoformat(started).timestamp())
    named = {"conversation_id": conversation_id, "agent_id": agent_id, "caller": None, "version": "1"} | fields
    athena.put(started[:10], Row(started=at, turn=CALL, role="call", **named))


def table(aws: Any) -> Any:
    return api.handler.aws().table


def call(conversation_id: str = "conv_1", started: int = 1772550000, agent_id: str = "agent_1", **given: Any) -> Any:
    """The body of a call's transcript. `number` and `seconds` go to their places, the rest into its data."""
    number, seconds = given.pop("number", "+12025550123"), given.pop("seconds", 60)
    metadata = {"start_time_unix_secs": started, "call_duration_secs": seconds, "cost": 100} | given.pop("metadata", {})
    if number:
        metadata["phone_call"] = {"external_number": number, "direction": "inbound"}
    return transcript(conversation_id, metadata=metadata, agent_id=agent_id, **given)


def ids(page: dict[str, Any]) -> list[str]:
    return [each["conversation_id"] for each in page["calls"]]


def pages(get: Get, path: str = "/calls", **query: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    found = [get(path, query)]
    while found[-1]["next"]:
        found.append(get(path, query | {"cursor": found[-1]["next"]}))
    return found


__all__ = ["audio", "erase", "quote", "stage"]
