"""ElevenLabs' own copy."""

from collections.abc import Iterator

import boto3
import pytest

from scripts.embedded.elevenlabs import ElevenLabs
from tests.conftest import Stack, close_clients
from tests.scripts.operations.conftest import (
    CALLER,
    deploy_outputs,
)
from tests.scripts.operations.erasure.conftest import call

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def elevenlabs(stack: Stack) -> Iterator[ElevenLabs]:
    secret = boto3.client("secretsmanager").create_secret(Name="xi", SecretString="xi-test")["ARN"]
    with ElevenLabs("xi-test") as stand_in:
        stack.outputs |= {"ElevenLabsApiHost": stand_in.url, "ElevenLabsSecretArn": secret}
        deploy_outputs(stack.outputs)
        yield stand_in
        close_clients()


def test_elevenlabs_copy_is_deleted_once_its_key_is_right(stack, keep, elevenlabs, erase):
    keep(call("conv_1"))
    for conversation_id in ("conv_1", "conv_2"):
        elevenlabs.add({"conversation_id": conversation_id})
    elevenlabs.key = "another"
    code, refused = erase(CALLER, "--elevenlabs")
    assert (code, refused["complete"], refused["deleted"]["elevenlabs"]) == (1, False, 0)
    (left,) = (each for each in refused["remains"] if "ElevenLabs" in each["what"])
    assert (left["what"], left["why"]) == ("ElevenLabs' own copy of conv_1", "ElevenLabs: the key is refused (401)")
    assert stack.object_keys() == set()
    elevenlabs.key = "xi-test"

    command = "./scripts/ops erase --conversation conv_1 --elevenlabs --yes --stack calls"
    assert left["until"] == f"you run {command}"
    code, certificate = erase("--conversation", "conv_1", "--elevenlabs")

    assert (code, certificate["complete"], certificate["deleted"]["elevenlabs"]) == (0, True, 1)
    assert set(elevenlabs.conversations) == {"conv_2"}
    assert "ElevenLabs" not in str(certificate["remains"])


def test_a_call_that_elevenlabs_does_not_know_is_not_certified_as_deleted_there(keep, elevenlabs, erase):
    keep(call("conv_1"))

    code, certificate = erase(CALLER, "--elevenlabs")

    assert (code, certificate["deleted"]["elevenlabs"]) == (0, 0)
    (unknown,) = (each for each in certificate["remains"] if "ElevenLabs" in each["why"])
    assert unknown["what"] == "conv_1"


def test_elevenlabs_copy_of_an_erased_call_can_still_be_deleted(stack, keep, elevenlabs, erase):
    keep(call("conv_1"))
    elevenlabs.add({"conversation_id": "conv_1"})
    _, first = erase(CALLER)

    code, _ = erase("--conversation", "conv_1", "--elevenlabs")

    assert any(each["what"] == "ElevenLabs' own copy of the calls" for each in first["remains"])
    assert (code, elevenlabs.conversations) == (0, {})


def test_a_stack_without_a_key_of_elevenlabs_says_so(failed):
    sentence = (
        "The stack has no API key of ElevenLabs. Deploy it with ElevenLabsApiKey, or delete the copy there by hand."
    )
    assert failed(CALLER, "--elevenlabs") == (2, sentence)
