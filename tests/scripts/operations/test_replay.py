"""`ops replay`: what goes through the pipeline again, and that an interrupted run does nothing twice."""

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from shared.messages import ClaimCheck
from shared.times import utc
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import (
    CALLER,
    INTERRUPTED,
    NOON,
    archive_checks,
    note,
    receive_at,
    table,
    tag,
    transcript,
)

FAST = ("--per-second", "1000")


def staged(stack: Stack, name: str, at: datetime, *, archived: bool = False) -> str:
    """A staged body that came at that time; returns its key."""
    key = staged_key(stage(stack, transcript(name), now=at))
    receive_at(stack, key, at)
    if archived:
        tag(stack, key)
    return key


def claimed(stack: Stack) -> list[str]:
    """The staged keys of the claim checks that wait for the archiver."""
    return sorted(json.loads(message["Body"])["staged_key"] for message in stack.take("ArchiveQueueUrl"))


def announced(stack: Stack) -> list[str]:
    """The calls that wait for the memory writer."""
    return sorted(json.loads(message["Body"])["conversation_id"] for message in stack.take("MemoryQueueUrl"))


# ---------------------------------------------------------------- choosing staged bodies


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


# ---------------------------------------------------------------- what it leads to


def test_force_repairs_what_an_older_archiver_wrote_wrongly(stack, ask, archive, context):
    archive("conv_1")
    key = f"{CALLER[1:]}/conv_1.json"
    right, metadata = stack.body(key), stack.head(key)["Metadata"]
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"wrong", Metadata=metadata)

    ask("replay", "--conversation", "conv_1", "--yes")
    archive_checks(context, *(each["Body"] for each in stack.take("ArchiveQueueUrl")))
    kept = stack.body(key)
    ask("replay", "--conversation", "conv_1", "--force", "--yes")
    archive_checks(context, *(each["Body"] for each in stack.take("ArchiveQueueUrl")))

    assert (kept, stack.body(key)) == (b"wrong", right)


# ---------------------------------------------------------------- only memories


def test_only_the_memory_writer_hears_of_calls_replayed_for_it(stack, ask, archive):
    for number in range(4):
        archive(f"conv_{number}")
    stack.take("Announcements")
    note(stack, "conv_2", erased_at="2026-11-21T12:00:00Z")
    table(stack).update_item(Key={"conversation_id": "conv_3", "item": "call"}, UpdateExpression="REMOVE t_order")

    _, preview = ask("replay", "--caller", CALLER, "--only", "memory")
    ask("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")

    assert preview["calls"] == 2
    assert announced(stack) == ["conv_0", "conv_1"]
    assert claimed(stack) == []
    assert stack.announcements() == []


def test_the_memory_writer_hears_what_the_archiver_announced(stack, ask, archive):
    archive("conv_1")

    ask("replay", "--conversation", "conv_1", "--only", "memory", "--yes")

    (message,) = stack.take("MemoryQueueUrl")
    assert [json.loads(message["Body"])] == stack.announcements()


def test_with_force_a_memory_that_mem0_lost_is_written_again_and_no_other(stack, ask, mem0, archive, remember):
    archive("conv_1")
    archive("conv_2")
    remember("Announcements")
    before = mem0.memories()
    mem0.delete(before[0])
    kept = mem0.memories()

    ask("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")
    remember("MemoryQueueUrl")
    unforced = mem0.memories()
    for item in ("memory#factual", "memory#semantic"):
        for conversation_id in ("conv_1", "conv_2"):
            note(stack, conversation_id, item, started=utc(NOON))  # long ago
    ask("replay", "--caller", CALLER, "--only", "memory", "--force", *FAST, "--yes")
    remember("MemoryQueueUrl")

    after = mem0.memories()
    assert (len(before), unforced) == (4, kept)
    assert sorted(each["memory"] for each in after) == sorted(each["memory"] for each in before)
    assert {each["id"] for each in kept} < {each["id"] for each in after}


# ---------------------------------------------------------------- interrupted, and slow


@pytest.fixture
def six(stack: Stack, archive: Callable[..., str]) -> list[str]:
    """Calls, by when they came, against the order of their names."""
    return [archive(f"conv_{6 - number}", at=NOON + timedelta(hours=number)) for number in range(6)]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        pytest.param("SendMessage", ["--since", "2026-11-21"], id="since a time"),
        pytest.param("SendMessage", ["--since", "9999d"], id="since so long ago"),
        pytest.param("PutItem", ["--caller", CALLER], id="of a caller, while it is noted"),
        pytest.param("SendMessage", ["--since", "9999d", "--only", "memory"], id="only memories"),
    ],
)
def test_an_interrupted_run_goes_on_and_sends_nothing_twice(stack, six, say, ask, wire, operation, words):
    for number, key in enumerate(six):
        receive_at(stack, key, NOON + timedelta(hours=number))
    wire.interrupt(operation, 2)

    code, out, err = say("replay", *words, *FAST, "--yes")
    wire.calm()
    first = len(sent(stack))
    _, preview = ask("replay", *words)
    again, found = ask("replay", *words, "--per-second", "500", "--yes")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)
    assert (first, preview["sent_before"]) == (2, 2)
    assert (again, found["sent_before"], found["sent"]) == (0, 2, 4)
    assert len(sent(stack)) == 4


