"""Archiving a call: its objects, record, announcements and log lines."""

import base64
import json
import tracemalloc
from datetime import timedelta
from decimal import Decimal

import pytest

import archiver.handler
from archiver.staged import open_staged
from tests.archiver.conftest import (
    FULL,
    FULL_ID,
    NOW,
    audio,
    envelope,
    stage,
    transcript,
)
from tests.conftest import fixture_body

MP3 = base64.b64decode(json.loads(fixture_body("08"))["data"]["full_audio"])


@pytest.mark.parametrize("order", [("02", "08"), ("08", "02")], ids=["transcript first", "audio first"])
def test_transcript_and_audio_become_one_call_in_either_order(aws, archive, order):
    for name in order:
        assert archive(stage(aws, fixture_body(name))) == []

    assert aws.object_keys() == {f"{FULL}/{FULL_ID}.json", f"{FULL}/{FULL_ID}.mp3"}
    assert aws.json(f"{FULL}/{FULL_ID}.json") == json.loads(fixture_body("02"))["data"]
    assert aws.body(f"{FULL}/{FULL_ID}.mp3") == MP3
    call = aws.call(FULL_ID)
    assert call["audio"] == "archived"
    assert call["mp3_key"] == f"{FULL}/{FULL_ID}.mp3"
    assert "parked" not in call
    assert call["staged_keys"] == aws.object_keys("staging/")
    assert [aws.tags(key) for key in call["staged_keys"]] == [{"archived": "true"}] * 2


def test_the_json_is_archived_byte_for_byte(aws, archive):
    data = {
        "conversation_id": "conv_1", "unknown": {"a": [None, True, {}]}, "long": 12345678901234567890123,
        "precise": Decimal("0.12345678901234567890123"), "huge": Decimal("1E+400"), "emoji": "🙂 \u2028 źdźbło",
        "half": "\ud83d", "full_audio": None,
    }  # fmt: skip
    raw = json.dumps(envelope(data), default=lambda number: f"<{number}>").replace('"<', "").replace('>"', "").encode()

    assert archive(stage(aws, raw)) == []

    written = aws.body("no-phone/conv_1.json")
    assert json.loads(written, parse_float=Decimal) == data
    assert b'"data": ' + written + b"}" in raw


def test_final_objects_have_their_metadata_and_tag(aws, archive):
    check = stage(aws, fixture_body("02"))
    archive(check, stage(aws, fixture_body("08")))

    delivery_id = json.loads(check)["delivery_id"]
    head = aws.head(f"{FULL}/{FULL_ID}.json")
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == {
        "external_number": "+12025550123", "conversation_id": FULL_ID, "agent_id": "agent_7001fixture0agent0alpha0001",
        "timestamp": "2026-03-03T15:04:05Z", "event": "post_call_transcription", "event_timestamp": "1772550278",
        "delivery_id": delivery_id, "order": f"1-1772550278000-{delivery_id}",
    }  # fmt: skip
    assert aws.head(f"{FULL}/{FULL_ID}.mp3")["ContentType"] == "audio/mpeg"
    assert aws.tags(f"{FULL}/{FULL_ID}.json") == aws.tags(f"{FULL}/{FULL_ID}.mp3") == {"tier": "archive"}


def test_announcements_name_the_call_and_never_a_number_in_their_attributes(aws, archive):
    archive(stage(aws, fixture_body("02")))
    archive(stage(aws, fixture_body("08")))

    messages = aws.take("Announcements")
    common = {
        "version": 2, "conversation_id": FULL_ID, "agent_id": "agent_7001fixture0agent0alpha0001",
        "order": aws.call(FULL_ID)["t_order"],
        "external_number": "+12025550123", "source_key": f"{FULL}/{FULL_ID}.json", "json_key": f"{FULL}/{FULL_ID}.json",
    }  # fmt: skip
    assert [json.loads(message["Body"]) for message in messages] == [
        common | {"event": "transcript_archived", "mp3_key": None, "audio": "pending"},
        common | {"event": "audio_archived", "mp3_key": f"{FULL}/{FULL_ID}.mp3", "audio": "archived"},
    ]
    attributes = [message["MessageAttributes"] for message in messages]
    agent = {"agent_id": "agent_7001fixture0agent0alpha0001"}
    assert [{name: value["StringValue"] for name, value in each.items()} for each in attributes] == [
        agent | {"event": "transcript_archived", "audio": "pending"},
        agent | {"event": "audio_archived", "audio": "archived"},
    ]


def test_a_call_keeps_its_folder_when_its_number_becomes_known(aws, archive):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=1)))
    archive(stage(aws, transcript(at=2)))
    archive(stage(aws, audio()))

    assert aws.object_keys() == {"no-phone/conv_1.json", "no-phone/conv_1.mp3"}
    assert aws.call("conv_1")["external_number"] == "+12025550123"
    assert aws.head("no-phone/conv_1.mp3")["Metadata"]["external_number"] == "+12025550123"


