"""Calls and audio that the stack's parameters exclude are deleted; everything else is kept."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import archiver.handler
from tests.archiver.conftest import FULL, audio, envelope, stage, stage_recording, staged_key, transcript
from tests.archiver.test_schedules import handling, watched
from tests.conftest import Stack, fixture_body, forget
from tests.schedules import run_all

OURS, OTHER = "agent_ours", "agent_other"
SetParameters = Callable[..., None]


@pytest.fixture
def set_parameters(aws: Stack, monkeypatch: pytest.MonkeyPatch) -> SetParameters:
    """Set parameters of the stack through their environment variables, also repeatedly."""

    def run(**parameters: str) -> None:
        for name, value in parameters.items():
            monkeypatch.setenv(name, value)
        forget()

    return run


def of(seconds: float | None = 60, agent: str | None = OURS, **fields: Any) -> dict[str, Any]:
    """A transcript of a call with this duration and agent."""
    metadata = {"phone_call": {"external_number": "+12025550123"}, "call_duration_secs": seconds}
    return transcript(**{"metadata": metadata, "agent_id": agent} | fields)


def audio_of(agent: str | None = None, **fields: Any) -> dict[str, Any]:
    heard = audio(**fields)
    return heard | {"data": heard["data"] | ({"agent_id": agent} if agent else {})}


def event(agent: str | None = OURS) -> dict[str, Any]:
    return envelope({"conversation_id": "conv_1", "agent_id": agent}, "call_initiation_failure")


def remaining_keys(aws: Stack) -> set[str]:
    """Every key that has a version or a delete marker."""
    found = aws.s3.list_object_versions(Bucket=aws.bucket)
    return {each["Key"] for each in found.get("Versions", []) + found.get("DeleteMarkers", [])}


def outcomes(capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    """The metrics that have a reason."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    for line in lines:
        if "reason" in line:
            yield line["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], line["reason"]


def assert_nothing_is_kept(aws: Stack, reason: str, name: str = "conv_1") -> None:
    assert remaining_keys(aws) == set()
    assert {field: value for field, value in aws.call(name).items() if field != "staged_keys"} == {
        "conversation_id": name, "item": "call", "left_out": reason,
    }  # fmt: skip
    assert aws.announcements() == []
    assert aws.reasons() == []


@pytest.mark.parametrize(
    ("unfit", "reason"), [(of(seconds=29.9), "too_short"), (of(agent=OTHER), "other_agent")], ids=["short", "agent"]
)
def test_only_a_mark_remains_of_a_call_that_is_left_out(aws, archive, set_parameters, capsys, logs, unfit, reason):
    set_parameters(MINIMUM_CALL_SECONDS="30", AGENT_IDS=f"{OURS}, agent_also")
    check = stage(aws, unfit)

    assert archive(check) == []

    assert list(outcomes(capsys)) == [("CallLeftOut", reason)]
    assert [line for line in logs.getvalue().splitlines() if "left out" in line and reason in line]
    assert "2025550123" not in logs.getvalue()
    assert archive(check) == []
    assert_nothing_is_kept(aws, reason)


@pytest.mark.parametrize(
    "late",
    [audio_of(), audio_of(agent=OURS), event(), of(seconds=3, status="again")],
    ids=["audio", "its", "event", "again"],
)
def test_later_events_of_a_call_that_is_left_out_are_left_out_too(aws, archive, set_parameters, late):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    archive(stage(aws, of(seconds=3)))

    assert archive(stage(aws, late)) == []

    assert_nothing_is_kept(aws, "too_short")


def test_a_fetched_recording_of_a_call_that_is_left_out_is_deleted(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    archive(stage(aws, of(seconds=3)))

    assert archive(stage_recording(aws, "conv_1", b"ID3")) == []

    assert_nothing_is_kept(aws, "too_short")


def test_parked_audio_of_a_call_that_is_left_out_is_deleted(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    check = stage(aws, audio())
    archive(check)
    assert aws.tags(staged_key(check)) == {}

    assert archive(stage(aws, of(seconds=3)), check) == []

    assert_nothing_is_kept(aws, "too_short")


@pytest.mark.parametrize("late", [audio_of(agent=OTHER), event(agent=OTHER)], ids=["audio", "event"])
def test_events_of_another_agent_are_left_out_before_their_call_is_known(aws, archive, set_parameters, late):
    set_parameters(AGENT_IDS=OURS)

    assert archive(stage(aws, late)) == []

    assert remaining_keys(aws) == set()
    assert aws.call("conv_1") == {}


@pytest.mark.parametrize(
    "fit",
    [of(seconds=30), of(seconds=None), of(seconds="long"), of(agent=None), of(agent="no id!"), of(seconds=30.5)],
    ids=["just long enough", "of unknown length", "odd length", "of an unknown agent", "odd agent", "a bit longer"],
)
def test_a_call_that_the_selection_does_not_exclude_is_kept_whole(aws, archive, set_parameters, fit):
    set_parameters(MINIMUM_CALL_SECONDS="30", AGENT_IDS=OURS)

    assert archive(stage(aws, fit), stage(aws, audio())) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json", f"{FULL}/conv_1.mp3"}
    assert len(aws.announcements()) == 2


def test_other_elements_of_an_array_are_kept_if_one_call_is_left_out(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    neighbour = transcript("conv_2")

    assert archive(stage(aws, [of(seconds=3), neighbour])) == []

    assert aws.object_keys() == {f"{FULL}/conv_2.json"}
    assert [json.loads(aws.body(key)) for key in aws.object_keys("staging/")] == [neighbour]


def test_a_transcript_that_is_kept_removes_the_mark(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    archive(stage(aws, of(seconds=3, at=1)))

    assert archive(stage(aws, of(seconds=31, at=2)), stage(aws, audio())) == []

    assert "left_out" not in aws.call("conv_1")
    assert aws.object_keys() == {f"{FULL}/conv_1.json", f"{FULL}/conv_1.mp3"}


def test_a_call_fetched_after_a_change_of_the_parameter_removes_the_mark(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    archive(stage(aws, of(seconds=3)))
    set_parameters(MINIMUM_CALL_SECONDS="0")
    fetched = {"type": "post_call_transcription", "data": of(seconds=3)["data"]}

    assert archive(stage(aws, fetched, origin="api")) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert "left_out" not in aws.call("conv_1")


def test_an_archived_call_stays_whole_after_a_change_of_the_parameters(aws, archive, set_parameters):
    checks = [stage(aws, of(seconds=3, agent=OTHER, at=1)), stage(aws, of(seconds=3, agent=OTHER, at=2, status="new"))]
    archive(checks[0])
    set_parameters(MINIMUM_CALL_SECONDS="30", AGENT_IDS=OURS)

    assert archive(*checks, stage(aws, audio_of(agent=OTHER))) == []

    assert aws.json(f"{FULL}/conv_1.json")["status"] == "new"
    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


@pytest.mark.parametrize("crashing", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("audio_first", [True, False], ids=["audio first", "transcript first"])
def test_a_retry_completes_the_work_after_a_crash_before_any_single_call(aws, set_parameters, audio_first, crashing):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    watched()

    for step in count():
        name = f"conv_{step}"
        bodies = [audio(name), of(seconds=3, conversation_id=name)]
        checks = [stage(aws, body) for body in (bodies if audio_first else bodies[::-1])]
        workers = [handling(check, step if index == crashing else None) for index, check in enumerate(checks)]
        for worker in [*workers, handling(checks[crashing])]:
            run_all([worker], [])
            assert worker.error is None
        assert_nothing_is_kept(aws, "too_short", name)
        if workers[crashing].steps < step:
            break


def test_a_call_is_archived_although_leaving_it_out_crashed_before(aws, archive, set_parameters):
    set_parameters(MINIMUM_CALL_SECONDS="30")
    watched()

    for step in count():
        name = f"conv_{step}"
        archive(stage(aws, audio(name)))
        crashed = stage(aws, of(seconds=3, at=1, conversation_id=name))
        worker = handling(crashed, step)
        run_all([worker], [])

        assert archive(stage(aws, of(seconds=31, at=2, conversation_id=name)), crashed) == []

        call = aws.call(name)
        assert "parked" not in call
        assert call["audio"] == ("archived" if f"{FULL}/{name}.mp3" in aws.object_keys() else "pending")
        assert f"{FULL}/{name}.json" in aws.object_keys()
        assert aws.reasons() == []
        if worker.steps < step:
            break
    assert step > 8


@pytest.mark.parametrize("order", [("02", "08"), ("08", "02")], ids=["transcript first", "audio first"])
def test_if_no_audio_is_kept_a_call_is_archived_and_no_recording_expected(aws, archive, set_parameters, capsys, order):
    set_parameters(KEEP_AUDIO="false")
    checks = {name: stage(aws, fixture_body(name)) for name in order}

    assert archive(*checks.values()) == []
    assert archive(*checks.values()) == []

    assert remaining_keys(aws) == {f"{FULL}/conv_fixture00000000000000000full.json", staged_key(checks["02"])}
    (announced, *_) = aws.announcements()
    assert (announced["event"], announced["audio"], announced["mp3_key"]) == (
        "transcript_archived",
        "unavailable",
        None,
    )
    assert aws.call("conv_fixture00000000000000000full")["audio"] == "unavailable"
    assert ("AudioLeftOut", "no_audio_kept") in list(outcomes(capsys))
    assert aws.reasons() == []


def test_if_no_audio_is_kept_a_call_without_a_recording_is_still_none(aws, archive, set_parameters):
    set_parameters(KEEP_AUDIO="false")

    archive(stage(aws, of(has_audio=False)))

    assert aws.call("conv_1")["audio"] == "none"


@pytest.mark.parametrize("full_audio", [base64.b64encode(b"ID3").decode(), "no base64"], ids=["audio", "no audio"])
def test_if_no_audio_is_kept_inline_audio_and_its_staged_body_are_deleted(aws, archive, set_parameters, full_audio):
    set_parameters(KEEP_AUDIO="false")

    assert archive(stage(aws, of(full_audio=full_audio))) == []

    assert remaining_keys(aws) == {f"{FULL}/conv_1.json"}
    assert "full_audio" not in aws.json(f"{FULL}/conv_1.json")
    assert aws.call("conv_1")["audio"] == "unavailable"


def test_audio_that_was_parked_before_audio_was_switched_off_is_deleted(aws, archive, set_parameters):
    archive(stage(aws, audio()))
    set_parameters(KEEP_AUDIO="false")
    check = stage(aws, of())

    assert archive(check) == []

    assert remaining_keys(aws) == {f"{FULL}/conv_1.json", staged_key(check)}
    assert "parked" not in aws.call("conv_1")
    assert aws.call("conv_1")["audio"] == "unavailable"


def test_a_recording_expected_before_audio_was_switched_off_is_unavailable(aws, archive, set_parameters):
    archive(stage(aws, of()))
    set_parameters(KEEP_AUDIO="false")

    assert archive(stage_recording(aws, "conv_1", b"ID3")) == []

    assert aws.call("conv_1")["audio"] == "unavailable"
    assert aws.object_keys() == {f"{FULL}/conv_1.json"}


def test_final_json_is_compressed_and_the_same_bytes_each_time(aws, archive, set_parameters):
    set_parameters(GZIP_JSON="true")
    check, forced = stage(aws, fixture_body("02")), stage(aws, fixture_body("02"), force=True)
    archive(check, stage(aws, event()))
    key = f"{FULL}/conv_fixture00000000000000000full.json"
    before = aws.body(key)

    assert archive(forced) == []

    head = aws.head(key)
    assert (head["ContentEncoding"], head["ContentType"]) == ("gzip", "application/json")
    assert head["Metadata"]["conversation_id"] == "conv_fixture00000000000000000full"
    assert json.loads(gzip.decompress(before)) == json.loads(fixture_body("02"))["data"]
    assert aws.body(key) == before
    assert len(aws.versions(key)) == 2
    assert aws.head("no-phone/conv_1.call_initiation_failure.json")["ContentEncoding"] == "gzip"


@pytest.mark.parametrize("kinds", [("true", "false"), ("false", "true")], ids=["switched off", "switched on"])
def test_compressed_and_plain_json_are_read_alike(aws, archive, set_parameters, kinds):
    set_parameters(GZIP_JSON=kinds[0])
    archive(stage(aws, transcript("conv_1", status="first")), stage(aws, transcript("conv_2", status="second")))
    set_parameters(GZIP_JSON=kinds[1])

    assert archive(stage(aws, transcript("conv_1", at=1772550279, status="newer"))) == []

    bucket = archiver.handler.aws().bucket
    read = [json.loads(bucket.read(f"{FULL}/conv_{number}.json")[0])["status"] for number in (1, 2)]
    assert read == ["newer", "second"]
    assert aws.head(f"{FULL}/conv_1.json").get("ContentEncoding") != aws.head(f"{FULL}/conv_2.json").get(
        "ContentEncoding"
    )


def test_an_object_that_is_not_the_gzip_it_claims_is_read_unchanged(aws, archive):
    aws.s3.put_object(Bucket=aws.bucket, Key="a.json", Body=b"{}", ContentEncoding="gzip")

    assert archiver.handler.aws().bucket.read("a.json") == (b"{}", {})