def sent(stack: Stack) -> list[str]:
    return claimed(stack) + announced(stack)


def test_both_parts_of_an_interrupted_run_are_the_whole(stack, six, say, wire):
    wire.interrupt("SendMessage", 3)

    say("replay", "--caller", CALLER, *FAST, "--yes")
    say("replay", "--caller", CALLER, *FAST, "--yes")

    assert claimed(stack) == sorted(six)


def test_what_came_meanwhile_is_not_taken_for_sent(stack, six, say, ask, wire, archive):
    wire.interrupt("SendMessage", 6)
    say("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")
    announced(stack)
    archive("conv_0", at=NOON + timedelta(hours=7))

    ask("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")

    assert announced(stack) == ["conv_0"]


def test_other_options_begin_a_run_of_their_own(stack, six, say, ask, wire, subtests):
    wire.interrupt("SendMessage", 2)
    say("replay", "--caller", CALLER, *FAST, "--yes")

    for other in ("--force", "--agent agent_1", "--since 2026-11-21", "--unarchived", "--only memory"):
        with subtests.test(other):
            _, found = ask("replay", "--caller", CALLER, *other.split())

            assert found["sent_before"] == 0


def test_once_through_the_same_command_begins_anew(stack, six, say, ask, wire):
    wire.interrupt("SendMessage", 2)
    say("replay", "--caller", CALLER, *FAST, "--yes")
    say("replay", "--caller", CALLER, *FAST, "--yes")
    claimed(stack)

    _, found = ask("replay", "--caller", CALLER, *FAST, "--yes")

    assert (found["sent_before"], found["sent"]) == (0, 6)
    assert claimed(stack) == sorted(six)


def test_a_replay_keeps_to_its_rate(stack, six, ask):
    begun = time.monotonic()

    ask("replay", "--caller", CALLER, "--per-second", "12", "--yes")

    assert 0.5 <= time.monotonic() - begun < 10


# ---------------------------------------------------------------- what cannot be done


def test_a_choice_that_cannot_be_is_explained(say, subtests):
    for choice, said in (
        ("", "Which calls? Choose them with --since or --caller, or name one conversation."),
        ("--agent agent_1", "or name one conversation; --agent and --until only narrow that."),
        ("--until 1h", "or name one conversation; --agent and --until only narrow that."),
        ("--since 1h --until 2h", "the first must be the earlier one."),
        ("--since now", "'now' is no time: write 2026-11-22"),
        ("--since 99999999999d", "'99999999999d' is no time: write"),
        ("--caller Bob", "'Bob' is no phone number: write it as +12025550123"),
        ("--conversation a/b", "'a/b' is no conversation id"),
        ("--key 12025550123/c.json", "'12025550123/c.json' is no staged key"),
        (f"--key staging/2026/11/21/12/{'0' * 64}.json", "There is no staged body"),
        ("--key a --since 1h", "--key names one staged body"),
        ("--only memory --since 1h --unarchived", "--only memory is about archived"),
        ("--only memory --key a", "--only memory is about archived"),
        ("--only audio --since 1h", "'audio' is not"),
        ("--since 1h --per-second 0", "--per-second"),
    ):
        with subtests.test(choice):
            code, out, err = say("replay", *choice.split(), "--yes")

            assert (code, out) == (2, "")
            assert said in " ".join(err.split())


def test_a_missing_permission_is_named(stack, archive, say, wire, subtests):
    archive("conv_1")

    for operation, choice in (
        ("ListObjectsV2", "--since 2026-11-21"),
        ("GetObjectTagging", "--since 2026-11-21 --unarchived"),
        ("Query", "--since 2026-11-21 --agent agent_1"),
        ("BatchGetItem", f"--caller {CALLER}"),
        ("HeadObject", f"--caller {CALLER}"),
        ("GetItem", f"--caller {CALLER}"),
        ("SendMessage", f"--caller {CALLER}"),
        ("PutItem", f"--caller {CALLER}"),
        ("UpdateItem", f"--caller {CALLER} --only memory --force"),
    ):
        with subtests.test(operation):
            wire.calm()
            wire.refuse(operation)

            code, out, err = say("replay", *choice.split(), "--yes")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_no_number_is_shown_but_the_given_one(stack, say, archive):
    archive("conv_1")
    archive("conv_2", number="+12025550199")

    for words in (["--since", "2026-11-21"], ["--since", "2026-11-21", "--only", "memory", "--yes"]):
        _, out, err = say("replay", *words)

        assert "2025550" not in out + err


def test_people_are_told_what_to_do_next(stack, say, archive):
    archive("conv_1")

    _, preview, _ = say("replay", "--caller", CALLER)
    _, done, _ = say("replay", "--caller", CALLER, "--yes")

    assert preview.startswith("To be replayed")
    assert preview.endswith("Next: the same command with --yes\n")
    assert done.endswith("Next: ops status\n")
