"""One call: what its record, its JSON and its ledger say. The JSON may hold anything."""

import json
from typing import Any

import pytest

import api.handler
from api.recorded import Recorded
from shared.errors import ProblemError
from tests.api.conftest import Get, audio, call, save, stage, token
from tests.archiver.conftest import FULL_ID, envelope
from tests.conftest import fixture_body

KEY = "12025550123/conv_1.json"


def put(aws: Any, data: Any, **options: Any) -> None:
    """A call with this JSON, as bytes or as a value."""
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    aws.s3.put_object(Bucket=aws.bucket, Key=KEY, Body=body, **options)


def turn(get: Get, **fields: Any) -> dict[str, Any]:
    return get("/calls/conv_1/transcript")["turns"][0]


def test_a_whole_call_is_read(aws, archive, get: Get) -> None:
    archive(stage(aws, fixture_body("02")), stage(aws, fixture_body("08")))

    found, said = get(f"/calls/{FULL_ID}"), get(f"/calls/{FULL_ID}/transcript")

    assert (found["origin"], found["direction"], found["audio"]) == ("webhook", "inbound", "archived")
    assert found["completeness"] == {
        "transcript": "webhook", "audio": "archived", "audio_reason": None, "missing_reason": None,
        "is_complete": True, "explanation": "The transcript and the recording are here.",
    }  # fmt: skip
    assert [each["kind"] for each in found["files"]] == ["json", "mp3"]
    assert found["evaluation"]
    assert found["collected"]
    recorded = json.loads(fixture_body("02"))["data"]["transcript"]
    assert [each["message"] for each in said["turns"]] == [each["message"] for each in recorded]
    assert [each["at_secs"] for each in said["turns"]] == [each["time_in_call_secs"] for each in recorded]
    assert [each["index"] for each in said["turns"]] == list(range(len(recorded)))


def test_tools_are_in_their_turn_with_arguments_and_results(aws, get: Get) -> None:
    tool_call = {"request_id": "r1", "tool_name": "book", "params_as_json": '{"at": [1, 2.5, null]}', "type": "webhook"}
    result = {
        "request_id": "r1", "tool_name": "book", "result_value": "no", "is_error": True, "tool_latency_secs": 1.5,
        "error_type": "timeout",
    }  # fmt: skip
    put(aws, {"transcript": [{"role": "agent", "message": None, "tool_calls": [tool_call], "tool_results": [result]}]})

    found = turn(get)

    assert found["tool_calls"] == [{"id": "r1", "name": "book", "type": "webhook", "arguments": {"at": [1, 2.5, None]}}]
    assert found["tool_results"] == [
        {"id": "r1", "name": "book", "result": "no", "is_error": True, "latency_secs": 1.5, "error_type": "timeout"}
    ]


