"""`ops status`: what it sees of a stack, and when something needs attention."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from scripts.operations.logs import log_group
from shared.times import utc
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, deploy_outputs, note, ops, write_log
from tests.scripts.operations.signs import age, alarm, deploy_alarms, failure, report, send

HOUR = timedelta(hours=1)
QUIET = {
    "archived_in_the_last_hour": 0, "archived_in_the_last_day": 0, "json_not_written": 0, "audio_missing": 0,
    "audio_parked": 0,
}  # fmt: skip


def test_all_is_well_with_a_stack_that_has_nothing_to_do(stack, run_ops, run_ops_json):
    report(stack, swept=0, parked_long=0, missing_calls=2, outcomes={"fetched": 2})
    alarm("calls-ArchiveDlqAlarm-1A2B", "Calls wait.", "OK")

    code, found = run_ops_json("status")
    shown, out, _ = run_ops("status")

    assert (code, shown, found["next"], found["stack"]) == (0, 0, [], "calls")
    assert (found["calls"], found["memories"]) == (QUIET, {"sending": 0, "sent": 0, "idle": 0})
    assert (found["alarms"], found["errors_in_the_last_hour"]) == ([], [])
    assert out.endswith("\nAll is well.\n")


def test_a_new_stack_is_well(run_ops):
    code, out, _ = run_ops("status")

    assert code == 0
    assert "Last hourly run: none yet" in out


def test_each_queue_tells_its_depth_and_the_age_of_its_oldest_message(stack, run_ops_json):
    send(stack, "ArchiveQueueUrl", 3)
    stack.sqs.receive_message(QueueUrl=stack.outputs["ArchiveQueueUrl"])
    send(stack, "AudioQueueUrl", DelaySeconds=900)
    send(stack, "MemoryQueueUrl")
    age("ArchiveQueueUrl", 70, minutes_ago=3)
    age("ArchiveQueueUrl", 90)
    age("MemoryQueueUrl", 90, minutes_ago=20)
    age("MemoryDlqUrl", 90)

    code, found = run_ops_json("status")

    fields = ("name", "kind", "waiting", "at_work", "delayed", "oldest_seconds")
    assert code == 0
    assert [tuple(queue[field] for field in fields) for queue in found["queues"]] == [
        ("archive", "queue", 2, 1, 0, 90),
        ("archive", "dead letters", 0, 0, 0, 0),
        ("memory", "queue", 1, 0, 0, None),
        ("memory", "dead letters", 0, 0, 0, 0),
        ("audio", "queue", 0, 0, 1, None),
        ("audio", "dead letters", 0, 0, 0, 0),
        ("transcribe", "queue", 0, 0, 0, 0),
        ("transcribe", "dead letters", 0, 0, 0, 0),
        ("text", "queue", 0, 0, 0, 0),
        ("text", "dead letters", 0, 0, 0, 0),
    ]


def test_calls_and_their_recordings_are_counted(stack, run_ops_json):
    now = datetime.now(timezone.utc)
    for number, (audio, ago) in enumerate(
        [
            ("pending", timedelta(minutes=5)),
            ("pending", 2 * HOUR),
            ("pending", 90 * HOUR),
            ("archived", timedelta(minutes=50)),
            ("none", 3 * HOUR),
            ("unavailable", 23 * HOUR),
            ("archived", 25 * HOUR),
        ]
    ):
        note(stack, f"conv_{number}", audio=audio, archived_at=utc(now - ago))
    note(stack, "conv_parked", open_state="parked", started=utc(now))

    code, found = run_ops_json("status")

    counted = {"archived_in_the_last_hour": 2, "archived_in_the_last_day": 5, "audio_missing": 2, "audio_parked": 1}
    assert (code, found["calls"]) == (0, QUIET | counted)


def test_memories_that_are_not_written_are_counted(stack, run_ops_json):
    for number, state in enumerate(["sending", "sending", "sent", "idle", "idle", "idle", "done"]):
        note(stack, f"conv_{number}", "memory#semantic", state=state, started="2026-11-21T12:00:00Z")

    _, found = run_ops_json("status")

    assert found["memories"] == {"sending": 2, "sent": 1, "idle": 3}


@pytest.mark.parametrize(
    ("last", "trouble"),
    [
        ({"missing_calls": 5, "outcomes": {"fetched": 3, "failed": 2}}, "2 calls are still missing."),
        ({"missing_calls": 1}, "1 call is still missing."),
        (
            {"error": "ElevenLabs: the key is refused (401)"},
            "The last hourly run failed: ElevenLabs: the key is refused (401)",
        ),
    ],
)
def test_what_the_last_hourly_run_left_needs_attention(stack, run_ops_json, last, trouble):
    report(stack, **last)

    code, found = run_ops_json("status")

    (advice,) = found["next"]
    assert (code, advice["trouble"], advice["commands"]) == (1, trouble, ["./scripts/ops reconcile --stack calls"])
    assert found["last_hourly_run"].items() >= last.items()


def test_a_stack_that_fetches_nothing_has_no_queue_and_no_function_for_it(stack, run_ops_json, aws_calls):
    others = {name: value for name, value in stack.outputs.items() if not name.startswith(("Audio", "Transcribe"))}
    deploy_outputs(others)

    code, found = run_ops_json("status")

    assert code == 0
    assert [queue["name"] for queue in found["queues"]] == ["archive", "archive", "memory", "memory", "text", "text"]
    assert aws_calls.seen["FilterLogEvents"] == 6  # and once for what ingest counted


def test_the_worst_night_fits_on_one_screen(stack, run_ops):
    report(stack, swept=3, parked_long=1, missing_calls=9, missing_audio=4, outcomes={"fetched": 3, "failed": 6})
    note(stack, "conv_1", audio="pending", archived_at="2026-11-01T12:00:00Z")
    for name in ("ArchiveDlqUrl", "MemoryDlqUrl", "AudioDlqUrl"):
        send(stack, name)
    deploy_alarms(stack)
    for function in ("archive", "memory"):
        write_log(function, failure("Error: something", conversation_id="conv_1", external_number=CALLER))

    code, out, err = run_ops("status")

    lines = out.splitlines()
    assert code == 1
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("Stack calls, 20")
    assert lines[3].split() == ["archive", "dead", "letters", "1", "0", "0", "?"]
    commands = [line.strip() for line in lines if line.startswith("      ./scripts/ops ")]
    assert [each for each in commands if "show" in each or "reconcile" in each] == [
        "./scripts/ops dlq show archive --stack calls",
        "./scripts/ops dlq show audio --stack calls",
        "./scripts/ops dlq show memory --stack calls",
        "./scripts/ops reconcile --stack calls",
    ]
    assert "2025550" not in out + err


def test_a_missing_permission_is_named(run_ops, aws_calls, subtests):
    for operation in (
        "GetQueueAttributes",
        "Query",
        "GetItem",
        "DescribeAlarms",
        "FilterLogEvents",
        "DescribeStackResource",
    ):
        with subtests.test(operation):
            aws_calls.reset()
            aws_calls.refuse(operation)
            log_group.cache_clear()

            code, out, err = run_ops("status")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_an_interrupted_look_ends_in_a_sentence(run_ops, aws_calls):
    aws_calls.interrupt("DescribeAlarms", 1)

    code, out, err = run_ops("status")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)


def test_a_stack_that_is_not_there_is_named(stack, capsys):
    code, out, err = ops(capsys, "status", "--stack", "nothing", "--json")

    assert (code, err) == (2, "")
    assert json.loads(out)["error"].startswith("There is no stack nothing in us-east-1.")
