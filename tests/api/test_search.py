"""What was said is found, newest first, in the right turn, and shown only to those who may read it."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import pytest

import api.handler
import api.search
import api.sql
from api.cursor import TurnsCursor, write
from api.parameters import SearchQuery
from tests.api.conftest import Get, call, index, stage, token
from tests.athena_stand_in import TOO_MUCH, VANISHED, Athena

ALL = ("calls:read", "recordings:read", "numbers:read")
TURNS = [
    {"role": "agent", "message": "Good morning.", "time_in_call_secs": 0},
    {"role": "user", "message": "Where is my Refund for the blender?", "time_in_call_secs": 4},
    {"role": "agent", "message": None, "tool_calls": [], "time_in_call_secs": 7},
    {"role": "agent", "message": "The refund takes a week.", "time_in_call_secs": 9.5},
]
NOVEMBER_1 = 1730455200  # 2024-11-01T10:00:00Z
Add = Callable[..., str]


@pytest.fixture
def add(aws: Any, archive: Any, athena: Athena) -> Add:
    """Archive a call of so many days after the 1st of November 2024, and write its rows."""

    def run(conversation_id: str, day: float = 0, *words: str, **fields: Any) -> str:
        turns = [{"role": "user", "message": each, "time_in_call_secs": 1} for each in words] or TURNS
        started = fields.pop("started", NOVEMBER_1 + int(86400 * day))
        archive(stage(aws, call(conversation_id, started, transcript=turns, **fields)))
        index(aws, athena, conversation_id)
        return conversation_id

    return run


def found(answer: dict[str, Any]) -> list[tuple[str, int]]:
    return [(hit["conversation_id"], hit["index"]) for hit in answer["hits"]]


def all_pages(get: Get, query: Any, **options: Any) -> list[dict[str, Any]]:
    pages = [get("/search", query, **options)]
    while pages[-1]["next"]:
        pages.append(get("/search", query | {"cursor": pages[-1]["next"]}, **options))
    return pages


def test_a_hit_is_the_turn_that_was_said(add: Add, get: Get) -> None:
    add("conv_1", analysis={"call_summary_title": "The blender"})

    (hit,) = get("/search", {"q": "refund blender"})["hits"]

    assert hit == {
        "conversation_id": "conv_1", "caller": "+12025550123", "agent_id": "agent_1",
        "started_at": "2024-11-01T10:00:00Z", "title": "The blender", "index": 1, "at_secs": 4, "role": "user",
        "message": "Where is my Refund for the blender?", "reason": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "refund"}, [("b", 1), ("b", 3), ("a", 1), ("a", 3)]),
        ({"q": "refund", "role": "user"}, [("b", 1), ("a", 1)]),
        ({"q": "REFÚND week", "role": "agent"}, [("b", 3), ("a", 3)]),
        ({"q": "refund", "agent": "agent_1"}, [("a", 1), ("a", 3)]),
        ([("q", "refund"), ("agent", "agent_1"), ("agent", "agent_9")], [("a", 1), ("a", 3)]),
        ({"q": "refund", "from": "2024-11-02"}, [("b", 1), ("b", 3)]),
        ({"q": "refund", "to": "2024-11-02"}, [("a", 1), ("a", 3)]),
        ({"q": "refund", "from": "2024-11-01T10:00:01Z", "to": "2024-11-03T09:59:59Z"}, []),
        ({"q": "refund", "limit": "3"}, [("b", 1), ("b", 3), ("a", 1)]),
        ({"q": '"refund for the"'}, [("b", 1), ("a", 1)]),
        ({"q": '"blender refund"'}, []),
        ({"q": "zebra"}, []),
        ({"q": "a week"}, [("b", 3), ("a", 3)]),
    ],
)
def test_a_search_is_filtered(add: Add, get: Get, query: Any, expected: list[tuple[str, int]]) -> None:
    add("a")
    add("b", 2, agent_id="agent_2")

    assert found(get("/search", query)) == expected


@pytest.mark.parametrize(
    ("said", "query"),
    [
        ("我要申请退款。", "退款"),
        ("אני רוצה החזר כספי", "החזר"),
        ("أريد استرداد المبلغ", "استرداد"),
        ("ราคาเท่าไหร่", "เท่า"),
        ("100 % sure'); DROP TABLE turns; --", "sure'); DROP TABLE turns; --"),
        ('O\'Brien said "no" \\ twice', "o'brien \\ twice"),
        ("It was I", "i"),
    ],
)
def test_any_script_and_any_sign_can_be_searched(add: Add, get: Get, said: str, query: str) -> None:
    add("a", 0, said)
    add("b", 0, "Something else.")

    assert found(get("/search", {"q": query})) == [("a", 0)]


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ({}, "q", "q is missing: the words to look for."),
        ({"q": ""}, "q", "q must have a word: a letter or a digit."),
        ({"q": "%_*?'\"\\"}, "q", "q must have a word: a letter or a digit."),
        ({"q": "x" * 10_000}, "q", "q must have at most 200 characters."),
        ({"q": " ".join("abcdefghijk")}, "q", "q must have at most 10 words."),
        ({"q": "a\u202eb"}, "q", "q must not contain control characters."),
        ({"q": "a\x00b"}, "q", "q must not contain control characters."),
        ({"q": "x", "role": "tool"}, "role", "role must be one of user or agent."),
        ({"q": "x", "limit": "51"}, "limit", "limit must be between 1 and 50."),
        ({"q": "x", "agent": "'; --"}, "agent", "agent must be an id: letters, digits, _ and -, at most 128."),
        ({"q": "x", "from": "2024-11-02", "to": "2024-11-01"}, None, "From must not be after to."),
        ({"q": "x", "cursor": "e30"}, "cursor", "This is not a cursor of this API."),
    ],
)
def test_a_wrong_search_says_what_is_wrong(get: Get, query: Any, parameter: str | None, detail: str) -> None:
    answer = get("/search", query)

    assert (answer["status"], answer.get("parameter"), answer["detail"]) == (400, parameter, detail)


def test_the_time_widens_until_a_page_is_full(add: Add, athena: Athena, get: Get) -> None:
    for day in (0, 300, 350, 365):
        add(f"conv_{day}", day)

    answer = get("/search", {"q": "refund", "role": "user", "limit": "3", "to": "2025-11-01"})

    assert found(answer) == [("conv_365", 1), ("conv_350", 1), ("conv_300", 1)]
    days = [sql.split("day BETWEEN ")[1][:29].replace("'", "") for sql in athena.sql]
    assert days == ["2025-10-26 AND 2025-11-01", "2025-10-03 AND 2025-10-25", "2025-08-04 AND 2025-10-02"]
    assert answer["searched"] == {"from": "2025-08-28T10:00:00Z", "to": "2025-11-01T23:59:59Z", "bytes": 3000}
    rest = get("/search", {"q": "refund", "role": "user", "limit": "3", "to": "2025-11-01", "cursor": answer["next"]})
    assert (found(rest), rest["next"]) == ([("conv_0", 1)], None)
    assert rest["searched"]["from"] == "2024-11-01T00:00:00Z"
    assert rest["searched"]["to"] == answer["searched"]["from"]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_have_each_turn_once_and_in_order(
    add: Add, get: Get, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(api.search, "MOST_TURNS", 3)
    monkeypatch.setattr(api.sql, "MOST_TURNS", 3)
    for place, day in enumerate((0, 0, 5, 5, 40)):
        add(f"conv_{place}", day)

    pages = all_pages(get, {"q": "refund", "limit": str(limit)})

    order = ["conv_4", "conv_2", "conv_3", "conv_0", "conv_1"]
    assert [hit for page in pages for hit in found(page)] == [(each, index) for each in order for index in (1, 3)]
    assert all(len(page["hits"]) <= limit for page in pages)


def test_a_turn_in_several_files_and_versions_is_one_hit_of_the_newest(add: Add, aws, archive, get: Get) -> None:
    add("a", 0, "A refund.", at=1772550278)
    add("a", 0, "Hello.", "No refund.", at=1772550279)
    add("a", 0, "Hello.", "No refund.", at=1772550279)

    assert found(get("/search", {"q": "refund"})) == [("a", 1)]


def test_a_newer_version_that_is_not_indexed_yet_is_not_shown_by_old_words(add: Add, aws, archive, get: Get) -> None:
    add("a", 0, "A refund.", at=1772550278)
    archive(stage(aws, call("a", NOVEMBER_1, transcript=[{"role": "user", "message": "Other."}], at=1772550279)))

    assert found(get("/search", {"q": "refund"})) == []


def test_an_erased_call_is_not_found_although_its_rows_are_there(add: Add, aws, get: Get) -> None:
    add("a")
    add("b", 1)
    api.handler.aws().records.erase("b", "2024-11-22T10:00:00Z")

    answer = get("/search", {"q": "refund", "limit": "1"})

    assert found(answer) == [("a", 1)]
    assert answer["hits"]


def test_a_cursor_names_no_call_that_is_in_no_answer(
    add: Add, athena: Athena, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (api.search, api.sql):
        monkeypatch.setattr(module, "MOST_TURNS", 2)
    for number in range(4):
        add(f"hidden_{number}", 5 - number, "A refund.")
        api.handler.aws().records.erase(f"hidden_{number}", "2024-11-22T10:00:00Z")
    run, late = api.handler.athena().run.__func__, [False, True]
    monkeypatch.setattr(api.athena.Athena, "run", lambda self, sql, deadline, id: run(
        self, sql, 0 if late.pop(0) else deadline, id))  # fmt: skip

    answer = get("/search", {"q": "refund", "to": "2024-11-07"})

    place = json.loads(urlsafe_b64decode(answer["next"] + "=="))
    assert (answer["http_status"], place["id"], place["at"] % 60) == (202, "", 0)


def test_a_reader_finds_turns_of_their_agents_only(add: Add, athena: Athena, get: Get) -> None:
    add("a")
    add("b", 1, agent_id="agent_2")

    assert found(get("/search", {"q": "blender"}, authorizer=token(*ALL, agents="agent_1"))) == [("a", 1)]
    assert found(get("/search", {"q": "blender", "agent": "agent_2"}, authorizer=token(*ALL, agents="agent_1"))) == []
    assert found(get("/search", {"q": "blender"}, authorizer=token(*ALL, agents=""))) == []
    assert "agent_2" not in str(athena.sql)


NUMBERS = ["Call +12025550123.", "It is (202) 555-0123.", "2 0 2 5 5 5 0 1 2 3", "١٢٠٢٥٥٥٠١٢٣", "Order 4711."]


@pytest.mark.parametrize("query", ["1202555", "202 555 0123", '"2 0 2"', "555", "2025", "0123 it"])
def test_nobody_can_confirm_a_masked_number_by_searching_it(add: Add, get: Get, query: str) -> None:
    add("a", 0, *NUMBERS)

    answer = get("/search", {"q": query}, authorizer=token("calls:read"))

    assert answer.get("hits", []) == []
    assert answer.get("status", 403) == 403


def test_who_may_see_numbers_finds_them_and_others_what_they_see_of_them(add: Add, get: Get) -> None:
    add("a", 0, *NUMBERS)
    reader = token("calls:read")

    assert found(get("/search", {"q": "12025550123"})) == [("a", 0)]
    assert found(get("/search", {"q": "202 555 0123"})) == [("a", 1)]
    assert found(get("/search", {"q": "4711"}, authorizer=reader)) == [("a", 4)]
    (hit,) = get("/search", {"q": "call"}, authorizer=reader)["hits"]
    assert (hit["message"], hit["caller"]) == ("Call +120…123.", "+120…123")
    assert get("/search", {"q": "12025550123"}, authorizer=reader)["detail"] == "This needs the scope numbers:read."


def test_a_hit_in_cold_storage_says_why_it_has_no_words(add: Add, aws, get: Get) -> None:
    add("a", 0, "A refund of 4711 dollars.")
    key = "12025550123/a.json"
    source = {"Bucket": aws.bucket, "Key": key}
    aws.s3.copy_object(Bucket=aws.bucket, Key=key, CopySource=source, StorageClass="GLACIER")

    (hit,) = get("/search", {"q": "refund"})["hits"]

    assert (hit["message"], hit["role"], hit["caller"]) == (None, None, "+12025550123")
    assert hit["reason"].startswith("The transcript is in cold storage")
    assert found(get("/search", {"q": "4711"})) == [("a", 0)]
    assert found(get("/search", {"q": "4711"}, authorizer=token("calls:read"))) == []


def test_a_call_whose_json_is_gone_is_no_hit(add: Add, aws, get: Get) -> None:
    add("a")
    aws.s3.delete_object(Bucket=aws.bucket, Key="12025550123/a.json")

    assert found(get("/search", {"q": "refund"})) == []


def test_without_a_file_there_is_no_query(athena: Athena, get: Get) -> None:
    answer = get("/search", {"q": "refund"})

    assert (answer["hits"], answer["next"], answer["searched"]["bytes"]) == ([], None, 0)
    assert athena.queries == {}


def test_ten_years_without_a_hit_are_searched_in_five_queries(add: Add, athena: Athena, get: Get) -> None:
    add("a", started=1477994400)  # 2016-11-01T10:00:00Z

    answer = get("/search", {"q": "zebra", "from": "2000-01-01", "to": "2024-11-01"})

    assert (answer["hits"], answer["next"], len(athena.queries)) == ([], None, 5)
    assert answer["searched"]["from"] == "2000-01-01T00:00:00Z"


def test_a_late_answer_is_asked_for_again_without_a_second_query(
    add: Add, athena: Athena, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("a")
    monkeypatch.setattr(api.handler, "SECONDS", 0.2)
    athena.late = True
    first = get("/search", {"q": "refund", "to": "2024-11-02"})
    athena.late = False
    monkeypatch.setattr(api.handler, "SECONDS", 20)
    second = get("/search", {"q": "refund", "to": "2024-11-02", "cursor": first["next"]})

    assert (first["http_status"], first["hits"]) == (202, [])
    assert first["searched"] == {"from": "2024-11-02T23:59:59Z", "to": "2024-11-02T23:59:59Z", "bytes": 0}
    assert (found(second), second["next"], len(athena.queries)) == ([("a", 1), ("a", 3)], None, 1)


def test_a_made_up_id_of_a_query_reads_no_result_of_others(add: Add, athena: Athena, get: Get) -> None:
    add("a")
    add("b", 0, "A secret.", agent_id="agent_2")
    get("/search", {"q": "secret"})
    foreign = next(id for id, rows in athena.results.items() if len(rows) > 1)
    reader = token(*ALL, agents="agent_1")
    filters = SearchQuery(q="refund").filters()

    for id in (foreign, "0" * 36):
        forged = write(TurnsCursor(at=9_999_999_999, query=id), filters)
        assert found(get("/search", {"q": "refund", "cursor": forged}, authorizer=reader)) == [("a", 1), ("a", 3)]


def test_a_cursor_of_another_search_is_refused(add: Add, get: Get) -> None:
    add("a")
    cursor = get("/search", {"q": "refund", "limit": "1"})["next"]

    for other in ({"q": "refunds"}, {"q": "refund", "role": "user"}, {"q": "refund", "from": "2024-01-01"}):
        assert get("/search", other | {"cursor": cursor})["parameter"] == "cursor"
    assert get("/stats", {"cursor": cursor})["parameter"] == "cursor"


def test_a_file_that_was_merged_during_a_query_does_no_harm(add: Add, athena: Athena, get: Get) -> None:
    add("a")
    athena.ends = [("FAILED", VANISHED)]

    assert found(get("/search", {"q": "blender"})) == [("a", 1)]


@pytest.mark.parametrize(
    ("end", "status", "detail"),
    [
        (("CANCELLED", TOO_MUCH), 400, "This would read more than the stack allows at once (SearchLimitBytes)."),
        (("FAILED", "line 1:8: Column 'refund' cannot be resolved"), 503, "The search failed."),
        (("FAILED", "HIVE_BAD_DATA: s3://bucket/12025550123"), 503, "The search failed."),
        (("CANCELLED", "Query was cancelled by user"), 503, "The search failed."),
    ],
)
def test_what_went_wrong_is_told_without_the_inside(
    add: Add, athena: Athena, get: Get, logs, end: tuple[str, str], status: int, detail: str
) -> None:
    add("a")
    before = len(logs.getvalue())
    athena.ends = [end]

    answer = get("/search", {"q": "refund"})

    assert (answer["status"], answer["detail"][: len(detail)]) == (status, detail)
    for text in ("refund", "SELECT", "12025550123", "s3://"):
        assert text not in answer["detail"] + logs.getvalue()[before:]


def test_a_file_that_vanishes_twice_is_a_failure(add: Add, athena: Athena, get: Get) -> None:
    add("a")
    athena.ends = [("FAILED", VANISHED)] * 2

    assert get("/search", {"q": "refund"})["status"] == 503


def test_too_many_searches_are_told_to_wait(add: Add, athena: Athena, get: Get) -> None:
    add("a")
    athena.busy = True

    answer = get("/search", {"q": "refund"})

    assert (answer["status"], answer["detail"][:17]) == (503, "Too many searches")


def test_hits_that_were_found_before_the_limit_are_shown_and_the_next_page_says_why(
    add: Add, athena: Athena, get: Get
) -> None:
    add("a", 0)
    add("b", 40)
    athena.ends = [("SUCCEEDED", ""), ("CANCELLED", TOO_MUCH), ("CANCELLED", TOO_MUCH)]

    query = {"q": "blender", "to": "2024-12-12"}
    first = get("/search", query)
    second = get("/search", query | {"cursor": first["next"]})

    assert found(first) == [("b", 1)]
    assert (second["status"], second["parameter"]) == (400, "from")


def test_the_log_tells_who_searched_but_not_what(add: Add, get: Get, logs) -> None:
    add("a")
    before = len(logs.getvalue())

    get("/search", {"q": "blender"})

    written = logs.getvalue()[before:]
    assert "Calls searched" in written
    assert "arn:aws:sts::123456789012:assumed-role/readers/ana" in written
    assert "blender" not in written
