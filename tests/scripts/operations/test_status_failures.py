"""`ops status` tells what failed, what waits for its next attempt, and when it comes."""

from datetime import datetime, timedelta, timezone

import pytest

from shared.times import utc
from tests.scripts.operations.conftest import CALLER, note, write_log
from tests.scripts.operations.signs import deploy_alarms, failure, receive, send

REFUSED = "shared.errors.StorageError: PutObject: AccessDenied"
SHOWN = "StorageError: PutObject: AccessDenied"


@pytest.fixture(autouse=True)
def deployed(stack) -> None:
    deploy_alarms(stack)
    stack.sqs.set_queue_attributes(QueueUrl=stack.outputs["ArchiveQueueUrl"], Attributes={"VisibilityTimeout": "720"})


def ago(**time: float) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(**time)


def fail(stack, at: datetime) -> None:
    """A claim check fails, and is invisible until its visibility timeout ends."""
    send(stack, "ArchiveQueueUrl")
    receive(stack, "ArchiveQueueUrl")
    write_log("archive", failure(REFUSED), at=at)


def test_a_failed_message_needs_attention_until_its_next_attempt_has_been_made(stack, run_ops, run_ops_json):
    at = ago(minutes=5)
    fail(stack, at)

    code, found = run_ops_json("status")
    _, out, _ = run_ops("status")

    retry = {
        "queue": "archive", "messages": 1, "error": SHOWN,
        "failed_at": utc(at), "next_attempt_by": utc(at + timedelta(seconds=720)),
    }  # fmt: skip
    (trouble,) = found["next"]
    assert (code, found["retries"], trouble["alarm"]) == (1, [retry], "ArchiveQueueAgeAlarm")
    assert f"The next one starts by {retry['next_attempt_by']}" in trouble["trouble"]
    assert SHOWN in trouble["trouble"]
    assert "All is well" not in out
    assert "it is retried: the next attempt has not started yet" in " ".join(out.split())


def test_failures_are_past_when_nothing_waits_any_more(stack, run_ops, run_ops_json):
    write_log("archive", failure(REFUSED), at=ago(minutes=5))

    code, found = run_ops_json("status")
    _, out, _ = run_ops("status")

    (error,) = found["errors_in_the_last_hour"]
    assert (code, found["retries"], error["standing"]) == (0, [], "past")
    assert "(nothing waits in this queue any more)" in out
    assert out.endswith("All is well.\n")


def test_a_busy_queue_is_well_when_the_retry_is_over(stack, run_ops_json):
    fail(stack, ago(minutes=14))

    code, found = run_ops_json("status")

    assert (code, found["retries"]) == (0, [])


@pytest.mark.parametrize("output", ["ArchiveDlqUrl", "ArchiveQueueUrl"])
def test_an_error_is_not_said_to_be_past_while_its_queue_or_dead_letter_queue_has_messages(
    stack, run_ops, run_ops_json, output
):
    send(stack, output)
    write_log("archive", failure(REFUSED), at=ago(minutes=30))

    _, found = run_ops_json("status")
    _, out, _ = run_ops("status")

    assert [each["standing"] for each in found["errors_in_the_last_hour"]] == ["messages"]
    said = "(its queue or its dead-letter queue still has messages; they may have failed for another reason)"
    assert said in " ".join(out.split())


def test_only_the_last_error_of_a_queue_is_the_one_that_waits_for_an_attempt(stack, run_ops_json):
    write_log("archive", failure("KeyError: 'cured'"), at=ago(minutes=6))
    fail(stack, ago(minutes=5))

    _, found = run_ops_json("status")

    standings = {each["error"]: each["standing"] for each in found["errors_in_the_last_hour"]}
    assert standings == {SHOWN: "waiting", "KeyError: 'cured'": "messages"}


