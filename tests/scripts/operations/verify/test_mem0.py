"""`ops verify` compares memories with their receipts."""

from collections.abc import Iterator
from typing import Any, ClassVar

import boto3
import pytest

from memory_writer.memory import Memory
from memory_writer.platform import PlatformBackend
from tests.conftest import Stack, close_clients
from tests.mem0_stand_in import HostedMem0
from tests.scripts.operations.conftest import CALLER, deploy_outputs, note


def test_memories_and_their_receipts_must_agree(stack, run_ops_json, mem0, archive, remember):
    for name in ("conv_1", "conv_2", "conv_3"):
        archive(name)
    remember("Announcements")
    memories = {(each["metadata"]["conversation_id"], each["metadata"]["type"]): each for each in mem0.memories()}
    mem0.delete(memories["conv_1", "factual"])
    mem0.add_again(memories["conv_2", "semantic"])

    code, found = run_ops_json("verify", "--caller", CALLER)
    believed, _ = run_ops_json("verify", "--caller", CALLER, "--no-mem0")

    assert (code, believed) == (1, 0)
    assert {row["call"]: row["problems"] for row in found["rows"]} == {
        "conv_1": ["factual memories that Mem0 accepted and does not have: 1 of 1"],
        "conv_2": ["semantic memories in Mem0 without a receipt in the ledger: 1"],
        "conv_3": [],
    }


def test_memories_are_looked_for_under_the_number_that_the_json_names(stack, run_ops_json, mem0, archive, remember):
    archive("conv_1")
    remember("Announcements")
    note(stack, "conv_1", external_number="+12025550199")

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (0, [])


class Kept(PlatformBackend):
    """Remembers its instances, so that the test can close their connections: the tool does not."""

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


def test_the_hosted_mem0_is_asked_in_the_same_way(stack, run_ops_json, hosted, whole):
    metadata = {"conversation_id": "conv_1", "type": "semantic"}
    memory = Memory(CALLER, "semantic", [{"role": "user", "content": "A boat."}], metadata, infer=False)
    answer = hosted.add(memory, again=False)
    while answer.status == "PENDING":
        answer = hosted.check_event(answer.event_id)
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=[*answer.memory_ids, "lost"])

    _, found = run_ops_json("verify", "conv_1")

    assert found["rows"][0]["problems"] == ["semantic memories that Mem0 accepted and does not have: 1 of 2"]


def test_a_mem0_that_cannot_be_asked_ends_in_a_sentence(stack, run_ops, whole, subtests):
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=["1"])
    secret = boto3.client("secretsmanager").create_secret(Name="mem0", SecretString="no JSON")["ARN"]
    platform = {"MemorySecretArn": secret, "MemoryBackend": "platform", "Mem0Host": "http://127.0.0.1:9"}

    for outputs, said in (
        ({}, "The stack has no Mem0. Deploy it with Mem0ApiKey or MemoryConfig, or add --no-mem0.\n"),
        ({"MemorySecretArn": secret, "MemoryBackend": "oss"}, "The stack's parameter MemoryConfig is not JSON.\n"),
        (platform, "Mem0 at http://127.0.0.1:9 could not be reached (ConnectError).\n"),
    ):
        with subtests.test(said):
            deploy_outputs(stack.outputs | outputs)

            code, out, err = run_ops("verify", "conv_1")

            assert (code in (1, 2), out, err.endswith(said)) == (True, "", True)
