"""What is wrong with a request is told in a clear 4xx that quotes nothing of it."""

import json
from io import StringIO
from typing import Any

import pytest

import api.handler
from api.cursor import Position, write_cursor
from api.handler import ROUTES, lambda_handler
from api.openapi import document
from api.parameters import CallsQuery
from api.refusals import OTHER_METHODS
from tests.api.conftest import Get, event, save

LONG = "x" * 10_000
UNREADABLE = "The query cannot be read: it must be percent-encoded UTF-8, and not too long."
HOSTILE = ["a\x00b", "a\u202eb", "a\u200fb", "a\x1b[2Jb", "a\nb", "a\x7fb", "a\u2066b"]


WRONG = [
    ({"colour": "red"}, "colour", "This request has no such parameter."),
    ("limit=1&limit=2", "limit", "A parameter is given more than once."),
    ({"limit": "0"}, "limit", "limit must be between 1 and 200."),
    ({"limit": "201"}, "limit", "limit must be between 1 and 200."),
    ({"limit": "1e2"}, "limit", "limit must be a whole number."),
    ({"limit": "１"}, "limit", "limit must be a whole number."),
    ({"limit": "-1"}, "limit", "limit must be a whole number."),
    ({"limit": ""}, "limit", "limit must be a whole number."),
    ({"min_seconds": "9" * 5000}, "min_seconds", "min_seconds must be a whole number."),
    ({"min_seconds": "61", "max_seconds": "60"}, None, "Min_seconds must not be larger than max_seconds."),
    ({"from": "2026-11-03", "to": "2026-11-02"}, None, "From must not be after to."),
    ({"outcome": "great"}, "outcome", "outcome must be one of success, failure or unknown."),
    ({"audio": LONG}, "audio", "audio must be one of archived, pending, unavailable or none."),
    ({"text": LONG}, "text", "text must have at most 200 characters."),
    ({"agent": "a b"}, "agent", "agent must be an id: letters, digits, _ and -, at most 128."),
    ([("agent", "a")] * 21, "agent", "agent can be given at most 20 times."),
    ("text=%ff", None, UNREADABLE),
    ("&".join(["agent=a"] * 51), None, UNREADABLE),
    *(({"text": text}, "text", "text must not contain control characters.") for text in HOSTILE),
    *(({"from": text}, "from", "from must be a time in ISO 8601, such as 2026-11-22 or 2026-11-22T10:00:00Z.")
      for text in ("yesterday", "", LONG, "2026-13-01", "2026-11-22T25:00:00Z", "2026-11-22\x00", "9999999999999",
                   "20261122", "2026-W47-7", "2026-11-22 10:00:00", "2026-11-22T10")),
    *(({name: text}, name, f"{name} must be a time of the years 1971 to 9998.")
      for name, text in (("from", "0001-01-01T00:00:00+14:00"), ("to", "9999-12-31"), ("to", "1969-01-01"))),
    *(({"caller": text}, "caller", "caller must be a phone number with 7 to 15 digits, with or without +.")
      for text in ("", "dog", "123", "1" * 16, LONG, "sip:12025550123@example.com", "+266696687")),
    *(({"caller": f"1202555{text}0123"}, "caller", "caller must not contain control characters.")
      for text in HOSTILE),
    *(({"cursor": text}, "cursor", "This is not a cursor of this API.")
      for text in ("x", "!!!!", "bnVsbA", "W10", "e30", "eyJ2IjoyfQ", "%%%")),
    *(({"cursor": text}, "cursor", "cursor is not a cursor of this API.") for text in (LONG, "é")),
]  # fmt: skip


def test_a_wrong_parameter_is_named(get: Get) -> None:
    for query, parameter, detail in WRONG:
        answer = get("/calls", query)

        found = (answer["status"], answer.get("parameter"), answer["detail"])
        assert found == (400, parameter, detail), query


def test_a_cursor_of_another_list_is_refused(aws, get: Get) -> None:
    for number in range(3):
        save(aws, f"conv_{number}", f"2026-11-0{number + 1}T10:00:00Z")
    cursor = get("/calls", {"limit": 1})["next"]

    for other in ({"agent": "agent_1"}, {"text": "dog"}, {"from": "2026-11-01"}, {"caller": "12025550123"}):
        assert get("/calls", other | {"cursor": cursor})["parameter"] == "cursor"
    assert get("/stats", {"cursor": cursor})["parameter"] == "cursor"
    assert get("/callers/12025550123", {"cursor": cursor})["parameter"] == "cursor"