def test_an_error_that_is_not_of_a_retry_has_no_standing(run_ops_json):
    error = {"level": "ERROR", "message": "Message sent to the dead-letter queue", "error": "The body is not JSON."}
    write_log("archive", error, at=ago(minutes=5))

    _, found = run_ops_json("status")

    shown = [(each["error"], each["standing"]) for each in found["errors_in_the_last_hour"]]
    assert shown == [("The body is not JSON.", None)]


def test_a_failure_that_is_logged_twice_is_shown_once(run_ops_json):
    first = {"level": "ERROR", "message": "Error saving to S3: PutObject: AccessDenied"}
    write_log("archive", first, failure(REFUSED), at=ago(minutes=5))

    _, found = run_ops_json("status")

    assert [(each["error"], each["times"]) for each in found["errors_in_the_last_hour"]] == [(SHOWN, 1)]


def test_a_warning_that_fails_no_message_opens_no_retry(stack, run_ops_json):
    send(stack, "ArchiveQueueUrl")
    receive(stack, "ArchiveQueueUrl")
    write_log("archive", {"level": "WARNING", "message": "The staged body of the parked audio is gone"})

    assert run_ops_json("status")[0] == 0


def test_the_most_frequent_errors_of_the_last_hour_come_first(run_ops_json):
    at = ago(minutes=2)
    write_log("memory", *[failure("shared.errors.NotSentError: Mem0's rate limit is reached (429)")] * 3, at=at)
    write_log(
        "archive", failure(f"KeyError: '{CALLER[1:]}/conv_1.json'"), {"level": "INFO", "message": "Call archived"}
    )
    write_log("archive", failure("Error: long ago"), at=ago(minutes=61))
    for minutes in (4, 2, 3):
        write_log(
            "ingest",
            {"level": "ERROR", "message": "S3 is silent"},
            at=at - timedelta(minutes=minutes - 2),
            stream=f"{minutes}",
        )

    _, found = run_ops_json("status")

    errors = [(each["function"], each["error"], each["times"]) for each in found["errors_in_the_last_hour"]]
    assert sorted(errors[:2]) == [
        ("ingest", "S3 is silent", 3), ("memory", "NotSentError: Mem0's rate limit is reached (429)", 3),
    ]  # fmt: skip
    assert errors[2:] == [("archive", "KeyError: '120…123/conv_1.json'", 1)]
    assert {each["last_at"] for each in found["errors_in_the_last_hour"][:2]} == {utc(at)}


def test_errors_that_are_over_hide_none_that_still_has_messages(stack, run_ops_json):
    write_log("memory", *[failure(f"KeyError: 'cured {name}'") for name in "abcde"] * 2, at=ago(minutes=6))
    fail(stack, ago(minutes=5))

    _, found = run_ops_json("status")

    assert found["errors_in_the_last_hour"][0]["error"] == SHOWN


def test_what_lambda_says_of_a_killed_function_is_an_error(run_ops_json):
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

    _, found = run_ops_json("status")

    assert [(each["error"], each["times"], each["standing"]) for each in found["errors_in_the_last_hour"]] == [
        ("Task timed out after 900.00 seconds", 2, None),
        ("Runtime exited with error: signal: killed", 1, None),
        ("[ERROR] Runtime.ImportModuleError: Unable to import module 'reconciler.handler'", 1, None),
    ]


def test_a_call_whose_json_could_not_be_written_does_not_count_as_archived(stack, run_ops_json, archive):
    for minutes, name in ((5, "conv_1"), (6, "conv_2"), (90, "conv_3"), (91, "conv_4")):
        archive(name, at=ago(minutes=minutes))
    for name in ("conv_2", "conv_4"):
        stack.s3.delete_object(Bucket=stack.bucket, Key=f"{CALLER[1:]}/{name}.json")
    note(stack, "conv_pending", audio="pending", archived_at=utc(ago(minutes=3)))
    send(stack, "ArchiveDlqUrl")

    _, found = run_ops_json("status")

    calls = found["calls"]
    assert (calls["archived_in_the_last_hour"], calls["archived_in_the_last_day"]) == (1, 2)
    assert calls["json_not_written"] == 3
