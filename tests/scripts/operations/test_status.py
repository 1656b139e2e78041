"""`ops status`: what it sees of a stack, and when it calls somebody."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest

from reconciler.bookmarks import Bookmarks
from scripts.operations.logs import log_group
from shared.times import utc
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, Wire, deploy_outputs, note, ops, table, write_log

HOUR = timedelta(hours=1)
QUIET = {"archived_in_the_last_hour": 0, "archived_in_the_last_day": 0, "audio_missing": 0, "audio_parked": 0}


def send(stack: Stack, output: str, number: int = 1, **options: Any) -> None:
    for _ in range(number):
        stack.sqs.send_message(QueueUrl=stack.outputs[output], MessageBody="{}", **options)


def age(queue: str, seconds: int, *, minutes_ago: int = 1) -> None:
    """Let CloudWatch know the age of a queue's oldest message."""
    boto3.client("cloudwatch").put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage", "Value": seconds,
                "Dimensions": [{"Name": "QueueName", "Value": queue}],
                "Timestamp": datetime.now(timezone.utc) - timedelta(minutes=minutes_ago),
            }
        ],
    )  # fmt: skip


def alarm(name: str, description: str, state: str = "ALARM") -> None:
    cloudwatch = boto3.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name, AlarmDescription=description, Namespace="AWS/SQS", MetricName="Any", Statistic="Maximum",
        Period=60, EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")


def failure(exception: str, **fields: str) -> dict[str, str]:
    return {
        "level": "WARNING",
        "message": "Record processing exception",
        "exception": f"Traceback\n{exception}",
    } | fields


def report(stack: Stack, **found: Any) -> None:
    """What the reconciler's last pass found."""
    Bookmarks(table(stack)).write("report", json.dumps({"at": utc(datetime.now(timezone.utc))} | found))


def test_all_is_well_with_a_stack_that_has_nothing_to_do(stack, say, ask):
    report(stack, swept=0, parked_long=0, missing_calls=2, outcomes={"fetched": 2})
    alarm("calls-ArchiveDlqAlarm-1A2B", "Calls wait.", "OK")

    code, found = ask("status")
    shown, out, _ = say("status")

    assert (code, shown, found["next"], found["stack"]) == (0, 0, [], "calls")
    assert (found["calls"], found["memories"]) == (QUIET, {"sending": 0, "sent": 0, "idle": 0})
    assert (found["alarms"], found["errors_in_the_last_hour"]) == ([], [])
    assert out.endswith("\nAll is well.\n")


def test_a_new_stack_is_well(say):
    code, out, _ = say("status")

    assert code == 0
    assert "Last pass: none yet" in out


def test_each_queue_tells_its_depth_and_the_age_of_its_oldest_message(stack, ask):
    send(stack, "ArchiveQueueUrl", 3)
    stack.sqs.receive_message(QueueUrl=stack.outputs["ArchiveQueueUrl"])
    send(stack, "AudioQueueUrl", DelaySeconds=900)
    send(stack, "MemoryQueueUrl")
    age("ArchiveQueueUrl", 70, minutes_ago=3)
    age("ArchiveQueueUrl", 90)
    age("MemoryQueueUrl", 90, minutes_ago=20)
    age("MemoryDlqUrl", 90)

    code, found = ask("status")

    fields = ("name", "kind", "waiting", "at_work", "delayed", "oldest_seconds")
    assert code == 0
    assert [tuple(queue[field] for field in fields) for queue in found["queues"]] == [
        ("archive", "queue", 2, 1, 0, 90),
        ("archive", "dead letters", 0, 0, 0, 0),
        ("memory", "queue", 1, 0, 0, None),
        ("memory", "dead letters", 0, 0, 0, 0),
        ("audio", "queue", 0, 0, 1, None),
        ("audio", "dead letters", 0, 0, 0, 0),
    ]