@pytest.mark.parametrize("text", ["{}=", "{}A", "{} ", "{}\n", " {}"])
def test_a_cursor_that_was_written_otherwise_is_refused(get: Get, text: str) -> None:
    cursor = write_cursor(Position("2026-11-01T10:00:00Z", "conv_1"), CallsQuery().filters())

    assert get("/calls", {"cursor": text.format(cursor)})["status"] == 400


def test_a_forged_cursor_is_only_another_place_in_the_list(aws, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    api.handler.aws().table.meta.client.meta.events.register("before-call.dynamodb.Query", check_span)
    since = CallsQuery.model_validate({"from": "2026-11-01T09:00:00Z"})

    for at, found in (("9999-99-99T99:99:99Z", 1), ("0000-00-00T00:00:00Z", 0), ("2026-11-01T08:00:00Z", 0)):
        forged = write_cursor(Position(at, "conv_1"), since.filters())
        assert len(get("/calls", {"from": "2026-11-01T09:00:00Z", "cursor": forged})["calls"]) == found


def check_span(params: dict[str, Any], **_: Any) -> None:
    """DynamoDB refuses a span whose end is before its beginning; moto does not."""
    values = json.loads(params["body"])["ExpressionAttributeValues"]
    if ":until" in values:
        assert values[":since"]["S"] <= values[":until"]["S"]


@pytest.mark.parametrize("rest", ["", "/transcript", "/audio", "/json"])
def test_an_unknown_id_is_not_found(get: Get, rest: str) -> None:
    for id in ["conv_unknown", LONG, *HOSTILE, "a b", "..", "%2e%2e", "a%2Fb", "<script>", "'; --"]:
        answer = get(f"/calls/{id}{rest}")

        assert answer["status"] == 404, id
        assert id not in json.dumps(answer)


@pytest.mark.parametrize("number", ["123", "dog", "1" * 16, LONG, "++", "anonymous", "12025550123x\u202e"])
def test_a_caller_is_a_phone_number(get: Get, number: str) -> None:
    answer = get(f"/callers/{number}")

    assert answer["status"] in (400, 404)
    assert number not in answer["detail"]


@pytest.mark.parametrize("number", ["+12025550123", "12025550123", "%2B12025550123", "+1 (202) 555-0123"])
def test_a_number_may_be_written_as_people_write_it(aws, get: Get, number: str) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")

    assert len(get(f"/callers/{number}")["calls"]) == 1


@pytest.mark.parametrize(
    "path", ["/", "", "/call", "/calls/", "/calls/a/b/c", "/calls/a/mp3", "/admin", "/" + LONG, "/ca\x00"]
)
def test_an_unknown_path_is_not_found(get: Get, path: str) -> None:
    assert get(path)["status"] == 404


@pytest.mark.parametrize("route", ROUTES)
def test_only_get_is_answered(aws, context, route: str) -> None:
    for method in OTHER_METHODS:
        answer = lambda_handler(event(route.replace("<", "").replace(">", ""), method=method), context)

        assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, "GET"), method


def test_every_route_is_documented() -> None:
    assert {route.replace("<", "{").replace(">", "}") for route in ROUTES} == set(document()["paths"])


def test_the_document_in_the_repository_is_that_of_the_code() -> None:
    from tests.conftest import FOLDER

    assert json.loads((FOLDER.parent / "docs/openapi.json").read_text()) == document()


def test_the_log_has_no_query_and_no_path(get: Get, logs: StringIO) -> None:
    for path, query in (
        ("/calls", {"caller": "12025550123"}), ("/calls", {"text": "secret words"}), ("/callers/12025550123", ""),
        ("/calls", {"caller": "12025550123\u202e"}), ("/calls/12025550123", ""), ("/12025550123", ""),
    ):  # fmt: skip
        get(path, query)

    assert "12025550123" not in logs.getvalue()
    assert "secret" not in logs.getvalue()