@pytest.mark.parametrize(
    "withheld",
    [None, "", "anonymous", "restricted", "sip:bob@example.com", "12345", "+266696687", "../../12025550123", 7],
)
def test_calls_without_a_usable_number_are_stored_under_no_phone(aws, archive, withheld):
    phone_call = {"external_number": withheld, "direction": "inbound"}

    assert archive(stage(aws, envelope({"conversation_id": "conv_1", "metadata": {"phone_call": phone_call}}))) == []

    assert aws.object_keys() == {"no-phone/conv_1.json"}
    assert "external_number" not in aws.call("conv_1")
    assert "external_number" not in aws.head("no-phone/conv_1.json")["Metadata"]


def test_the_record_describes_the_call(aws, archive):
    archive(stage(aws, fixture_body("02")))

    call = aws.call(FULL_ID)
    told = {name: call[name] for name in ("started_at", "duration_secs", "status", "call_successful", "summary")}
    assert told == {
        "started_at": "2026-03-03T15:04:05Z", "duration_secs": 21, "status": "done", "call_successful": "success",
        "summary": "The caller moved a mooring to Thursday.",
    }  # fmt: skip


def test_a_known_number_is_never_removed(aws, archive):
    archive(stage(aws, transcript(at=1)))
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=2)))

    assert aws.call("conv_1")["external_number"] == "+12025550123"


def test_the_log_has_the_lines_that_operators_know_with_the_number_masked(aws, archive, logs):
    archive(stage(aws, fixture_body("02")), stage(aws, fixture_body("08")))

    messages = [json.loads(line)["message"] for line in logs.getvalue().splitlines()]
    assert messages[:6] == [
        "No full_audio field found",
        f"Saving JSON to S3: s3://{aws.bucket}/120…123/{FULL_ID}.json",
        f"Successfully saved JSON for conversation {FULL_ID}",
        "Call archived",
        f"Saving MP3 to S3: s3://{aws.bucket}/120…123/{FULL_ID}.mp3 ({len(MP3)} bytes)",
        f"Successfully saved MP3 for conversation {FULL_ID}",
    ]
    for private in ("2025550123", "mooring", 'full_audio":'):
        assert private not in logs.getvalue()


@pytest.mark.parametrize("summary", ["é" * 5000, "🙂" * 5000, "half \ud83d"], ids=["two bytes", "four bytes", "half"])
def test_the_record_keeps_4_kb_of_the_summary(aws, archive, summary):
    archive(stage(aws, transcript(analysis={"transcript_summary": summary})))

    kept = aws.call("conv_1")["summary"]
    assert len(kept.encode()) <= 4096
    assert summary.startswith(kept.rstrip())


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": "none"}, {"metadata": {"start_time_unix_secs": "soon", "call_duration_secs": -1}},
        {"analysis": []},
        {"metadata": {"start_time_unix_secs": 1e300}}, {"transcript": "text"}, {"transcript": [None, 7, {"role": 1}]},
        {"has_audio": "perhaps"}, {"agent_id": "../x"}, {"analysis": {"evaluation_criteria_results": {"a": 1}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_call_with_unexpected_field_values_is_archived(aws, archive, odd):
    body = envelope({"conversation_id": "conv_1"} | odd)

    assert archive(stage(aws, body)) == []

    assert aws.json("no-phone/conv_1.json") == body["data"]


@pytest.mark.parametrize(
    ("at", "milliseconds"),
    [
        (1772550278, 1772550278000), (1772550278.5, 1772550278500), ("1772550278", 1772550278000),
        (9_999_999_999, 9_999_999_999_000), (99_999_999_999, 0),
        ("2026-03-03T15:04:38Z", 1772550278000), (None, 0), ("soon", 0), (-5, 0), (1e300, 0), ([], 0),
    ],
    ids=str,
)  # fmt: skip
def test_the_order_uses_the_events_time_in_any_form(aws, archive, at, milliseconds):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=at)))

    assert aws.head("no-phone/conv_1.json")["Metadata"]["order"].startswith(f"1-{milliseconds:013d}-")


def test_without_an_event_time_the_order_uses_the_calls_end(aws, archive):
    metadata = {"start_time_unix_secs": 1772550245, "call_duration_secs": 21}
    archive(stage(aws, {"conversation_id": "conv_2", "metadata": {"start_time_unix_secs": 99_999_999_999}}))
    archive(stage(aws, {"conversation_id": "conv_1", "metadata": metadata}))

    assert aws.head("no-phone/conv_1.json")["Metadata"]["order"].startswith("1-1772550266000-")
    assert aws.head("no-phone/conv_2.json")["Metadata"]["order"].startswith("1-0000000000000-")


def test_a_body_of_6_mb_needs_about_three_times_its_size_in_memory(aws, archive):
    size = 6_000_000
    archive(stage(aws, transcript()))
    check = stage(aws, audio(content=bytes(size * 3 // 4)), now=NOW + timedelta(hours=1))
    key = archiver.handler.read_claim_check(check).staged_key

    with open_staged(archiver.handler.aws().bucket, key) as staged:
        tracemalloc.start()
        event = staged.event()
        decoded = staged.audio(event)
        peak = tracemalloc.get_traced_memory()[1] + len(staged.body)
        tracemalloc.stop()

    assert decoded.seek(0, 2) == size * 3 // 4
    assert peak < 3.2 * size
