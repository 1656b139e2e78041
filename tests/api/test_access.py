"""Who may see what."""

import json
from base64 import urlsafe_b64decode
from io import StringIO
from typing import Any

import pytest

import api.calls
from api.access import Reader
from api.handler import ROUTES, lambda_handler
from tests.api.conftest import Get, audio, call, counted, event, ids, save, stage, token
from tests.athena_stand_in import Athena

PATHS = [route.replace("<id>", "conv_1").replace("<number>", "12025550123") for route in ROUTES]
WORDS = ["/calls", "/calls/conv_1", "/calls/conv_1/transcript", "/search", "/stats"]
ALL = ("calls:read", "recordings:read", "numbers:read")


@pytest.fixture
def archived(aws: Any, archive: Any, athena: Athena) -> None:
    """A call with its recording, in whose words and data its number is."""
    said = {
        "transcript_summary": "Call +12025550123 or (202) 555-0123 back.", "call_summary_title": "From 555-0123",
        "evaluation_criteria_results": {"polite": {"result": "success", "rationale": "She gave 12025550123."}},
        "data_collection_results": {
            "number": {"value": "12025550123", "rationale": "r"}, "digits": {"value": 12025550123},
            "nested": {"value": {"12025550123": ["+1 202 555 0123"]}}, "age": {"value": 44},
        },
    }  # fmt: skip
    tool = {"tool_name": "call_back", "params_as_json": json.dumps({"to": "+12025550123"}), "request_id": "r1"}
    turns = [{"role": "user", "message": "I am at 2025550123.", "tool_calls": [tool], "tool_results": [
        {"tool_name": "call_back", "result_value": "rang 12025550123", "error_type": "busy 12025550123"}]}]  # fmt: skip
    reason = {"termination_reason": "12025550123 hung up"}
    archive(stage(aws, call(analysis=said, transcript=turns, metadata=reason)), stage(aws, audio()))


def query_of(path: str) -> dict[str, str]:
    return {"q": "hello"} if path == "/search" else {}


@pytest.mark.parametrize("authorizer", [None, {}, {"iam": {}}, {"iam": None}, {"jwt": {"claims": {}}}, {"jwt": None}])
def test_without_an_identity_nothing_is_answered(archived, get: Get, authorizer: Any) -> None:
    for path in PATHS:
        assert get(path, authorizer=authorizer)["status"] == 401, path


def test_with_iam_the_policy_has_decided(archived, get: Get) -> None:
    for path in PATHS:
        assert "detail" not in get(path, query_of(path)), path


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([], []),
        (["recordings:read", "numbers:read"], []),
        (["calls:readers"], []),
        (["calls:read"], WORDS),
        (["calls:read", "recordings:read"], WORDS),
        (["calls:read", "numbers:read"], [path for path in PATHS if not path.endswith("audio")]),
        (ALL, PATHS),
        ([f"calls/{scope}" for scope in ALL], PATHS),
        ([f"billing/{scope}" for scope in ALL], []),
        ([f"https://api.example/calls/{scope}" for scope in ALL], []),
        (
            ["calls/calls:read", "billing/numbers:read"],
            WORDS,
        ),
    ],
)
def test_scopes_decide_what_a_token_may_read(archived, get: Get, scopes: list[str], allowed: list[str]) -> None:
    answers = {path: get(path, query_of(path), authorizer=token(*scopes)) for path in PATHS}

    assert [path for path in PATHS if "detail" not in answers[path]] == list(allowed)
    assert {answer["status"] for answer in answers.values() if "detail" in answer} <= {403}


def test_a_list_by_number_needs_the_scope_for_numbers(archived, get: Get) -> None:
    query = {"caller": "12025550123"}

    assert get("/calls", query, authorizer=token("calls:read"))["status"] == 403
    assert ids(get("/calls", query, authorizer=token("calls:read", "numbers:read"))) == ["conv_1"]


def test_the_recording_of_a_caller_without_a_number_needs_no_scope_for_numbers(aws, archive, get: Get) -> None:
    archive(stage(aws, call(number=None)), stage(aws, audio()))
    reader = token("calls:read", "recordings:read")

    assert get("/calls/conv_1/audio", authorizer=reader)["content_type"] == "audio/mpeg"
    assert get("/calls/conv_1", authorizer=reader)["may"] == {"hear": True, "numbers": False}


