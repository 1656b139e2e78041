"""`ops verify`: each disagreement is named."""

from collections.abc import Callable

from tests.archiver.conftest import stage, stage_recording
from tests.conftest import Stack
from tests.scripts.operations.conftest import CALLER, NOON, archive_checks, note, table
from tests.scripts.operations.verify.conftest import FOLDER, delete, json_key, replace

NOT_OURS = {"order": "1-0000000000001-x"}


def untag(stack: Stack, key: str) -> None:
    stack.s3.delete_object_tagging(Bucket=stack.bucket, Key=key)


def park(stack: Stack, conversation_id: str, key: str) -> None:
    note(stack, conversation_id, parked={"staged_key": key, "order": "1"})


def mp3_key(conversation_id: str) -> str:
    return f"{FOLDER}/{conversation_id}.mp3"


BROKEN: dict[str, tuple[Callable[[Stack, str, list[str]], None], list[str]]] = {
    "whole": (lambda stack, call, keys: None, []),
    "json_gone": (
        lambda stack, call, keys: delete(stack, json_key(call)),
        ["the record has a transcript, but the archive has no JSON"],
    ),
    "json_older": (
        lambda stack, call, keys: replace(stack, json_key(call), metadata=NOT_OURS),
        ["the JSON is of another version than the record"],
    ),
    "json_foreign": (
        lambda stack, call, keys: replace(stack, json_key(call), metadata={}),
        ["the JSON is of another version than the record"],
    ),
    "json_broken": (lambda stack, call, keys: replace(stack, json_key(call), b"{"), ["the JSON cannot be read"]),
    "json_list": (lambda stack, call, keys: replace(stack, json_key(call), b"7"), ["the JSON cannot be read"]),
    "mp3_gone": (
        lambda stack, call, keys: delete(stack, mp3_key(call)),
        ["the record has a recording, but the archive has no MP3"],
    ),
    "mp3_older": (
        lambda stack, call, keys: replace(stack, mp3_key(call), metadata=NOT_OURS),
        ["the MP3 is of another version than the record"],
    ),
    "mp3_unknown": (
        lambda stack, call, keys: note(stack, call, audio="pending"),
        ["the archive has an MP3 that is not in the record"],
    ),
    "mp3_foreign": (
        lambda stack, call, keys: (note(stack, call, audio="none"), replace(stack, mp3_key(call), metadata={})),
        ["the archive has an MP3 that is not in the record"],
    ),
    "parked": (
        lambda stack, call, keys: (park(stack, call, keys[1]), untag(stack, keys[1])),
        ["its audio is parked, but its folder is known"],
    ),
    "staged_open": (
        lambda stack, call, keys: (untag(stack, keys[0]), untag(stack, keys[1])),
        ["payloads that are not archived: 2"],
    ),
    "ledger_empty": (
        lambda stack, call, keys: table(stack).delete_item(Key={"conversation_id": call, "item": "memory#factual"}),
        ["the factual memory is not written: not started"],
    ),
    "ledger_open": (
        lambda stack, call, keys: note(stack, call, "memory#semantic", state="sending"),
        ["the semantic memory is not written: sending"],
    ),
    "two": (
        lambda stack, call, keys: (delete(stack, mp3_key(call)), untag(stack, keys[0])),
        ["payloads that are not archived: 1", "the record has a recording, but the archive has no MP3"],
    ),
}  # fmt: skip


def test_each_disagreement_is_named(stack, run_ops_json, whole):
    for name, (break_, _) in BROKEN.items():
        break_(stack, name, whole(name))

    code, found = run_ops_json("verify", "--since", "2026-11-21")

    assert code == 1
    assert {row["call"]: row["problems"] for row in found["rows"]} == {
        name: problems for name, (_, problems) in BROKEN.items()
    }
    assert found["title"] == f"{len(BROKEN)} calls, {len(BROKEN) - 1} with a problem"
    replay = "./scripts/ops replay --conversation ID --force --yes --stack calls"
    assert found["next"].splitlines() == [
        "Fix the cause. Then redrive the messages in the dead-letter queues: ./scripts/ops dlq list --stack calls",
        f"If a problem stays: {replay}",
    ]


def test_only_calls_with_a_problem_are_shown_if_asked_for(stack, run_ops_json, whole):
    whole("conv_1")
    delete(stack, mp3_key("conv_1"))
    whole("conv_2")

    code, found = run_ops_json("verify", "--caller", CALLER, "--problems")

    assert (code, found["title"]) == (1, "2 calls, 1 with a problem")
    assert [row["call"] for row in found["rows"]] == ["conv_1"]


def test_audio_that_waits_for_its_transcript_is_named(stack, run_ops_json, context):
    check = stage_recording(stack, "conv_1", b"mp3", now=NOON)
    archive_checks(context, check)

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["mp3"], found["rows"][0]["json"]) == (1, "parked", "missing")
    assert found["rows"][0]["problems"] == ["its audio is parked, and no transcript came"]


def test_all_versions_of_audio_that_waits_for_its_call_may_be_unfinished(stack, run_ops_json, context):
    for at in (1, 2):
        audio = {"conversation_id": "conv_1", "full_audio": "SUQz"}
        body = {"type": "post_call_audio", "event_timestamp": 1772550278 + at, "data": audio}
        archive_checks(context, stage(stack, body, now=NOON))

    _, found = run_ops_json("verify", "conv_1")

    assert found["rows"][0]["problems"] == ["its audio is parked, and no transcript came"]


def test_a_call_without_a_transcript_is_named(stack, run_ops_json):
    note(stack, "conv_1", fetches=1)

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (1, ["no transcript came"])
