"""The preview of `ops replay` lists what would be sent."""

from datetime import timedelta

from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.scripts.operations.conftest import CALLER, NOON, receive_at
from tests.scripts.operations.replay.conftest import claimed, staged


def test_a_preview_lists_each_body_and_sends_none(stack, run_ops_json):
    keys = [staged(stack, f"conv_{hours}", NOON + timedelta(hours=hours)) for hours in (2, 0, 1)]
    size = stack.head(keys[0])["ContentLength"]

    code, found = run_ops_json("replay", "--since", "2026-11-21")

    assert (code, found["payloads"], found["sent_before"]) == (0, 3, 0)
    assert (found["more"], found["next"]) == (0, "Run the same command with --yes.")
    assert found["listed"] == [
        {"key": key, "received_at": f"2026-11-21T{hour}:00:00Z", "calls": [call], "bytes": size}
        for key, hour, call in zip(
            [keys[1], keys[2], keys[0]], (12, 13, 14), ("conv_0", "conv_1", "conv_2"), strict=True
        )
    ]
    assert claimed(stack) == []


def test_a_preview_lists_at_most_two_dozen_and_counts_the_rest(stack, run_ops_json, run_ops):
    for number in range(26):
        staged(stack, f"conv_{number}", NOON + timedelta(seconds=number))

    _, found = run_ops_json("replay", "--since", "2026-11-21")
    _, out, _ = run_ops("replay", "--since", "2026-11-21")

    assert (len(found["listed"]), found["more"]) == (24, 2)
    assert found["listed"][0]["calls"] == ["conv_0"]
    assert "26 payloads would be replayed: the first 24, and 2 more" in out


def test_a_body_that_nobody_can_read_and_a_recording_are_listed_too(stack, run_ops_json):
    poison = staged_key(stage(stack, b"not json", now=NOON))
    recording = staged_key(stage_recording(stack, "conv_1", b"mp3", now=NOON))
    for key in (poison, recording):
        receive_at(stack, key, NOON)

    _, found = run_ops_json("replay", "--since", "2026-11-21")

    assert {each["key"]: (each["calls"], each["bytes"]) for each in found["listed"]} == {
        poison: ([], 8), recording: (["conv_1"], 3),
    }  # fmt: skip


def test_what_was_sent_before_is_not_listed_again(stack, run_ops_json, run_ops, aws_calls):
    for hours in range(3):
        staged(stack, f"conv_{hours}", NOON + timedelta(hours=hours))
    aws_calls.interrupt("SendMessage", 2)
    run_ops("replay", "--since", "2026-11-21", "--yes")
    aws_calls.reset()

    _, found = run_ops_json("replay", "--since", "2026-11-21")

    assert (found["sent_before"], [each["calls"] for each in found["listed"]]) == (2, [["conv_2"]])


def test_calls_to_be_remembered_again_are_listed(stack, run_ops_json, archive):
    archive("conv_1")

    _, found = run_ops_json("replay", "--caller", CALLER, "--only", "memory")

    assert found["listed"] == [{"call": "conv_1", "archived_at": "2026-11-21T12:00:00Z"}]