def test_without_the_scope_every_number_is_masked(archived, get: Get) -> None:
    reader = token("calls:read", "recordings:read")
    answers = [get(path, authorizer=reader) for path in ("/calls", "/calls/conv_1", "/calls/conv_1/transcript")]

    written = json.dumps(answers, ensure_ascii=False)
    for number in ("12025550123", "2025550123", "555-0123", "555 0123", "5550123"):
        assert number not in written
    assert answers[1]["caller"] == "+120…123"
    assert answers[1]["may"] == {"hear": False, "numbers": False}
    assert {"id": "age", "name": "age", "value": 44, "rationale": None} in answers[1]["collected"]


def test_with_the_scope_numbers_are_as_they_came(archived, get: Get) -> None:
    found = get("/calls/conv_1", authorizer=token(*ALL))

    assert found["caller"] == "+12025550123"
    assert found["summary"] == "Call +12025550123 or (202) 555-0123 back."
    assert found["may"] == {"hear": True, "numbers": True}


@pytest.mark.parametrize(
    ("claim", "seen"),
    [
        ("agent_1", {"a"}),
        ("agent_1 agent_2", {"a", "b"}),
        ("agent_1,agent_2", {"a", "b"}),
        ("[agent_1 agent_2]", {"a", "b"}),
        (["agent_1", "agent_2"], {"a", "b"}),
        (" ".join(f"agent_{number}" for number in range(2, 30)), {"b"}),
        ("", set()),
        ("[]", set()),
        ("*", set()),
        ("not:agent_1", set()),
        ("agent_9", set()),
    ],
)
def test_a_claim_names_the_agents_whose_calls_are_shown(
    aws, athena: Athena, get: Get, claim: Any, seen: set[str]
) -> None:
    for id, day, agent in (("a", 1, "agent_1"), ("b", 2, "agent_2")):
        save(aws, id, f"2026-11-0{day}T10:00:00Z", agent)
        counted(athena, id, f"2026-11-0{day}T10:00:00Z", agent)
    reader = token(*ALL, agents=claim)

    assert set(ids(get("/calls", authorizer=reader))) == seen
    assert set(ids(get("/callers/12025550123", authorizer=reader))) == seen
    assert {row["agent_id"] for row in get("/stats", authorizer=reader)["rows"]} == {
        f"agent_{'ab'.index(x) + 1}" for x in seen
    }
    assert {id for id in ("a", "b") if "detail" not in get(f"/calls/{id}", authorizer=reader)} == seen
    assert ids(get("/calls", {"agent": "agent_1"}, authorizer=reader)) == [id for id in "a" if id in seen]


def test_a_call_of_another_agent_is_like_one_that_does_not_exist(archived, get: Get) -> None:
    reader = token(*ALL, agents="agent_2")

    for rest in ("", "/transcript", "/audio", "/json"):
        assert get(f"/calls/conv_1{rest}", authorizer=reader) == get(f"/calls/conv_9{rest}", authorizer=reader)


def test_cognitos_own_claim_names_agents_too(aws, get: Get) -> None:
    save(aws, "a", "2026-11-01T10:00:00Z", "agent_1")
    reader = token(*ALL)
    reader["jwt"]["claims"]["custom:agents"] = "agent_2"

    assert ids(get("/calls", authorizer=reader)) == []


def test_each_access_to_a_call_is_logged_with_who_and_without_words(archived, get: Get, logs: StringIO) -> None:
    for rest in ("", "/transcript", "/audio", "/json"):
        get(f"/calls/conv_1{rest}", authorizer=token(*ALL))

    lines = [line for line in map(json.loads, logs.getvalue().splitlines()) if line.get("message") == "Call read"]
    assert [(line["route"], line["conversation_id"], line["who"]) for line in lines] == [
        (f"/calls/{{id}}{rest}", "conv_1", "ana") for rest in ("", "/transcript", "/audio", "/json")
    ]
    assert "12025550123" not in logs.getvalue()
    assert "hung up" not in logs.getvalue()


def test_with_iam_the_log_has_the_arn(archived, get: Get, logs: StringIO) -> None:
    get("/calls/conv_1")

    assert "arn:aws:sts::123456789012:assumed-role/readers/ana" in logs.getvalue()


