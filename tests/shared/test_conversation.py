"""The fields of a conversation, in every form that ElevenLabs sends."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.caller import find_caller
from shared.conversation import Criterion, Turn, read_conversation
from shared.parts import read_json

FIELDS = (
    "agent_id", "status", "user_id", "has_audio", "transcript", "metadata", "analysis", "call_duration",
    "conversation_initiation_client_data", "start_time_unix_secs", "call_duration_secs", "call_successful",
    "transcript_summary", "summary", "evaluation_criteria_results", "evaluation", "role", "message", "content",
    "result", "rationale", "phone_call", "sms", "whatsapp", "caller_id", "body", "external_number",
    "otlp_traces", "direction", "sms_user_phone_number",
    "whatsapp_user_id", "To", "to_number", "dynamic_variables", "system__caller_id",
    "resourceSpans", "scopeSpans", "spans", "parentSpanId", "attributes", "key", "value", "stringValue",
)  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([10**400, -1, 1e308, "nan", "inf", "-1", "\ud83d"]) | st.text(max_size=8)
    | st.sampled_from(["inbound", "+12025550123", "sip:+12025550123@x", "elevenlabs.telephony.external_number"])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
)
calls = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)


def part(value: Any) -> bytes:
    return read_json(json.dumps(value).encode())


@given(calls | values)
def test_a_field_may_have_any_value(data):
    conversation = read_conversation(part(data))

    assert all(turn.message is None or isinstance(turn.message, str) for turn in conversation.turns())
    assert all(isinstance(criterion.name, str) for criterion in conversation.criteria())
    assert conversation.ended_ms is None or 0 <= conversation.ended_ms < 10**13
    assert all(7 <= len(digits) <= 15 for digits in find_caller(part(data)).numbers)


@pytest.mark.parametrize("odd", [None, 7, 1e300, "odd", True])
def test_elements_that_are_not_turns_are_ignored(odd):
    transcript = [{"role": "user", "message": "Hello"}, odd, {"role": "agent", "content": "Hi"}, {"role": 7}]

    turns = list(read_conversation(part({"transcript": transcript})).turns())

    assert turns == [Turn("user", "Hello"), Turn("agent", "Hi"), Turn(None, None)]


def test_criteria_keep_their_order_and_their_names():
    results = {"b": {"result": "success"}, "\ud83d": {"rationale": "half"}, "\uf8ff": 7}

    analysis = {"evaluation_criteria_results": results, "evaluation": {"result": "failure"}}

    assert list(read_conversation(part({"analysis": analysis})).criteria()) == [
        Criterion("b", "success", None), Criterion("\ud83d", None, "half"), Criterion("\uf8ff", None, None),
        Criterion("evaluation", "failure", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "read"),
    [
        (1772550245, 1772550245),
        ("1772550245.5", 1772550245.5),
        (-1, None),
        (1e300, None),
        (10**400, None),
        (True, None),
    ],
    ids=str,
)
def test_valid_times_are_read_and_others_ignored(seconds, read):
    started_at = read_conversation(part({"metadata": {"start_time_unix_secs": seconds}})).started_at

    assert (started_at.timestamp() if started_at else None) == read
