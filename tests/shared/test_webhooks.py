"""The events in a body, and the bodies that are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PoisonError
from shared.parts import restore
from shared.webhooks import WebhookEvent, read_event, read_events, split
from tests.shared.test_conversation import values

ENVELOPE = ("type", "event_timestamp", "data", "conversation_id", "agent_id", "full_audio", "transcript", "status")
odd = values | st.sampled_from(["post_call_transcription", "2026-11-22", "9999-12-31T23:59:59-14:00", "conv_1", [], {}])


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(st.dictionaries(st.sampled_from(ENVELOPE), odd | st.dictionaries(st.sampled_from(ENVELOPE), odd)) | odd)
def test_a_body_of_any_shape_is_an_event_or_poison(body):
    try:
        event = read_event(encoded(body))
    except PoisonError:
        return

    assert isinstance(event, WebhookEvent)
    assert event.time_ms is None or 0 <= event.time_ms < 10**13
    assert restore(event.data) in encoded(body) + b"{}"


def test_an_array_is_split_into_its_elements_byte_for_byte():
    body = b' [ {"a" : 0.10, "b": "\\ud83d"},\n{"a" : 0.10, "b": "\\ud83d"} , 7]'

    assert split(body) == [b'{"a" : 0.10, "b": "\\ud83d"}'] * 2 + [b"7"]
    assert split(b'{"a": []}') is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "The body is an empty array."),
        (b"[%s]" % b",".join([b"{}"] * 1001), "The body is an array of more than 1,000 events."),
        (b"[NaN]", "The body is not JSON."),
    ],
    ids=["empty", "long", "no JSON"],
)
def test_an_array_that_is_empty_too_long_or_not_json_is_poison(body, reason):
    with pytest.raises(PoisonError) as refused:
        split(body)

    assert refused.value.error == reason
    assert list(read_events(body)) == []


def test_an_array_of_a_thousand_is_split():
    assert len(split(b"[%s]" % b",".join([b"{}"] * 1000)) or []) == 1000


def test_all_readable_events_of_a_body_are_found():
    call = {"type": "post_call_transcription", "data": {"conversation_id": "conv_1"}}

    assert [event.conversation_id for event in read_events(encoded([call, 7, {"type": "a/b"}, call["data"]]))] == [
        "conv_1", "conv_1",
    ]  # fmt: skip
    assert [event.conversation_id for event in read_events(encoded(call))] == ["conv_1"]


@pytest.mark.parametrize(
    ("timestamp", "ms"),
    [
        (1772550245, 1772550245000), ("1772550245.25", 1772550245250), ("2026-03-03T15:04:05Z", 1772550245000),
        ("2026-03-03T15:04:05", 1772550245000), (True, None), (-1, None), (1e11, None), ("soon", None), (None, None),
    ],
    ids=str,
)  # fmt: skip
def test_the_time_of_an_event_is_read_in_each_of_its_forms(timestamp, ms):
    assert read_event(encoded({"type": "future", "event_timestamp": timestamp})).time_ms == ms
