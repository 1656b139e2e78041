"""Which staged bodies `ops replay` sends."""

import json
from datetime import timedelta

from shared.messages import ClaimCheck
from tests.scripts.operations.conftest import CALLER, NOON, table
from tests.scripts.operations.replay.conftest import FAST, claimed, staged


def test_a_replayed_body_has_the_claim_check_of_its_delivery(stack, run_ops_json):
    key = staged(stack, "conv_1", NOON)

    code, found = run_ops_json("replay", "--since", "2026-11-21", "--yes")

    (message,) = stack.take("ArchiveQueueUrl")
    expected = ClaimCheck(key[-69:-5], key, "2026-11-21T12:00:00Z", "replay", force=False)
    assert (code, found["payloads"], found["sent"], found["next"]) == (
        0,
        1,
        1,
        "./scripts/ops status --stack calls",
    )
    assert json.loads(message["Body"]) == json.loads(expected.to_json())


def test_force_is_in_the_claim_check(stack, run_ops_json):
    staged(stack, "conv_1", NOON)

    run_ops_json("replay", "--since", "2026-11-21", "--force", "--yes")

    assert [json.loads(message["Body"])["force"] for message in stack.take("ArchiveQueueUrl")] == [True]


def test_staged_bodies_are_chosen_by_when_they_came(stack, run_ops_json, subtests):
    times = [NOON, NOON + timedelta(minutes=40), NOON + timedelta(minutes=80), NOON + timedelta(days=1)]
    keys = [staged(stack, f"conv_{number}", at) for number, at in enumerate(times)]

    for choice, chosen in (
        ("--since 2026-11-21T12:30", [1, 2, 3]),
        ("--since 2026-11-21T12:40", [1, 2, 3]),
        ("--since 2026-11-21T13:00", [2, 3]),
        ("--since 2026-11-21 --until 2026-11-21T12:40", [0]),
        ("--since 2026-11-21 --until 2026-11-21T13:10", [0, 1]),
        ("--since 2026-11-21T17:00+05:00 --until 2026-11-21T08:00-05:00", [0, 1]),
        ("--since 2026-11-22 --until 2026-11-23", [3]),
    ):
        with subtests.test(choice):
            run_ops_json("replay", *choice.split(), *FAST, "--yes")

            assert claimed(stack) == sorted(keys[number] for number in chosen)


def test_an_object_under_staging_that_is_no_staged_body_is_not_sent(stack, run_ops_json):
    stack.s3.put_object(Bucket=stack.bucket, Key="staging/2026/11/21/12/notes.txt", Body=b"")

    _, found = run_ops_json("replay", "--since", "2020-01-01")

    assert found["payloads"] == 0


def test_with_unarchived_only_unfinished_bodies_are_chosen(stack, run_ops_json):
    staged(stack, "conv_1", NOON, archived=True)
    left = staged(stack, "conv_2", NOON)

    run_ops_json("replay", "--since", "2026-11-21", "--unarchived", "--yes")

    assert claimed(stack) == [left]


def test_a_callers_bodies_are_chosen_however_the_number_is_written(stack, run_ops_json, archive, subtests):
    anonymous = archive("conv_1", number="anonymous")
    mine = sorted([archive("conv_2"), archive("conv_3")])
    archive("conv_4", number="+12025550199")

    for caller in (CALLER, "12025550123", "+1 (202) 555-0123", "no-phone"):
        with subtests.test(caller):
            run_ops_json("replay", "--caller", caller, *FAST, "--yes")

            assert claimed(stack) == ([anonymous] if caller == "no-phone" else mine)