def test_a_search_for_words_gives_no_digit_of_a_masked_number(archived, get: Get) -> None:
    reader = token("calls:read")
    searches = [f"+120{digit}" for digit in range(10)] + ["2555", "12025550123", "555-0123"]

    assert [text for text in searches if ids(get("/calls", {"text": text}, authorizer=reader))] == []
    assert ids(get("/calls", {"text": "back 120…123"}, authorizer=reader)) == ["conv_1"]
    assert ids(get("/calls", {"text": "+12025550123"}, authorizer=token(*ALL))) == ["conv_1"]


@pytest.mark.parametrize(
    "number",
    [
        "202\u2011555\u20110123", "202\u2013555\u20130123", "202/555/0123", "202_555_0123",
        "2 0 2 \u2013 5 5 5 \u2013 0 1 2 3",
        "\uff12\uff10\uff12\uff15\uff15\uff15\uff10\uff11\uff12\uff13",
        "\u2461\u24ea\u2461\u2464\u2464\u2464\u24ea\u2460\u2461\u2462",
        "202-555-0199", "(202) 555-0198", "+44 20 7946 0958", "202555-0199 2025550123", "x2025550199y",
        12025550123.0, 12025550123,
    ],
)  # fmt: skip
def test_no_spelling_of_a_number_is_shown_without_the_scope(aws, archive, get: Get, number: Any) -> None:
    text, reader = str(number), token("calls:read")
    said = {
        "transcript_summary": text, "data_collection_results": {"a": {"value": number}, "b": {"value": [number]}},
        "evaluation_criteria_results": {"c": {"result": text}},
    }  # fmt: skip
    tool = {"request_id": text, "tool_name": text, "type": text, "params_as_json": json.dumps({"to": number})}
    turns = [{"role": text, "message": text, "original_message": text, "tool_calls": [tool], "tool_results": [tool]}]
    archive(stage(aws, call(analysis=said, transcript=turns, metadata={"main_language": text}, status=text)))

    answers = [get(path, authorizer=reader) for path in ("/calls", "/calls/conv_1", "/calls/conv_1/transcript")]

    assert text not in json.dumps(answers, ensure_ascii=False)
    assert json.dumps(number) not in json.dumps(answers)
    assert answers[2]["turns"][0]["message"].count("…") == 1


def test_what_is_no_number_is_shown_without_the_scope() -> None:
    reader = Reader("ana", frozenset({"calls:read"}))

    for text in ("Room 12, 3 dogs and ½ a cat", "10:30:15", "é 123456", "m²", "1" * 5000):
        assert reader.hide(text) == text


@pytest.mark.parametrize("route", ["GET /calls/{id}", "GET /stats", "GET /calls/{id}/json", "$default"])
def test_a_path_of_another_route_than_the_gateway_has_allowed_is_not_found(archived, context, route: str) -> None:
    request = event("/calls/conv_1/audio") | {"routeKey": route}

    assert lambda_handler(request, context)["statusCode"] == 404


@pytest.mark.parametrize("path", ["/calls", "/callers/12025550123"])
def test_a_cursor_names_no_call_that_the_reader_may_not_see(
    aws, get: Get, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for number in range(12):
        save(aws, f"conv_{number}", f"2026-11-01T10:{number:02}:17Z", "agent_1" if number == 3 else "agent_foreign")
    monkeypatch.setattr(api.calls.Calls.__init__, "__defaults__", (5,))
    reader = token(*ALL, agents=" ".join(f"agent_{number}" for number in range(9)))

    found = [get(path, authorizer=reader)]
    while found[-1]["next"]:
        found.append(get(path, {"cursor": found[-1]["next"]}, authorizer=reader))

    places = [json.loads(urlsafe_b64decode(each["next"] + "==")) for each in found[:-1]]
    assert places
    assert {each["id"] for each in places if not each["at"].endswith(":60Z")} <= {"conv_3", ""}
    assert not [each for each in places if each["at"].endswith("17Z") and each["id"] != "conv_3"]
    assert sum(len(ids(page)) for page in found) == 1


def test_a_page_that_is_full_says_whether_another_call_follows_that_the_reader_may_see(aws, get: Get) -> None:
    save(aws, "conv_1", "2026-11-02T10:00:00Z", "agent_1")
    save(aws, "conv_2", "2026-11-01T10:00:00Z", "agent_foreign")
    reader = token(*ALL, agents="agent_1")

    for path in ("/calls", "/callers/12025550123"):
        page = get(path, {"limit": 1}, authorizer=reader)
        assert (ids(page), page["next"]) == (["conv_1"], None)
