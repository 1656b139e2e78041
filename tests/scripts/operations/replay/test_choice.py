"""Which staged bodies `ops replay` sends."""

import json
from datetime import datetime, timedelta

from shared.messages import ClaimCheck
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import (
    CALLER,
    NOON,
    receive_at,
    table,
    tag,
    transcript,
)
from tests.scripts.operations.replay.conftest import FAST, claimed


def staged(stack: Stack, name: str, at: datetime, *, archived: bool = False) -> str:
    """A staged body that came at that time; returns its key."""
    key = staged_key(stage(stack, transcript(name), now=at))
    receive_at(stack, key, at)
    if archived:
        tag(stack, key)
    return key


def test_a_preview_says_how_many_and_sends_none(stack, ask):
    for hours in range(3):
        staged(stack, f"conv_{hours}", NOON + timedelta(hours=hours))

    code, found = ask("replay", "--since", "2026-11-21")

    assert (code, found) == (0, {"staged_bodies": 3, "sent_before": 0, "next": "the same command with --yes"})
    assert claimed(stack) == []


def test_a_replayed_body_has_the_claim_check_of_its_delivery(stack, ask):
    key = staged(stack, "conv_1", NOON)

    code, found = ask("replay", "--since", "2026-11-21", "--yes")

    (message,) = stack.take("ArchiveQueueUrl")
    expected = ClaimCheck(key[-69:-5], key, "2026-11-21T12:00:00Z", "replay", force=False)
    assert (code, found) == (0, {"staged_bodies": 1, "sent_before": 0, "sent": 1, "next": "ops status"})
    assert json.loads(message["Body"]) == json.loads(expected.to_json())


def test_force_is_in_the_claim_check(stack, ask):
    staged(stack, "conv_1", NOON)

    ask("replay", "--since", "2026-11-21", "--force", "--yes")

    assert [json.loads(message["Body"])["force"] for message in stack.take("ArchiveQueueUrl")] == [True]


def test_staged_bodies_are_chosen_by_when_they_came(stack, ask, subtests):
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
            ask("replay", *choice.split(), *FAST, "--yes")

            assert claimed(stack) == sorted(keys[number] for number in chosen)


def test_what_lies_in_staging_without_being_staged_stays_where_it_is(stack, ask):
    stack.s3.put_object(Bucket=stack.bucket, Key="staging/2026/11/21/12/notes.txt", Body=b"")

    _, found = ask("replay", "--since", "2020-01-01")

    assert found["staged_bodies"] == 0


def test_only_those_never_archived_are_chosen(stack, ask):
    staged(stack, "conv_1", NOON, archived=True)
    left = staged(stack, "conv_2", NOON)

    ask("replay", "--since", "2026-11-21", "--unarchived", "--yes")

    assert claimed(stack) == [left]


def test_a_callers_bodies_are_chosen_however_the_number_is_written(stack, ask, archive, subtests):
    anonymous = archive("conv_1", number="anonymous")
    mine = sorted([archive("conv_2"), archive("conv_3")])
    archive("conv_4", number="+12025550199")

    for caller in (CALLER, "12025550123", "+1 (202) 555-0123", "no-phone"):
        with subtests.test(caller):
            ask("replay", "--caller", caller, *FAST, "--yes")

            assert claimed(stack) == ([anonymous] if caller == "no-phone" else mine)


def test_choices_narrow_each_other(stack, ask, archive, subtests):
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
            ask("replay", *choice.split(), *FAST, "--yes")

            assert claimed(stack) == sorted(keys[number] for number in chosen)


def test_a_caller_is_found_by_every_number_that_a_call_came_to_name(stack, ask, archive, subtests):
    """By the digits of a SIP URI, and by a number that a later transcript named, whose call stays in its folder."""
    sip = archive("conv_sip", number="sip:+12025550144@example.com")
    first = archive("conv_late", number="anonymous")
    later = archive("conv_late", number="+12025550155", summary="A later version.")

    for caller, chosen in (("+12025550144", [sip]), ("12025550155", [first, later]), ("no-phone", [sip, first, later])):
        with subtests.test(caller):
            ask("replay", "--caller", caller, *FAST, "--yes")

            assert claimed(stack) == sorted(chosen)


def test_a_caller_of_hundreds_of_calls_is_whole(stack, ask, monkeypatch):
    monkeypatch.setattr("shared.bucket.LISTED", 7)
    keys = []
    with table(stack).batch_writer() as batch:
        for number in range(120):
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
                    "archived_at": "2026-11-21T12:00:00Z",
                    "staged_keys": {key},
                }
            )

    _, found = ask("replay", "--caller", CALLER, *FAST, "--yes")

    assert found["sent"] == 120
    assert claimed(stack) == keys


def test_bodies_that_have_expired_are_left_out(stack, ask, archive):
    gone, there = archive("conv_1"), archive("conv_2")
    stack.s3.delete_object(Bucket=stack.bucket, Key=gone)

    ask("replay", "--caller", CALLER, "--yes")

    assert claimed(stack) == [there]


def test_one_staged_body_is_chosen_by_its_key(stack, ask):
    key = staged(stack, "conv_1", NOON)
    staged(stack, "conv_2", NOON)

    ask("replay", "--key", key, "--yes")

    (message,) = stack.take("ArchiveQueueUrl")
    assert json.loads(message["Body"])["staged_key"] == key
    assert json.loads(message["Body"])["received_at"] == "2026-11-21T12:00:00Z"


def test_what_has_no_record_is_chosen_by_its_time(stack, ask):
    staged(stack, "conv_1", NOON)

    code, by_call = ask("replay", "--conversation", "conv_1")
    _, by_time = ask("replay", "--since", "2026-11-22", "--until", "2026-11-23")

    assert (code, by_call["staged_bodies"]) == (0, 0)
    assert by_call["next"] == (
        "There is nothing to do. What was never archived has no record: choose it with --since and --unarchived."
    )
    assert by_time["next"] == "There is nothing to do."
