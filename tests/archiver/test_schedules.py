"""The join under random schedules: interleaved workers, crashes between any two calls, duplicates and retries."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from itertools import count, cycle
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archiver.handler
from archiver.handler import handle_record
from tests.archiver.conftest import FULL, NOW, audio, stage, stage_recording, staged_key, transcript
from tests.conftest import Stack, sqs_event
from tests.schedules import Worker, run_all, watch

conversations = count(1)


def watched() -> None:
    """Make every AWS client of the archiver wait for its worker's turn."""
    found = archiver.handler.aws()
    watch(found.bucket._s3, found.sqs, found.table.meta.client, archiver.handler.sns())


def handling(check: str, crash_before: int | None = None) -> Worker:
    return Worker(lambda: handle_record(SQSRecord(sqs_event(check)["Records"][0])), crash_before)


def deliver_until_tagged(aws: Stack, checks: list[str]) -> None:
    """Deliver untagged bodies again until all are tagged, like SQS and the hourly sweep."""
    waiting = checks
    for _ in range(len(checks) + 2):
        waiting = [check for check in waiting if not aws.tags(staged_key(check))]
        for check in waiting:
            worker = handling(check)
            run_all([worker], [])
            assert worker.error is None
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * len(checks)


deliveries = st.lists(
    st.tuples(st.integers(0, 3), st.none() | st.integers(0, 14)), min_size=1, max_size=5
)  # the body, and the call before which its worker crashes


@given(
    transcripts=st.integers(1, 2), audios=st.integers(1, 2), rounds=st.lists(deliveries, min_size=1, max_size=3),
    turns=st.lists(st.integers(0, 4), max_size=60),
)  # fmt: skip
@settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def check_schedule(aws: Stack, transcripts: int, audios: int, rounds: list, turns: list[int]) -> None:
    conversation_id = f"conv_{next(conversations)}"
    bodies = [transcript(conversation_id, at=1772550278 + n, status=f"version {n}") for n in range(transcripts)]
    bodies += [audio(conversation_id, b"sound %d" % n, at=1772550281 + n) for n in range(audios)]
    checks = [stage(aws, body, now=NOW + timedelta(hours=n)) for n, body in enumerate(bodies)]

    for round_ in rounds:
        run_all([handling(checks[body % len(checks)], crash) for body, crash in round_], turns)
    deliver_until_tagged(aws, checks)

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


def lose_answers(table: Any, lost: Iterator[bool]) -> None:
    """Lose DynamoDB's answers as `lost` says, so that botocore repeats requests that were already executed."""
    update = type(table).update_item

    def update_item(**request: Any) -> Any:
        answer = update(table, **request)
        return update(table, **request) if next(lost) else answer

    table.update_item = update_item


KINDS = ("transcript", "inline", "audio", "fetched")


def body(kind: str, conversation_id: str, number: int) -> Any:
    content = b"ID3 " + b"%d " % number * (number + 1)  # later ones are longer
    inline = {"full_audio": base64.b64encode(content).decode()} if kind == "inline" else {}
    if kind == "audio":
        return audio(conversation_id, content, at=1772550300 + number)
    return content if kind == "fetched" else transcript(conversation_id, at=1772550278 + number, **inline)


def staged(aws: Stack, kind: str, conversation_id: str, number: int) -> str:
    content, hour = body(kind, conversation_id, number), NOW + timedelta(hours=number)
    return stage_recording(aws, conversation_id, content, hour) if kind == "fetched" else stage(aws, content, now=hour)


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), repeats=st.booleans(),
    rounds=st.lists(deliveries, min_size=1, max_size=3), turns=st.lists(st.integers(0, 4), max_size=60),
    lost=st.lists(st.booleans(), min_size=1, max_size=7),
)  # fmt: skip
@settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def check_recordings(
    aws: Stack, kinds: list[str], repeats: bool, rounds: list, turns: list[int], lost: list[bool]
) -> None:
    conversation_id = f"conv_{next(conversations)}"
    kinds = ["transcript", *kinds]
    checks = [staged(aws, kind, conversation_id, number) for number, kind in enumerate(kinds)]
    if repeats:  # of the last delivery, which is in another hour
        checks.append(stage(aws, body("audio", conversation_id, 1), now=NOW + timedelta(hours=9)))
        checks.append(stage(aws, body("audio", conversation_id, 1), now=NOW + timedelta(hours=8)))
    lose_answers(archiver.handler.aws().table, cycle(lost))

    for round_ in rounds:
        run_all([handling(checks[number % len(checks)], crash) for number, crash in round_], turns)
    deliver_until_tagged(aws, checks)

    call = aws.call(conversation_id)
    assert not {"parked", "waiting", "state", "started"} & set(call)
    assert call["staged_keys"] == {staged_key(check) for check in checks}
    head = aws.head(f"{FULL}/{conversation_id}.json")
    assert head["Metadata"]["order"] == call["t_order"]
    if repeats or set(kinds) - {"transcript"}:
        head = aws.head(f"{FULL}/{conversation_id}.mp3")
        assert (call["audio"], call["mp3_order"]) == ("archived", head["Metadata"]["order"])
        assert aws.body(f"{FULL}/{conversation_id}.mp3") == newest(kinds, repeats)