def test_a_turn_that_was_interrupted_has_its_whole_message(aws, get: Get) -> None:
    put(
        aws,
        {"transcript": [{"role": "agent", "message": "We op", "original_message": "We open.", "interrupted": True}]},
    )

    found = turn(get)

    assert (found["message"], found["original_message"], found["interrupted"]) == ("We op", "We open.", True)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ("not json", "not json"),
        ('{"a": NaN}', '{"a": NaN}'),
        ('{"a": 1e999}', '{"a": 1e999}'),
        ("[" * 100_000, "[" * 100_000),
        ("[" * 60 + "]" * 60, "[" * 60 + "]" * 60),
        ("1" * 5000, "1" * 5000),
        ('"\\ud83d"', "\ufffd"),
        ("\ud83d", "\ufffd"),
        ("", ""),
        (None, None),
        ({"already": "an object"}, {"already": "an object"}),
        (["\ud83d"], ["\ufffd"]),
        (7, 7),
        (True, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("reader", [token("calls:read"), token("calls:read", "numbers:read")], ids=["masked", "open"])
def test_arguments_that_are_not_json_are_shown_as_their_text(aws, get: Get, given, arguments, reader) -> None:
    put(aws, {"transcript": [{"tool_calls": [{"params_as_json": given}]}]})

    (found,) = get("/calls/conv_1/transcript", authorizer=reader)["turns"]

    assert found["tool_calls"][0]["arguments"] == arguments


@pytest.mark.parametrize(
    "transcript",
    [
        None, "text", 7, {}, [], [None], [7, "x", True], [{}], [{"role": 7, "message": ["x"]}],
        [{"tool_calls": {}, "tool_results": [None, 7, {}]}], [{"tool_calls": [[]]}], [{"time_in_call_secs": "NaN"}],
        [{"time_in_call_secs": 10**400}], [{"time_in_call_secs": "x"}],
        [{"message": "\ud83d\x00<script>\u202e"}], [{"interrupted": "yes"}],
    ],
    ids=repr,
)  # fmt: skip
def test_odd_turns_are_answered(aws, get: Get, transcript: Any) -> None:
    put(aws, {"transcript": transcript})

    assert "turns" in get("/calls/conv_1/transcript")


@pytest.mark.parametrize("part", ["metadata", "analysis", "conversation_initiation_client_data"])
@pytest.mark.parametrize(
    "value", [None, 7, "text", [], [[]], {"evaluation_criteria_results": 7, "phone_call": []}], ids=repr
)
def test_odd_facts_are_answered(aws, get: Get, part: str, value: Any) -> None:
    put(aws, {part: value})

    found = get("/calls/conv_1")

    assert (found["evaluation"], found["collected"], found["language"]) == ([], [], None)


def test_odd_results_are_answered(aws, get: Get) -> None:
    odd = {"a": None, "b": 7, "c": {"value": {"deep": [1, {"x": None}]}, "rationale": 7, "result": [], "name": "C"}}
    put(aws, {"analysis": {"evaluation_criteria_results": odd, "data_collection_results": odd}})

    found = get("/calls/conv_1")

    assert found["collected"][2] == {"id": "c", "name": "C", "value": {"deep": [1, {"x": None}]}, "rationale": None}
    assert [each["result"] for each in found["evaluation"]] == [None, None, None]


@pytest.mark.parametrize("body", [b"", b"not json", b"\xff", b"{", b"[" * 100_000, b"nul"], ids=range(6))
def test_a_json_that_cannot_be_read_leaves_the_record(aws, get: Get, body: bytes) -> None:
    put(aws, body)

    found = get("/calls/conv_1")

    assert found["caller"] == "+12025550123"
    assert found["completeness"]["is_complete"] is False
    assert "cannot be read" in found["completeness"]["explanation"]
    assert get("/calls/conv_1/transcript")["status"] == 404


def test_a_json_that_is_no_object_has_no_facts(aws, get: Get) -> None:
    put(aws, [1, 2])

    assert get("/calls/conv_1/transcript") == {"turns": []}


def test_a_compressed_json_is_read(aws, archive, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GZIP_JSON", "true")
    archive(stage(aws, call(transcript=[{"role": "user", "message": "Hello"}])))

    assert aws.head(KEY)["ContentEncoding"] == "gzip"
    assert turn(get)["message"] == "Hello"
    assert get("/calls/conv_1")["direction"] == "inbound"


def test_turns_larger_than_lambdas_answer_are_refused_with_the_way_to_all_of_them(aws, get: Get) -> None:
    put(aws, {"transcript": [{"role": "user", "message": '"' * 1000}] * 3000})

    answer = get("/calls/conv_1/transcript")

    assert answer["status"] == 413
    assert "/calls/{id}/json" in answer["detail"]


def test_reading_stops_at_the_first_turn_that_is_too_much() -> None:
    body = json.dumps({"transcript": [{"message": "x" * 1000}] * 6000}).encode()

    with pytest.raises(ProblemError):
        Recorded(body, lambda text: text).turns()


def test_facts_larger_than_lambdas_answer_are_refused(aws, get: Get) -> None:
    put(aws, {"metadata": {"main_language": "x" * 6_000_000}})

    assert get("/calls/conv_1")["status"] == 413


def test_the_receipts_of_memories_are_those_of_the_ledger(aws, get: Get) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z")
    table = api.handler.aws().table
    table.put_item(
        Item={
            "conversation_id": "conv_1", "item": "memory#factual", "state": "done", "memory_ids": ["m1"], "memories": 1,
            "done_at": "2026-11-01T10:01:00.000000Z",
        }
    )  # fmt: skip
    table.put_item(
        Item={
            "conversation_id": "conv_1", "item": "memory#semantic", "state": "done", "reason": "nothing_to_say",
            "started": "2026-11-01T10:00:59.000000Z",
        }
    )  # fmt: skip

    assert get("/calls/conv_1")["memories"] == [
        {"type": "factual", "state": "done", "reason": None, "count": 1, "memory_ids": ["m1"],
         "at": "2026-11-01T10:01:00.000000Z"},
        {"type": "semantic", "state": "done", "reason": "nothing_to_say", "count": 0, "memory_ids": [],
         "at": "2026-11-01T10:00:59.000000Z"},
    ]  # fmt: skip


def test_other_events_are_among_the_files_without_their_folder(aws, archive, get: Get) -> None:
    archive(stage(aws, call()), stage(aws, envelope({"conversation_id": "conv_1"}, "call_initiation_failure")))

    files = get("/calls/conv_1")["files"]

    assert {"kind": "event", "name": "conv_1.call_initiation_failure.json", "event": "call_initiation_failure"} in files
    assert "12025550123" not in json.dumps(files)


def test_a_call_that_no_webhook_brought_says_that_it_was_fetched(aws, archive, get: Get) -> None:
    archive(stage(aws, call(has_audio=False), origin="api"))

    found = get("/calls/conv_1")

    assert (found["origin"], found["completeness"]["transcript"]) == ("api", "fetched")
    assert found["completeness"]["is_complete"] is True


def test_a_call_whose_transcript_is_missing_says_why(aws, archive, get: Get) -> None:
    api.handler.aws().records.note_missing(
        "conv_1", "2026-11-01T10:00:00Z", "ElevenLabs answered 404", is_last_try=True
    )

    found = get("/calls/conv_1")

    assert found["completeness"] == {
        "transcript": "missing", "audio": None, "audio_reason": None, "missing_reason": "ElevenLabs answered 404",
        "is_complete": False, "explanation": "The transcript has not arrived. ElevenLabs could not give it for a day, "
        "so it is no longer asked for.",
    }  # fmt: skip


@pytest.mark.parametrize("state", ["pending", "unavailable"])
def test_a_recording_that_is_missing_says_why(aws, get: Get, state: str) -> None:
    save(aws, "conv_1", "2026-11-01T10:00:00Z", audio=state, audio_missing_reason="ElevenLabs answered 404")

    assert get("/calls/conv_1")["completeness"]["audio_reason"] == "ElevenLabs answered 404"


def test_a_call_that_the_selection_left_out_is_not_found(aws, get: Get) -> None:
    api.handler.aws().records.leave_out("conv_1", "too_short")

    assert get("/calls/conv_1")["status"] == 404


def test_parked_audio_alone_has_no_recording_yet(aws, archive, get: Get) -> None:
    archive(stage(aws, audio()))

    assert get("/calls/conv_1")["completeness"]["transcript"] == "missing"
    assert get("/calls/conv_1/audio")["status"] == 404


def test_a_value_that_is_too_large_leaves_the_rest_of_the_call(aws, get: Get) -> None:
    large = ["x" * 10] * 400_000
    tool = {"params_as_json": json.dumps(large), "result_value": "y" * 2_000_000}
    results = {"a": {"value": large}, "b": {"value": 7}}
    turns = [{"message": "Hello", "tool_calls": [tool], "tool_results": [tool]}]
    put(aws, {"analysis": {"data_collection_results": results}, "transcript": turns})

    values = [each["value"] for each in get("/calls/conv_1")["collected"]]
    found = turn(get)

    assert "too large" in values[0]
    assert values[1] == 7
    assert found["message"] == "Hello"
    assert "too large" in found["tool_calls"][0]["arguments"]
    assert "too large" in found["tool_results"][0]["result"]
