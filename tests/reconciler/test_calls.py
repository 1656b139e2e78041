"""The pass over ElevenLabs' list: missing calls are fetched and archived."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

import reconciler.handler
from archiver.handler import lambda_handler
from shared.times import utc
from tests.archiver.conftest import stage
from tests.conftest import sqs_event
from tests.reconciler.conftest import HOUR, NOW, conversation, run


def test_a_call_without_a_webhook_is_archived_like_any_other(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())

    report = run()

    (check,) = archive_all()
    assert check["source"] == "reconciler"
    assert aws.json("12025550123/conv_1.json") == elevenlabs.conversations["conv_1"]
    assert aws.head("12025550123/conv_1.json")["Metadata"]["order"].startswith("0-")
    assert aws.json(check["staged_key"])["type"] == "post_call_transcription"
    assert aws.tags(check["staged_key"]) == {"archived": "true"}
    assert [each["event"] for each in aws.announcements()] == ["transcript_archived"]
    assert (report["missing_calls"], report["outcomes"]) == (1, {"fetched": 1})


def test_a_pass_over_a_complete_archive_changes_nothing(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=False))
    run()
    archive_all()
    aws.announcements()
    before = aws.versions(), aws.call("conv_1")

    report = run(NOW + HOUR)

    assert (report["missing_calls"], report["missing_audio"], report["oldest"]) == (0, 0, None)
    assert (aws.versions(), aws.call("conv_1")) == before
    assert archive_all() == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ended": timedelta(minutes=59)}, id="ended just now"),
        pytest.param({"status": "in-progress"}, id="goes on"),
        pytest.param({"status": "processing"}, id="is worked on"),
        pytest.param({"status": "initiated"}, id="rings"),
        pytest.param({"ended": timedelta(hours=49)}, id="before the window"),
    ],
)
def test_a_call_whose_webhook_may_still_arrive_is_not_fetched(aws, elevenlabs, archive_all, fields):
    elevenlabs.add(conversation(**fields))

    report = run()

    assert report["missing_calls"] == 0
    assert archive_all() == []


def test_a_call_that_failed_is_fetched_too(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(status="failed"))

    run()

    assert len(archive_all()) == 1


def test_a_late_webhook_replaces_what_was_fetched(aws, elevenlabs, archive_all, context):
    elevenlabs.add(conversation())
    run()
    archive_all()
    late = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation(agent_name="from webhook")}

    assert lambda_handler(sqs_event(stage(aws, late)), context) == {"batchItemFailures": []}

    assert aws.json("12025550123/conv_1.json")["agent_name"] == "from webhook"


def test_parked_audio_finds_its_caller(aws, elevenlabs, archive_all, context):
    audio = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    lambda_handler(sqs_event(stage(aws, audio)), context)
    elevenlabs.add(conversation())

    run()
    archive_all()

    assert aws.body("12025550123/conv_1.mp3") == b"ID3"


def test_a_call_is_fetched_three_times_at_most_and_stays_missing(aws, elevenlabs):
    elevenlabs.add(conversation())

    reports = [run(NOW + hours * HOUR) for hours in range(5)]

    assert [report["outcomes"] for report in reports] == [{"fetched": 1}] * 3 + [{"given_up": 1}] * 2
    assert [report["missing_calls"] for report in reports] == [1] * 5
    assert reports[-1]["oldest"] == utc(NOW - 3 * HOUR)


def test_a_recently_fetched_call_is_not_fetched_again(aws, elevenlabs):
    elevenlabs.add(conversation())

    reports = [run(NOW), run(NOW + timedelta(minutes=59))]

    assert [report["outcomes"] for report in reports] == [{"fetched": 1}, {"on_its_way": 1}]


def test_an_erased_call_is_not_fetched(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    report = run()

    assert report["missing_calls"] == 0
    assert archive_all() == []


def test_two_concurrent_passes_count_as_one_attempt(aws, elevenlabs):
    elevenlabs.add(conversation())
    run()
    call = replace(reconciler.handler.aws().records.get("conv_1"), fetches=0)

    reconciler.handler.aws().records.note_fetch(call, utc(NOW))

    assert aws.call("conv_1")["fetches"] == 1


def test_logs_contain_no_number_and_no_transcript(aws, elevenlabs, archive_all, logs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "html")
    run()
    run(NOW + HOUR)

    assert "Reconciled" in logs.getvalue()
    for private in ("2025550123", "mooring", "xi-test"):
        assert private not in logs.getvalue()


def test_every_pass_sends_the_metrics_of_completeness(aws, elevenlabs, context, capsys):
    from reconciler.handler import lambda_handler as handler

    elevenlabs.add(conversation())
    context.get_remaining_time_in_millis = lambda: 900_000

    handler({}, context)

    (written,) = [line for line in capsys.readouterr().out.splitlines() if '"MissingCalls"' in line]
    metrics = json.loads(written)
    names = ("MissingCalls", "MissingAudio", "OldestUnarchivedAge", "StagedSwept", "WebhookTrouble")
    assert {name: metrics[name] for name in names if name in metrics}.keys() == set(names)
