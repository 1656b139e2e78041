"""Calls that the stack's parameters exclude."""

import pytest

from archiver.handler import lambda_handler
from tests.archiver.conftest import stage
from tests.conftest import forget, sqs_event
from tests.reconciler.conftest import HOUR, NOW, conversation, run


@pytest.fixture
def selective(aws, elevenlabs, monkeypatch):
    """The stack keeps only calls of one agent that took at least 30 s."""
    monkeypatch.setenv("MINIMUM_CALL_SECONDS", "30")
    monkeypatch.setenv("AGENT_IDS", "agent_ours")
    forget()


def of(seconds: int, agent: str = "agent_ours", name: str = "conv_1"):
    data = conversation(name, agent_id=agent)
    return data | {"metadata": data["metadata"] | {"call_duration_secs": seconds}}


def test_excluded_calls_are_not_fetched_and_not_missing(aws, elevenlabs, selective):
    elevenlabs.add(of(29, name="conv_short"))
    elevenlabs.add(of(60, "agent_other", name="conv_other"))
    elevenlabs.add(of(30, name="conv_ours"))

    report = run()

    assert (report["missing_calls"], report["left_out"], report["outcomes"]) == (1, 2, {"fetched": 1})
    assert [request.conversation_id for request in elevenlabs.requests if request.route == "get"] == ["conv_ours"]


def test_a_call_that_the_archiver_left_out_is_never_fetched(aws, elevenlabs, selective, context):
    left_out = {"type": "post_call_transcription", "event_timestamp": 1, "data": of(3)}
    assert lambda_handler(sqs_event(stage(aws, left_out)), context) == {"batchItemFailures": []}
    elevenlabs.add(of(60))

    reports = [run(NOW + hours * HOUR) for hours in range(2)]

    assert [(report["missing_calls"], report["left_out"], report["oldest"]) for report in reports] == [(0, 1, None)] * 2
    assert "get" not in [request.route for request in elevenlabs.requests]


def test_an_excluded_call_with_parked_audio_is_fetched_and_both_deleted(
    aws, elevenlabs, selective, archive_all, context
):
    data = {"conversation_id": "conv_1", "full_audio": "SUQz"}
    lambda_handler(sqs_event(stage(aws, {"type": "post_call_audio", "event_timestamp": 1, "data": data})), context)
    elevenlabs.add(of(3))

    run()
    archive_all()

    assert aws.object_keys() == aws.object_keys("staging/") == set()
    assert "parked" not in aws.call("conv_1")
    assert run(NOW + HOUR)["missing_calls"] == 0
