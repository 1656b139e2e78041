"""The join under every schedule: workers interleaved call by call, crashing between any two, duplicated and retried."""

from datetime import timedelta
from itertools import count

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archiver.handler
from archiver.handler import handle_record
from tests.archiver.conftest import NOW, stage, staged_key
from tests.archiver.test_handler import FULL, audio, transcript
from tests.conftest import Stack, sqs_event
from tests.schedules import Worker, run_all, watch

conversations = count(1)


def watched() -> None:
    """Let every AWS client of the archiver ask its worker first."""
    found = archiver.handler.aws()
    table = found.archiver._records._table.meta.client
    watch(found.bucket._s3, found.archiver._announcer._sns, found.sqs, table)


def handling(check: str, crash_before: int | None = None) -> Worker:
    return Worker(lambda: handle_record(SQSRecord(sqs_event(check)["Records"][0])), crash_before)


def settle(aws: Stack, checks: list[str]) -> None:
    """What SQS and the hourly sweep do: bring back all that is not tagged until it is."""
    for _ in range(len(checks) + 2):
        for check in checks:
            if not aws.tags(staged_key(check)):
                worker = handling(check)
                run_all([worker], [])
                assert worker.error is None
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * len(checks)


deliveries = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(0, 14)), min_size=1, max_size=5
)  # which body, and before which call its worker crashes


@given(
    transcripts=st.integers(1, 2), audios=st.integers(1, 2), rounds=st.lists(deliveries, min_size=1, max_size=3),
    turns=st.lists(st.integers(0, 4), max_size=60),
)  # fmt: skip
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def check_schedule(aws: Stack, transcripts: int, audios: int, rounds: list, turns: list[int]) -> None:
    conversation_id = f"conv_{next(conversations)}"
    bodies = [transcript(conversation_id, at=1772550278 + n, status=f"version {n}") for n in range(transcripts)]
    bodies += [audio(conversation_id, b"sound %d" % n, at=1772550281 + n) for n in range(audios)]
    checks = [stage(aws, body, now=NOW + timedelta(hours=n)) for n, body in enumerate(bodies)]

    for round_ in rounds:
        run_all([handling(checks[body % len(checks)], crash) for body, crash in round_], turns)
    settle(aws, checks)

    folder = f"{FULL}/{conversation_id}"
    assert aws.json(f"{folder}.json")["status"] == f"version {transcripts - 1}"
    assert aws.body(f"{folder}.mp3") == b"sound %d" % (audios - 1)
    call = aws.call(conversation_id)
    assert call["status"] == f"version {transcripts - 1}"
    assert (call["audio"], call["mp3_key"], call["json_key"]) == ("archived", f"{folder}.mp3", f"{folder}.json")
    assert "parked" not in call
    assert call["staged_keys"] == {staged_key(check) for check in checks}
    events = {each["event"] for each in aws.announcements() if each["conversation_id"] == conversation_id}
    assert events == {"transcript_archived", "audio_archived"}
    versions = [key for key, _ in aws.versions(folder)]
    assert versions.count(f"{folder}.json") <= transcripts
    assert versions.count(f"{folder}.mp3") <= audios


def test_no_schedule_loses_a_call_or_leaves_an_older_one(aws):
    watched()

    check_schedule(aws)


@pytest.mark.parametrize(
    ("order", "longest"), [((0, 1), 6), ((1, 0), 10)], ids=["transcript first", "audio first"]
)  # the second of the two makes that many calls to AWS
def test_a_crash_before_any_single_call_is_healed_by_the_retry(aws, order, longest):
    watched()

    for step in count():
        conversation_id = f"conv_{next(conversations)}"
        checks = [stage(aws, body) for body in (transcript(conversation_id), audio(conversation_id))]
        workers = [handling(checks[index], step) for index in order]
        for worker in workers:
            run_all([worker], [])
        settle(aws, checks)
        assert aws.call(conversation_id)["audio"] == "archived"
        assert f"{FULL}/{conversation_id}.mp3" in aws.object_keys()
        events = {each["event"] for each in aws.announcements() if each["conversation_id"] == conversation_id}
        assert events == {"transcript_archived", "audio_archived"}
        if all(worker.steps < step for worker in workers):
            assert step > longest
            break