@pytest.mark.parametrize("looked_at", [False, True])
def test_dead_letters_call_somebody_even_while_they_are_looked_at(stack, ask, looked_at):
    send(stack, "MemoryDlqUrl")
    if looked_at:
        stack.sqs.receive_message(QueueUrl=stack.outputs["MemoryDlqUrl"])

    code, found = ask("status")

    assert (code, found["next"]) == (1, ["ops dlq show memory: messages could not be handled"])


def test_a_late_queue_calls_somebody(stack, ask):
    send(stack, "ArchiveQueueUrl")
    send(stack, "MemoryQueueUrl")
    age("ArchiveQueueUrl", 900)
    age("MemoryQueueUrl", 901)

    code, found = ask("status")

    assert (code, found["next"]) == (1, ["the memory queue is late: look at the errors below"])


def test_calls_and_their_recordings_are_counted(stack, ask):
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
    note(stack, "conv_parked", state="parked", started=utc(now))

    code, found = ask("status")

    assert (code, found["calls"]) == (
        0,
        {"archived_in_the_last_hour": 2, "archived_in_the_last_day": 5, "audio_missing": 2, "audio_parked": 1},
    )


def test_memories_that_are_not_written_are_counted(stack, ask):
    for number, state in enumerate(["sending", "sending", "sent", "idle", "idle", "idle", "done"]):
        note(stack, f"conv_{number}", "memory#semantic", state=state, started="2026-11-21T12:00:00Z")

    _, found = ask("status")

    assert found["memories"] == {"sending": 2, "sent": 1, "idle": 3}


def test_an_alarm_of_this_stack_calls_somebody(stack, say, ask):
    alarm("calls-MemoryDlqAlarm-1A2B", "Calls [1] could not be remembered.")
    alarm("calls-ArchiveDlqAlarm-1A2B", "Calls could not be archived.", "OK")
    alarm("calls-of-others-ArchiveDlqAlarm-1A2B", "Another stack's calls.")
    alarm("recalls-ArchiveDlqAlarm-1A2B", "Another stack's calls.")

    code, found = ask("status")
    _, out, _ = say("status")

    assert code == 1
    assert found["alarms"] == [{"alarm": "calls-MemoryDlqAlarm-1A2B", "says": "Calls [1] could not be remembered."}]
    assert found["next"] == ["read the alarm calls-MemoryDlqAlarm-1A2B, and its entry in docs/operate.md"]
    assert "ALARM calls-MemoryDlqAlarm-1A2B: Calls [1] could not be remembered.\n" in out


def test_a_stack_may_be_named_by_its_arn(stack, capsys):
    alarm("calls-MemoryDlqAlarm-1A2B", "Calls could not be remembered.")
    arn = boto3.client("cloudformation").describe_stacks(StackName="calls")["Stacks"][0]["StackId"]

    _, out, _ = ops(capsys, "status", "--stack", arn, "--json")

    assert [each["alarm"] for each in json.loads(out)["alarms"]] == ["calls-MemoryDlqAlarm-1A2B"]


def test_the_most_frequent_errors_of_the_last_hour_come_first(stack, ask):
    write_log("memory", *[failure("shared.errors.NotSentError: Mem0's rate limit is reached (429)")] * 3)
    write_log(
        "archive", failure(f"KeyError: '{CALLER[1:]}/conv_1.json'"), {"level": "INFO", "message": "Call archived"}
    )
    write_log("archive", failure("Error: long ago"), at=datetime.now(timezone.utc) - timedelta(minutes=61))
    write_log("ingest", {"level": "ERROR", "message": "S3 is silent"}, {"level": "ERROR", "message": "S3 is silent"})

    code, found = ask("status")

    assert code == 0
    assert found["errors_in_the_last_hour"] == [
        {"function": "memory", "error": "NotSentError: Mem0's rate limit is reached (429)", "times": 3},
        {"function": "ingest", "error": "S3 is silent", "times": 2},
        {"function": "archive", "error": "KeyError: '120…123/conv_1.json'", "times": 1},
    ]