def newest(kinds: list[str], repeats: bool) -> bytes:
    """The recording that wins: the latest webhook's, or else the latest fetched one."""
    sent = [(number, kind) for number, kind in enumerate(kinds) if kind in ("inline", "audio")]
    times = [(1772550300 + number if kind == "audio" else 1772550278 + number, number) for number, kind in sent]
    times += [(1772550301, 1)] * repeats
    number = max(times)[1] if times else max(number for number, kind in enumerate(kinds) if kind == "fetched")
    return bytes(body("fetched", "", number))


def test_no_schedule_leaves_an_older_recording_or_a_record_without_it(aws):
    watched()

    check_recordings(aws)


@pytest.mark.parametrize(
    ("order", "longest"), [((0, 1), 6), ((1, 0), 10)], ids=["transcript first", "audio first"]
)  # the second of the two makes this many calls to AWS
def test_a_retry_completes_the_work_after_a_crash_before_any_single_call(aws, order, longest):
    watched()

    for step in count():
        conversation_id = f"conv_{next(conversations)}"
        checks = [stage(aws, body) for body in (transcript(conversation_id), audio(conversation_id))]
        workers = [handling(checks[index], step) for index in order]
        for worker in workers:
            run_all([worker], [])
        deliver_until_tagged(aws, checks)
        assert aws.call(conversation_id)["audio"] == "archived"
        assert f"{FULL}/{conversation_id}.mp3" in aws.object_keys()
        events = {each["event"] for each in aws.announcements() if each["conversation_id"] == conversation_id}
        assert events == {"transcript_archived", "audio_archived"}
        if all(worker.steps < step for worker in workers):
            assert step > longest
            break


def until(worker: Worker, holds: Any) -> None:
    while worker.alive and not holds():
        worker.step()


def test_audio_that_is_dropped_and_delivered_again_is_archived_and_recorded(aws, monkeypatch):
    """A short transcript deletes the parked audio, a longer one removes the mark, and the audio is delivered again."""
    monkeypatch.setenv("MINIMUM_CALL_SECONDS", "5")
    watched()

    def call_of_seconds(seconds: int, at: int) -> str:
        metadata = {"phone_call": {"external_number": "+12025550123"}, "call_duration_secs": seconds}
        return stage(aws, transcript(at=at, metadata=metadata))

    first, again = (stage(aws, audio(), now=NOW + timedelta(hours=hour)) for hour in range(2))
    short, long = call_of_seconds(2, at=1), call_of_seconds(60, at=2)
    run_all([handling(first)], [])
    drops, lifts, repeats = handling(short), handling(long), handling(again)
    for worker in (drops, lifts, repeats):
        worker.start()

    until(drops, lambda: aws.call("conv_1").get("left_out"))
    until(lifts, lambda: aws.call("conv_1").get("t_order"))
    until(drops, lambda: False)
    until(repeats, lambda: f"{FULL}/conv_1.mp3" in aws.object_keys())
    until(lifts, lambda: False)
    until(repeats, lambda: False)

    assert [worker.error for worker in (drops, lifts, repeats)] == [None] * 3
    call = aws.call("conv_1")
    assert (call["audio"], call["mp3_key"]) == ("archived", f"{FULL}/conv_1.mp3")
    assert not {"parked", "waiting"} & set(call)
    assert aws.tags(staged_key(again)) == {"archived": "true"}