def test_choices_narrow_each_other(stack, run_ops_json, archive, subtests):
    later = NOON + timedelta(hours=1)
    keys = [
        archive("conv_0"),
        archive("conv_1", agent_id="agent_2"),
        archive("conv_2", at=later),
        archive("conv_3", at=later, agent_id="agent_2", number="+12025550199"),
    ]

    for choice, chosen in (
        ("--since 2026-11-21 --agent agent_2", [1, 3]),
        ("--since 2026-11-21T13:00 --agent agent_2", [3]),
        (f"--caller {CALLER} --agent agent_2", [1]),
        (f"--caller {CALLER} --since 2026-11-21T13:00", [2]),
        (f"--caller {CALLER} --until 2026-11-21T13:00", [0, 1]),
        ("--conversation conv_2", [2]),
        ("--conversation conv_2 --agent agent_2", []),
        ("--conversation conv_2 --caller +12025550199", []),
        ("--conversation conv_2 --until 2026-11-21T13:00", []),
    ):
        with subtests.test(choice):
            run_ops_json("replay", *choice.split(), *FAST, "--yes")

            assert claimed(stack) == sorted(keys[number] for number in chosen)


def test_a_caller_is_found_by_every_number_that_a_call_came_to_name(stack, run_ops_json, archive, subtests):
    """By the digits of a SIP URI; and by the number of a later transcript, whose call stays in its folder."""
    sip = archive("conv_sip", number="sip:+12025550144@example.com")
    first = archive("conv_late", number="anonymous")
    later = archive("conv_late", number="+12025550155", summary="A later version.")

    for caller, chosen in (("+12025550144", [sip]), ("12025550155", [first, later]), ("no-phone", [sip, first, later])):
        with subtests.test(caller):
            run_ops_json("replay", "--caller", caller, *FAST, "--yes")

            assert claimed(stack) == sorted(chosen)


CALLS = 101  # one more than DynamoDB reads in a batch


def test_a_caller_with_more_calls_than_a_batch_is_complete(stack, run_ops_json, monkeypatch):
    monkeypatch.setattr("shared.bucket.LISTED", 7)
    keys = []
    with table(stack).batch_writer() as batch:
        for number in range(CALLS):
            key = f"staging/2026/11/21/12/{number:064x}.json"
            keys.append(key)
            stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"")
            for extension in ("json", "mp3"):
                stack.s3.put_object(Bucket=stack.bucket, Key=f"12025550123/conv_{number}.{extension}", Body=b"")
            batch.put_item(
                Item={
                    "conversation_id": f"conv_{number}",
                    "item": "call",
                    "folder": "12025550123",
                    "caller": "12025550123",
                    "numbers": {"12025550123"},
                    "listed_at": "2026-11-21T12:00:00Z",
                    "archived_at": "2026-11-21T12:00:00Z",
                    "staged_keys": {key},
                }
            )

    _, found = run_ops_json("replay", "--caller", CALLER, *FAST, "--yes")

    assert found["sent"] == CALLS
    assert claimed(stack) == keys


def test_bodies_that_have_expired_are_left_out(stack, run_ops_json, archive):
    gone, there = archive("conv_1"), archive("conv_2")
    stack.s3.delete_object(Bucket=stack.bucket, Key=gone)

    run_ops_json("replay", "--caller", CALLER, "--yes")

    assert claimed(stack) == [there]


def test_one_staged_body_is_chosen_by_its_key(stack, run_ops_json):
    key = staged(stack, "conv_1", NOON)
    staged(stack, "conv_2", NOON)

    run_ops_json("replay", "--key", key, "--yes")

    (message,) = stack.take("ArchiveQueueUrl")
    assert json.loads(message["Body"])["staged_key"] == key
    assert json.loads(message["Body"])["received_at"] == "2026-11-21T12:00:00Z"


def test_a_body_without_a_record_is_chosen_by_its_time(stack, run_ops_json):
    staged(stack, "conv_1", NOON)

    code, by_call = run_ops_json("replay", "--conversation", "conv_1")
    _, by_time = run_ops_json("replay", "--since", "2026-11-22", "--until", "2026-11-23")

    assert (code, by_call["payloads"]) == (0, 0)
    assert by_call["next"] == (
        "There is nothing to do. A payload that is not archived may have no record. "
        "Select it with --since and --unarchived"
    )
    assert by_time["next"] == "There is nothing to do"