def test_what_lambda_says_of_a_killed_function_is_an_error(stack, ask):
    write_log(
        "reconciler",
        "START RequestId: 1 Version: $LATEST",
        "2026-11-22T10:00:00.000Z 11111111-aaaa Task timed out after 900.00 seconds\n\n",
        "2026-11-22T11:00:00.000Z 22222222-bbbb Task timed out after 900.00 seconds\n\n",
        "RequestId: 3 Error: Runtime exited with error: signal: killed\nRuntime.ExitError",
        "[ERROR] Runtime.ImportModuleError: Unable to import module 'reconciler.handler'\nTraceback:",
        "REPORT RequestId: 1 Duration: 900000 ms",
        '"a word"',
    )

    _, found = ask("status")

    assert [(each["error"], each["times"]) for each in found["errors_in_the_last_hour"]] == [
        ("Task timed out after 900.00 seconds", 2),
        ("Runtime exited with error: signal: killed", 1),
        ("[ERROR] Runtime.ImportModuleError: Unable to import module 'reconciler.handler'", 1),
    ]


@pytest.mark.parametrize(
    ("last", "advice"),
    [
        ({"missing_calls": 5, "outcomes": {"fetched": 3, "failed": 2}}, "ops reconcile: 2 calls are still missing"),
        ({"missing_calls": 1}, "ops reconcile: 1 calls are still missing"),
        (
            {"error": "ElevenLabs: the key is refused (401)"},
            "the last pass failed: ElevenLabs: the key is refused (401)",
        ),
    ],
)
def test_what_the_last_pass_left_calls_somebody(stack, ask, last, advice):
    report(stack, **last)

    code, found = ask("status")

    assert (code, found["next"]) == (1, [advice])
    assert found["last_pass"].items() >= last.items()


def test_a_stack_that_fetches_nothing_has_no_queue_and_no_function_for_it(stack, ask, wire):
    deploy_outputs({name: value for name, value in stack.outputs.items() if not name.startswith("Audio")})

    code, found = ask("status")

    assert (code, [queue["name"] for queue in found["queues"]]) == (0, ["archive", "archive", "memory", "memory"])
    assert wire.seen["FilterLogEvents"] == 4


def test_the_worst_night_fits_on_one_screen(stack, say):
    report(stack, swept=3, parked_long=1, missing_calls=9, missing_audio=4, outcomes={"fetched": 3, "failed": 6})
    note(stack, "conv_1", audio="pending", archived_at="2026-11-01T12:00:00Z")
    for name in ("ArchiveDlqUrl", "MemoryDlqUrl", "AudioDlqUrl"):
        send(stack, name)
    alarm("calls-ArchiveDlqAlarm-1A2B", "Calls could not be archived and wait in ArchiveDlq for 14 days.")
    for function in ("archive", "memory"):
        write_log(function, failure("Error: something", conversation_id="conv_1", external_number=CALLER))

    code, out, err = say("status")

    lines = out.splitlines()
    assert code == 1
    assert len(lines) <= 30
    assert lines[0].rstrip() == "Stack calls"
    assert lines[3].split() == ["archive", "dead", "letters", "1", "0", "0", "?"]
    assert [line for line in lines if line.startswith("Next: ")] == [
        "Next: ops dlq show archive: messages could not be handled",
        "Next: ops dlq show memory: messages could not be handled",
        "Next: ops dlq show audio: messages could not be handled",
        "Next: read the alarm calls-ArchiveDlqAlarm-1A2B, and its entry in docs/operate.md",
        "Next: ops reconcile: 6 calls are still missing",
    ]
    assert "2025550" not in out + err


