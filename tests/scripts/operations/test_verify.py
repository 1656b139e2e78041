"""`ops verify`: whatever does not agree is named, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import boto3
import pytest

from memory_writer.memory import Memory
from memory_writer.platform import PlatformBackend
from shared.record import Records
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack, close_clients, forget
from tests.mem0_stand_in import HostedMem0
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, NOON, archive_checks, deploy_outputs, note, table

FOLDER = CALLER[1:]
NOT_OURS = {"order": "1-0000000000001-x"}


@pytest.fixture
def whole(stack: Stack, context: Any, archive: Callable[..., str]) -> Callable[[str], list[str]]:
    """Have a call archived with its recording, and say that it is remembered; returns the keys of its staged bodies."""

    def run(conversation_id: str) -> list[str]:
        key = archive(conversation_id, has_audio=True)
        recording = stage_recording(stack, conversation_id, b"mp3", now=NOON)
        archive_checks(context, recording)
        for kind in ("factual", "semantic"):
            note(stack, conversation_id, f"memory#{kind}", state="done", memories=1)
        return [key, staged_key(recording)]

    return run


def untag(stack: Stack, key: str) -> None:
    stack.s3.delete_object_tagging(Bucket=stack.bucket, Key=key)


def replace(stack: Stack, key: str, body: bytes | None = None, metadata: dict[str, str] | None = None) -> None:
    before = stack.body(key), stack.head(key)["Metadata"]
    stack.s3.put_object(
        Bucket=stack.bucket, Key=key, Body=body or before[0], Metadata=before[1] if metadata is None else metadata
    )


def delete(stack: Stack, key: str) -> None:
    stack.s3.delete_object(Bucket=stack.bucket, Key=key)


def drop(stack: Stack, conversation_id: str, *names: str) -> None:
    """Take attributes off the record."""
    table(stack).update_item(
        Key={"conversation_id": conversation_id, "item": "call"},
        UpdateExpression=f"REMOVE {', '.join(f'#{name}' for name in names)}",
        ExpressionAttributeNames={f"#{name}": name for name in names},
    )


def park(stack: Stack, conversation_id: str, key: str) -> None:
    note(stack, conversation_id, parked={"staged_key": key, "order": "1"})


def json_key(conversation_id: str) -> str:
    return f"{FOLDER}/{conversation_id}.json"


def mp3_key(conversation_id: str) -> str:
    return f"{FOLDER}/{conversation_id}.mp3"


# ---------------------------------------------------------------- calls that are whole


def test_a_call_that_is_whole_has_no_problem(stack, ask, mem0, whole, remember):
    whole("conv_1")
    table(stack).delete_item(Key={"conversation_id": "conv_1", "item": "memory#factual"})
    table(stack).delete_item(Key={"conversation_id": "conv_1", "item": "memory#semantic"})
    remember("Announcements")

    code, found = ask("verify", "conv_1")

    assert (code, found["title"]) == (0, "1 calls, 0 with a problem")
    assert "next" not in found
    assert found["rows"] == [
        {
            "call": "conv_1", "json": "archived", "mp3": "archived", "factual": "done, 1 in Mem0",
            "semantic": "done, 1 in Mem0", "problems": [],
        }
    ]  # fmt: skip


def test_what_is_as_it_should_be_is_no_problem(stack, ask, archive, whole):
    whole("conv_expired")
    for key in Records(table(stack)).get("conv_expired").staged_keys:
        delete(stack, key)
    archive("conv_silent", transcript=[])
    note(stack, "conv_silent", "memory#factual", state="done", memories=1)
    note(stack, "conv_silent", "memory#semantic", state="done", reason="nothing_to_say")
    archive("conv_nobody", number="anonymous")
    archive("conv_pending", has_audio=True, number="anonymous")

    code, found = ask("verify", "--since", "2026-11-21", "--no-mem0")

    rows = {row.pop("call"): row for row in found["rows"]}
    assert (code, [row["problems"] for row in rows.values()]) == (0, [[], [], [], []])
    assert rows["conv_silent"]["semantic"] == "nothing_to_say"
    assert (rows["conv_nobody"]["factual"], rows["conv_nobody"]["mp3"]) == ("-", "none")
    assert rows["conv_pending"]["mp3"] == "pending"


def test_an_erasure_that_is_not_through_is_a_problem(stack, ask):
    note(stack, "conv_1", erased_at="2026-11-21T12:00:00Z", folder="12025550123")

    code, found = ask("verify", "conv_1")

    sentence = "its erasure is not through: ops erase --conversation conv_1 --yes"
    assert (code, found["rows"][0]["problems"]) == (1, [sentence])


def test_an_erased_call_is_whole_without_anything(stack, ask):
    note(stack, "conv_1", erased_at="2026-11-21T12:00:00Z")

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["json"], found["rows"][0]["problems"]) == (0, "erased", [])


# ---------------------------------------------------------------- calls that are not


BROKEN: dict[str, tuple[Callable[[Stack, str, list[str]], None], list[str]]] = {
    "whole": (lambda stack, call, keys: None, []),
    "json_gone": (
        lambda stack, call, keys: delete(stack, json_key(call)),
        ["the record has a transcript, and the archive no JSON"],
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
        ["the record has a recording, and the archive no MP3"],
    ),
    "mp3_older": (
        lambda stack, call, keys: replace(stack, mp3_key(call), metadata=NOT_OURS),
        ["the MP3 is of another version than the record"],
    ),
    "mp3_unknown": (
        lambda stack, call, keys: note(stack, call, audio="pending"),
        ["the archive has an MP3 that the record does not know"],
    ),
    "mp3_foreign": (
        lambda stack, call, keys: (note(stack, call, audio="none"), replace(stack, mp3_key(call), metadata={})),
        ["the archive has an MP3 that the record does not know"],
    ),
    "parked": (
        lambda stack, call, keys: (park(stack, call, keys[1]), untag(stack, keys[1])),
        ["its audio is parked, although its folder is known"],
    ),
    "staged_open": (
        lambda stack, call, keys: (untag(stack, keys[0]), untag(stack, keys[1])),
        ["staged bodies that are not finished: 2"],
    ),
    "ledger_empty": (
        lambda stack, call, keys: table(stack).delete_item(Key={"conversation_id": call, "item": "memory#factual"}),
        ["the factual memory is not written: nobody began"],
    ),
    "ledger_open": (
        lambda stack, call, keys: note(stack, call, "memory#semantic", state="sending"),
        ["the semantic memory is not written: sending"],
    ),
    "two": (
        lambda stack, call, keys: (delete(stack, mp3_key(call)), untag(stack, keys[0])),
        ["staged bodies that are not finished: 1", "the record has a recording, and the archive no MP3"],
    ),
}  # fmt: skip


def test_each_disagreement_is_named(stack, ask, whole):
    for name, (break_, _) in BROKEN.items():
        break_(stack, name, whole(name))

    code, found = ask("verify", "--since", "2026-11-21")

    assert code == 1
    assert {row["call"]: row["problems"] for row in found["rows"]} == {
        name: problems for name, (_, problems) in BROKEN.items()
    }
    assert found["title"] == f"{len(BROKEN)} calls, {len(BROKEN) - 1} with a problem"
    assert (
        found["next"]
        == "ops dlq list: heal and redrive what is there; what stays wrong: ops replay --conversation ID --force --yes"
    )


def test_only_calls_with_a_problem_are_shown_if_asked_for(stack, ask, whole):
    whole("conv_1")
    delete(stack, mp3_key("conv_1"))
    whole("conv_2")

    code, found = ask("verify", "--caller", CALLER, "--problems")

    assert (code, found["title"]) == (1, "2 calls, 1 with a problem")
    assert [row["call"] for row in found["rows"]] == ["conv_1"]


def test_audio_that_waits_for_its_call_is_named(stack, ask, context):
    check = stage_recording(stack, "conv_1", b"mp3", now=NOON)
    archive_checks(context, check)

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["mp3"], found["rows"][0]["json"]) == (1, "parked", "missing")
    assert found["rows"][0]["problems"] == ["its audio is parked, and no transcript came"]


def test_all_versions_of_audio_that_waits_for_its_call_may_be_unfinished(stack, ask, context):
    for at in (1, 2):
        audio = {"conversation_id": "conv_1", "full_audio": "SUQz"}
        body = {"type": "post_call_audio", "event_timestamp": 1772550278 + at, "data": audio}
        archive_checks(context, stage(stack, body, now=NOON))

    _, found = ask("verify", "conv_1")

    assert found["rows"][0]["problems"] == ["its audio is parked, and no transcript came"]


def test_a_call_that_was_only_fetched_is_named(stack, ask):
    note(stack, "conv_1", fetches=1)

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (1, ["no transcript came"])


# ---------------------------------------------------------------- Mem0


def test_memories_and_their_receipts_must_agree(stack, ask, mem0, archive, remember):
    for name in ("conv_1", "conv_2", "conv_3"):
        archive(name)
    remember("Announcements")
    memories = {(each["metadata"]["conversation_id"], each["metadata"]["type"]): each for each in mem0.memories()}
    mem0.delete(memories["conv_1", "factual"])
    mem0.add_again(memories["conv_2", "semantic"])

    code, found = ask("verify", "--caller", CALLER)
    believed, _ = ask("verify", "--caller", CALLER, "--no-mem0")

    assert (code, believed) == (1, 0)
    assert {row["call"]: row["problems"] for row in found["rows"]} == {
        "conv_1": ["Mem0 does not have 1 of the 1 factual memories that it took"],
        "conv_2": ["Mem0 has semantic memories that the ledger has no receipt for: 1"],
        "conv_3": [],
    }


def test_memories_are_looked_for_under_the_number_that_the_json_names(stack, ask, mem0, archive, remember):
    archive("conv_1")
    remember("Announcements")
    note(stack, "conv_1", external_number="+12025550199")

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (0, [])


class Kept(PlatformBackend):
    """Stays, so that its connections can be closed; the tool leaves that to the end of its process."""

    all: ClassVar[list[PlatformBackend]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.all.append(self)


@pytest.fixture
def hosted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlatformBackend]:
    monkeypatch.setattr("memory_writer.platform.PlatformBackend", Kept)
    with HostedMem0(key="m0-test") as stand_in:
        secret = boto3.client("secretsmanager").create_secret(Name="mem0", SecretString="m0-test\n")["ARN"]
        found = {"MemoryBackend": "platform", "MemorySecretArn": secret, "Mem0Host": stand_in.url}
        deploy_outputs(stack.outputs | found)
        yield Kept(stand_in.url, "m0-test", 30)
        close_clients()
        Kept.all.clear()


def test_the_hosted_mem0_is_asked_just_so(stack, ask, hosted, whole):
    metadata = {"conversation_id": "conv_1", "type": "semantic"}
    memory = Memory(CALLER, "semantic", [{"role": "user", "content": "A boat."}], metadata, infer=False)
    answer = hosted.add(memory, again=False)
    while answer.status == "PENDING":
        answer = hosted.look(answer.event_id)
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=[*answer.memory_ids, "lost"])

    _, found = ask("verify", "conv_1")

    assert found["rows"][0]["problems"] == ["Mem0 does not have 1 of the 2 semantic memories that it took"]


def test_a_mem0_that_cannot_be_asked_ends_in_a_sentence(stack, say, whole, subtests):
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=["1"])
    secret = boto3.client("secretsmanager").create_secret(Name="mem0", SecretString="no JSON")["ARN"]
    platform = {"MemorySecretArn": secret, "MemoryBackend": "platform", "Mem0Host": "http://127.0.0.1:9"}

    for outputs, said in (
        ({}, "The stack does not remember: give it Mem0ApiKey or MemoryConfig, or verify with --no-mem0.\n"),
        ({"MemorySecretArn": secret, "MemoryBackend": "oss"}, "The stack's parameter MemoryConfig is not JSON.\n"),
        (platform, "Mem0 could not be reached: ConnectError.\n"),
    ):
        with subtests.test(said):
            deploy_outputs(stack.outputs | outputs)

            code, out, err = say("verify", "conv_1")

            assert (code in (1, 2), out, err.endswith(said)) == (True, "", True)


# ---------------------------------------------------------------- choosing, and what cannot be done


def test_calls_are_chosen_as_for_a_replay(stack, ask, archive, subtests):
    archive("conv_1")
    archive("conv_2", agent_id="agent_2")
    archive("conv_3", number="anonymous")

    for choice, chosen in (
        ("conv_1", ["conv_1"]),
        (f"--caller {CALLER}", ["conv_1", "conv_2"]),
        ("--caller no-phone", ["conv_3"]),
        ("--since 2026-11-21 --agent agent_2", ["conv_2"]),
        ("--since 2026-11-21", ["conv_1", "conv_2", "conv_3"]),
        ("--since 2026-11-21T12:01", []),
        ("--since 2026-11-20 --until 2026-11-21T12:00", []),
    ):
        with subtests.test(choice):
            _, found = ask("verify", *choice.split())

            assert sorted(row["call"] for row in found["rows"]) == chosen


def test_a_call_that_nobody_knows_is_said_to_be_unknown(say):
    code, out, err = say("verify", "conv_1")

    assert (code, out) == (1, "")
    assert err.endswith("Nothing is known of conv_1: no webhook brought it, and no pass fetched it.\n")


def test_no_choice_is_explained(say):
    code, _, err = say("verify")

    assert (code, err) == (2, "Which calls? Choose them with --since or --caller, or name one conversation.\n")


def test_a_missing_permission_is_named(stack, say, whole, wire, subtests):
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=["1"])
    deploy_outputs(stack.outputs | {"MemorySecretArn": "arn", "MemoryBackend": "oss"})

    for operation in ("GetItem", "GetObject", "HeadObject", "GetObjectTagging", "GetSecretValue"):
        with subtests.test(operation):
            wire.calm()
            wire.refuse(operation)

            code, out, err = say("verify", "conv_1")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_an_interrupted_run_ends_in_a_sentence(stack, say, whole, wire):
    whole("conv_1")
    wire.interrupt("HeadObject", 1)

    code, out, err = say("verify", "conv_1")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)


def test_no_number_is_shown(stack, say, archive):
    archive("conv_1")
    replace(stack, json_key("conv_1"), b"{")

    for words in (["conv_1"], ["--since", "2026-11-21", "--json"], ["--since", "2026-11-21", "--problems"]):
        _, out, err = say("verify", *words)

        assert "conv_1" in out
        assert FOLDER not in out + err


def test_people_get_a_table(stack, say, whole):
    whole("conv_1")

    _, out, _ = say("verify", "conv_1")
    _, none, _ = say("verify", "conv_1", "--problems")

    assert [line.split() for line in out.splitlines()] == [
        ["1", "calls,", "0", "with", "a", "problem"],
        ["Call", "JSON", "MP3", "Factual", "Semantic", "Problems"],
        ["conv_1", "archived", "archived", "done,", "1", "in", "Mem0", "done,", "1", "in", "Mem0", "-"],
    ]
    assert none == "1 calls, 0 with a problem.\n"


def test_a_call_that_is_left_out_is_no_problem(stack, ask):
    Records(table(stack)).leave_out("conv_1", "too_short")

    code, found = ask("verify", "conv_1")

    assert (code, found["title"]) == (0, "1 calls, 0 with a problem")
    assert found["rows"][0]["json"] == "left out: too_short"


def test_a_call_whose_json_is_compressed_agrees(stack, ask, whole, monkeypatch):
    monkeypatch.setenv("GZIP_JSON", "true")
    forget()
    whole("conv_1")
    assert stack.head(json_key("conv_1"))["ContentEncoding"] == "gzip"

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (0, [])


def test_a_json_that_is_no_gzip_though_it_says_so_is_named(stack, ask, whole):
    whole("conv_1")
    metadata = stack.head(json_key("conv_1"))["Metadata"]
    stack.s3.put_object(
        Bucket=stack.bucket, Key=json_key("conv_1"), Body=b"no gzip", Metadata=metadata, ContentEncoding="gzip"
    )

    code, found = ask("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (1, ["the JSON cannot be read"])
