"""Calls that ElevenLabs does not return: retried for a day, then recorded as unavailable."""

from datetime import timedelta

import pytest

from archiver.handler import lambda_handler
from shared.times import utc
from tests.archiver.conftest import stage
from tests.conftest import sqs_event
from tests.reconciler.conftest import HOUR, NOW, START, conversation, run


def test_failures_of_the_api_do_not_count_as_attempts(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())
    for hours in range(4):
        elevenlabs.plan("get", *["500"] * 4)
        assert run(NOW + hours * HOUR)["outcomes"] == {"failed": 1}

    run(NOW + 4 * HOUR)

    assert len(archive_all()) == 1


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop"])
def test_a_short_fault_is_retried(aws, elevenlabs, archive_all, fault):
    elevenlabs.add(conversation())
    elevenlabs.plan("list", fault)
    elevenlabs.plan("get", fault, fault)

    assert run()["outcomes"] == {"fetched": 1}


@pytest.mark.parametrize("answer", ["html", "empty", "truncated"])
def test_an_answer_that_is_not_a_conversation_is_not_staged(aws, elevenlabs, archive_all, answer):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", answer)

    report = run()

    assert report["outcomes"] == {"failed": 1}
    assert report["missing_calls"] == 1
    assert archive_all() == []


def test_an_answer_with_another_call_is_not_staged(aws, elevenlabs, archive_all):
    elevenlabs.conversations["conv_1"] = conversation("conv_1")

    def swap(request):
        if request.route == "get":
            elevenlabs.conversations["conv_1"] = conversation("conv_2")

    elevenlabs.before_answer = swap

    assert run()["outcomes"] == {"failed": 1}
    assert archive_all() == []


def test_a_call_that_is_deleted_after_the_listing_is_not_missing(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", *["404"] * 3)

    reports = [run(NOW + hours * HOUR) for hours in range(3)]

    assert [report["outcomes"] for report in reports] == [{"not_found": 1}, {"gone": 1}, {"gone": 1}]
    assert [report["missing_calls"] for report in reports] == [0] * 3
    assert aws.call("conv_1")["missing_since"] == utc(NOW)
    assert [report["settled_until"] for report in reports] == [utc(START), utc(NOW + HOUR), utc(NOW + 2 * HOUR)]


def test_a_call_is_gone_only_if_two_passes_in_a_row_do_not_find_it(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", *["500"] * 4, "404", *["500"] * 4, "404", "404")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in range(5)]

    assert outcomes == [{each: 1} for each in ("failed", "not_found", "failed", "not_found", "gone")]


@pytest.mark.parametrize(("fault", "outcome"), [("404", "not_found"), ("processing", "unfinished"), ("403", "failed")])
def test_an_old_call_stays_in_the_window_after_one_fault(aws, elevenlabs, archive_all, fault, outcome):
    run(NOW - timedelta(days=40))
    elevenlabs.add(conversation(ended=timedelta(days=39)))
    elevenlabs.plan("get", fault)
    assert run(NOW)["outcomes"] == {outcome: 1}

    assert run(NOW + HOUR)["outcomes"] == {"fetched": 1}

    archive_all()
    assert run(NOW + 2 * HOUR)["settled_until"] == utc(NOW + 2 * HOUR)


REASONS = {
    "403": "ElevenLabs answered 403",
    "422": "ElevenLabs answered 422",
    "500": "ElevenLabs answered 500",
    "drop": "ElevenLabs: no answer: RemoteProtocolError",
    "html": "ElevenLabs: the answer is not a conversation",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=REASONS)
def test_after_a_day_of_any_fault_a_call_is_unavailable_with_the_reason(aws, elevenlabs, fault, reason):
    elevenlabs.add(conversation())
    outcomes = []
    for hours in (0, 12, 23, 24, 25):
        elevenlabs._faults["get"].clear()
        elevenlabs.plan("get", *[fault] * 4)
        report = run(NOW + hours * HOUR)
        outcomes.append(report["outcomes"])

    assert outcomes == [{"failed": 1}] * 3 + [{"unavailable": 1}] * 2
    assert (report["missing_calls"], report["settled_until"]) == (1, utc(NOW + 25 * HOUR))
    call = aws.call("conv_1")
    assert (call["missing_since"], call["missing_reason"]) == (utc(NOW), reason)
    assert call["given_up_at"] == utc(NOW + 24 * HOUR)


def test_an_unavailable_call_is_not_requested_but_archived_from_a_webhook(aws, elevenlabs, context):
    elevenlabs.add(conversation())
    for hours in (0, 24):
        elevenlabs.plan("get", "403")
        run(NOW + hours * HOUR)
    asked = len(elevenlabs.requests)
    assert run(NOW + 25 * HOUR)["outcomes"] == {"unavailable": 1}
    assert [request.route for request in elevenlabs.requests[asked:]] == ["list", "webhooks"]

    late = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation()}
    lambda_handler(sqs_event(stage(aws, late)), context)

    assert run(NOW + 26 * HOUR)["missing_calls"] == 0


def test_after_a_success_a_call_has_a_whole_day_again(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "403", "ok", "403")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in (0, 1, 30)]

    assert outcomes == [{"failed": 1}, {"fetched": 1}, {"failed": 1}]


def test_lost_answers_do_not_count_as_attempts_or_failures(aws, elevenlabs, lost_answers):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "404", "ok", "404")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in range(3)]

    assert outcomes == [{"not_found": 1}, {"fetched": 1}, {"not_found": 1}]
    assert aws.call("conv_1")["fetches"] == 1


@pytest.mark.parametrize("fault", ["403", "422"])
def test_a_refusal_of_one_call_concerns_that_call_only(aws, elevenlabs, archive_all, fault):
    for number in range(3):
        elevenlabs.add(conversation(f"conv_{number}"))
    elevenlabs.plan("get", fault)

    report = run()

    assert report["outcomes"] == {"failed": 1, "fetched": 2}
    assert report["missing_calls"] == 3