def answer_limit(wire: Wire, limit: int, unreserved: int) -> None:
    """Let Lambda tell the account's limit, which moto does not know."""
    wire.answer(
        "GetAccountSettings",
        {"AccountLimit": {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": unreserved}},
    )


def use(functions: int, *, minutes_ago: int) -> None:
    """Let CloudWatch know how many functions of the account ran at a time."""
    at = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    data = [{"MetricName": "ConcurrentExecutions", "Value": functions, "Timestamp": at}]
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=data)


def test_the_accounts_concurrency_is_shown(stack, say, ask, wire):
    for functions, minutes_ago in ((7, 5), (12, 50), (900, 70)):
        use(functions, minutes_ago=minutes_ago)
    answer_limit(wire, 1000, 900)
    code, found = ask("status")
    answer_limit(wire, 1000, 900)
    _, out, _ = say("status")

    assert (code, found["concurrency"]) == (0, {"limit": 1000, "unreserved": 900, "used_at_most": 12})
    assert "\nConcurrency: 12 of the account's 1000 used in the last hour, 900 not reserved\n" in out
    assert out.endswith("\nAll is well.\n")


HOW_TO_RAISE = (
    "Ask Service Quotas for more (AWS Lambda, Concurrent executions): aws service-quotas "
    "request-service-quota-increase --service-code lambda --quota-code L-B99A9384 --desired-value "
)


@pytest.mark.parametrize(("limit", "used"), [(10, 8), (100, 80), (1000, 800)])
def test_concurrency_that_is_nearly_used_up_calls_somebody(stack, ask, wire, limit, used):
    use(used, minutes_ago=5)
    answer_limit(wire, limit, limit)

    code, found = ask("status")

    (advice,) = found["next"]
    assert code == 1
    assert advice.startswith(f"{used} of the {limit} functions that the account runs at a time were in use")
    assert advice.endswith(HOW_TO_RAISE + ("2000" if limit == 1000 else "1000"))


@pytest.mark.parametrize(("limit", "is_low"), [(10, True), (99, True), (100, False), (1000, False)])
def test_a_low_limit_of_the_account_is_told_without_calling_anybody(stack, ask, wire, say, limit, is_low):
    use(7, minutes_ago=5)
    answer_limit(wire, limit, limit)
    code, found = ask("status")
    answer_limit(wire, limit, limit)
    _, out, _ = say("status")

    notes = found["good_to_know"]
    assert (code, found["next"], len(notes)) == (0, [], int(is_low))
    assert ("Good to know: the account runs no more than" in out) == is_low
    assert all(note.startswith(f"the account runs no more than {limit} functions at a time") for note in notes)
    assert all(note.endswith(f"{HOW_TO_RAISE}1000") for note in notes)
    assert "All is well." in out


@pytest.mark.parametrize(
    ("operation", "found", "says"),
    [
        ("GetAccountSettings", (None, None, 12), "12 of the account's ? used in the last hour, ? not reserved"),
        ("GetMetricStatistics", (1000, 900, None), "? of the account's 1000 used in the last hour, 900 not reserved"),
    ],
)
def test_who_may_not_ask_for_the_concurrency_still_sees_the_rest(stack, say, ask, wire, operation, found, says):
    use(12, minutes_ago=5)
    wire.refuse(operation)
    answer_limit(wire, 1000, 900)
    code, shown = ask("status")
    answer_limit(wire, 1000, 900)
    _, out, _ = say("status")

    assert (code, tuple(shown["concurrency"].values())) == (0, found)
    assert f"\nConcurrency: {says}\n" in out
    assert out.endswith("\nAll is well.\n")


def test_a_missing_permission_is_named(say, wire, subtests):
    for operation in (
        "GetQueueAttributes",
        "Query",
        "GetItem",
        "DescribeAlarms",
        "FilterLogEvents",
        "DescribeStackResource",
    ):
        with subtests.test(operation):
            wire.calm()
            wire.refuse(operation)
            log_group.cache_clear()

            code, out, err = say("status")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_an_interrupted_look_ends_in_a_sentence(say, wire):
    wire.interrupt("DescribeAlarms", 1)

    code, out, err = say("status")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)


def test_a_stack_that_is_not_there_is_named(stack, capsys):
    code, out, err = ops(capsys, "status", "--stack", "nothing", "--json")

    assert (code, out) == (2, "")
    assert err == "There is no stack nothing in us-east-1. Name it with --stack, or use --local.\n"
