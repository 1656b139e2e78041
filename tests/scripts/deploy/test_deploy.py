"""A new stack and an upgrade, driven through `make deploy` as an operator does it."""

import fcntl
import json
from typing import Any

import pytest

from scripts.embedded.deployment import ROOT
from tests.scripts.deploy.conftest import Built, Deploy, Watch, files_with

SIGNING, ELEVENLABS, MEM0 = "wsec_5ec2e7f1a9", "xi_7d0c41b2e6", "m0_91fe0a3c58"
ANSWERS = {
    "Signing secret": SIGNING,
    "ElevenLabs API key": ELEVENLABS,
    "Mem0 API key": MEM0,
    "E-mail": "night@example.com",
}


@pytest.fixture
def deployed(deploy: Deploy) -> Deploy:
    """A stack with all three keys, and one parameter that somebody chose. Tests of one module share it."""
    if not any(
        each["StackName"] == "agentic-memory"
        for each in deploy.aws.client("cloudformation").describe_stacks()["Stacks"]
    ):
        code, screen, _ = deploy.answering(ANSWERS, PARAMETERS="ThrottlingBurstLimit=500")
        assert code == 0, screen
    return deploy


def test_a_new_stack_takes_eight_questions_and_shows_its_secrets_nowhere(deploy: Deploy) -> None:
    deploy.command = ["make", "--no-print-directory", "deploy"]
    with Watch(SIGNING, ELEVENLABS, MEM0) as watch:
        code, screen, asked = deploy.answering(ANSWERS, PARAMETERS="ThrottlingBurstLimit=500")

    assert code == 0, screen
    assert [text.split(" (")[1] for text in asked] == [f"question {number}, at most 8)" for number in range(1, 9)]
    assert deploy.secret("WebhookSecretArn") == SIGNING
    assert deploy.secret("ElevenLabsSecretArn") == ELEVENLABS
    assert deploy.secret("MemorySecretArn") == MEM0
    parameters = deploy.stack()["parameters"]
    assert (parameters["AlarmEmail"], parameters["ThrottlingBurstLimit"], parameters["KeepAudio"]) == (
        "night@example.com",
        "500",
        "true",
    )
    assert deploy.stack()["outputs"]["PostCallUrl"] in screen
    assert watch.looks > 20
    assert watch.seen == set()
    assert files_with(deploy.home, SIGNING, ELEVENLABS, MEM0) == []
    assert files_with(ROOT / ".aws-sam", SIGNING, ELEVENLABS, MEM0) == []
    assert not any(word in screen for word in (SIGNING, ELEVENLABS, MEM0))


def test_an_update_asks_nothing_and_changes_nothing_by_itself(deployed: Deploy) -> None:
    before = deployed.stack()

    code, said = deployed.unattended()

    assert code == 0, said
    assert "Nothing to change" in said
    assert deployed.stack() == before


def test_an_update_changes_what_it_names_and_nothing_else(deployed: Deploy) -> None:
    before = deployed.stack()["parameters"]

    code, said = deployed.unattended(PARAMETERS="LogLevel=DEBUG AlarmEmail=day@example.com")

    assert code == 0, said
    assert "INFO -> DEBUG" in said
    assert deployed.stack()["parameters"] == before | {"LogLevel": "DEBUG", "AlarmEmail": "day@example.com"}
    assert deployed.secret("WebhookSecretArn") == SIGNING
    assert deployed.secret("ElevenLabsSecretArn") == ELEVENLABS
    assert deployed.secret("MemorySecretArn") == MEM0
    deployed.unattended(PARAMETERS="LogLevel=INFO AlarmEmail=night@example.com")


def test_an_upgrade_takes_new_defaults_only_where_nothing_was_chosen(deployed: Deploy, built: Built) -> None:
    def later(template: dict[str, Any]) -> None:
        template["Parameters"]["ThrottlingBurstLimit"]["Default"] = 2000  # somebody chose 500
        template["Parameters"]["ThrottlingRateLimit"]["Default"] = 99

    before = deployed.stack()["parameters"]
    built.write(later)
    code, said = deployed.unattended()

    assert code == 0, said
    assert deployed.stack()["parameters"] == before | {"ThrottlingRateLimit": "99"}


def test_a_secret_is_not_taken_from_the_command_line_but_asked_for(deployed: Deploy) -> None:
    code, said = deployed.unattended(PARAMETERS="Mem0ApiKey=m0_another")

    assert code == 2
    assert "Mem0ApiKey is a secret" in said
    assert "m0_another" not in said
    assert deployed.secret("MemorySecretArn") == MEM0

    code, screen, asked = deployed.answering({"Mem0ApiKey": "m0_another"}, PARAMETERS="Mem0ApiKey=ask")

    assert code == 0, screen
    assert len(asked) == 1
    assert "m0_another" not in screen
    assert deployed.secret("MemorySecretArn") == "m0_another"
    assert deployed.secret("WebhookSecretArn") == SIGNING


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("ThrottlingBurstLimits=3", "Do you mean ThrottlingBurstLimit?"),
        ("ThrottlingBurstLimit", "has no value"),
        ("LogLevel=LOUD", "must be one of: DEBUG, INFO, WARNING, ERROR"),
        ("AlarmEmail=nobody", "AlarmEmail must be an e-mail address"),
        ("ObjectLockDays=many", "ObjectLockDays must be a number from 0 to 36500."),
        ("MinimumCallSeconds=many", "MinimumCallSeconds must be a number from 0."),
        ("ThrottlingRateLimit=10001", "ThrottlingRateLimit must be a number from 1 to 10000."),
        ("WebhookSecretValue=none", "rotate-secret"),
        ("ArchiveVisibilitySeconds=5", "ArchiveVisibilitySeconds is not a parameter: it is fixed in template.yaml"),
        (
            "BucketName=my-other-calls",
            "BucketName cannot be changed: the calls are in elevenlabs-agentic-memory-000000000000-us-east-1",
        ),
    ],
)
def test_what_would_do_harm_is_refused_before_anything_changes(
    deployed: Deploy, parameters: str, sentence: str
) -> None:
    before = deployed.stack()

    code, said = deployed.unattended(PARAMETERS=parameters)

    assert code == 2, said
    assert sentence in said
    assert "Traceback" not in said
    assert deployed.stack() == before


def test_an_update_that_would_put_an_empty_table_in_place_of_the_calls_is_not_begun(
    deployed: Deploy, built: Built
) -> None:
    def renamed(template: dict[str, Any]) -> None:
        template["Resources"]["ConversationTable"]["Properties"]["TableName"] = "another"

    before = deployed.stack()
    built.write(renamed)
    code, said = deployed.unattended()

    assert code == 2, said
    assert "would replace ConversationTable by an empty one" in said
    assert deployed.stack() == before


def test_make_hands_parameters_on_as_they_were_written(deployed: Deploy) -> None:
    written = "'No$HOME $(shell echo made)=1'"
    deployed.command = ["make", "--no-print-directory", "deploy", f"PARAMETERS={written}"]

    _, said = deployed.unattended()

    assert "There is no parameter No$HOME $(shell echo made)." in said


def test_two_builds_in_one_folder_are_not_begun_at_once(deployed: Deploy, built: Built) -> None:
    with built.path.parent.with_name("deploy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = deployed.unattended()

    assert code == 2
    assert "Another make deploy builds in this folder" in said


def test_an_endpoint_that_is_no_url_ends_in_a_sentence(deploy: Deploy) -> None:
    assert deploy.unattended(AWS_ENDPOINT_URL="nowhere") == (
        2,
        "The AWS settings cannot be used: Invalid endpoint: nowhere.\n",
    )


def test_without_a_terminal_no_new_stack_is_made(deploy: Deploy) -> None:
    code, said = deploy.unattended(STACK="calls-of-nobody")

    assert code == 2
    assert "There is no stack calls-of-nobody in us-east-1" in said


def test_a_new_stack_does_not_begin_if_its_bucket_is_there(deploy: Deploy) -> None:
    deploy.aws.client("s3").create_bucket(Bucket="taken-already")

    code, screen, asked = deploy.answering({}, STACK="second", PARAMETERS="BucketName=taken-already")

    assert code == 2
    assert "The bucket taken-already exists in your account already" in screen
    assert len(asked) == 2


def test_a_failed_stack_says_what_failed_first_and_is_made_anew_by_the_same_command(
    deploy: Deploy, built: Built
) -> None:
    def broken(template: dict[str, Any]) -> None:
        template["Resources"]["Broken"] = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "broken"}}

    deploy.aws.client("s3").create_bucket(Bucket="broken")
    parameters = {"STACK": "third", "PARAMETERS": "BucketName=third-calls"}
    built.write(broken)
    code, screen, _ = deploy.answering({}, **parameters)

    assert code == 1, screen
    assert "Broken (AWS::S3::Bucket): " in screen

    built.write(lambda _: None)
    code, screen, _ = deploy.answering({}, **parameters)

    assert code == 0, screen
    assert deploy.stack("third")["status"] == "CREATE_COMPLETE"


def test_memories_of_ones_own_are_configured_by_a_file(deploy: Deploy) -> None:
    config = deploy.home / "mem0.json"
    config.write_text(json.dumps({"vector_store": {"provider": "s3_vectors"}}, indent=4))
    answers = {"Where memories go": "own", "Mem0 configuration": str(config)}

    code, screen, asked = deploy.answering(answers, STACK="fourth", PARAMETERS="BucketName=fourth-calls")

    assert code == 0, screen
    assert len(asked) == 8
    assert json.loads(deploy.secret("MemorySecretArn", "fourth")) == json.loads(config.read_text())
    assert deploy.stack("fourth")["parameters"]["MemoryBackend"] == "oss"


def test_what_is_given_is_not_asked_for(deploy: Deploy) -> None:
    given = (
        "BucketName=fifth-calls ElevenLabsApiKey=none MemoryBackend=platform AlarmEmail=a@example.com KeepAudio=false"
    )

    code, screen, asked = deploy.answering({}, STACK="fifth", PARAMETERS=given)

    assert code == 0, screen
    assert [text.split(" (")[0] for text in asked] == ["Name of the stack", "Region", "Signing secret of the webhook"]
    assert deploy.stack("fifth")["parameters"]["KeepAudio"] == "false"
    assert "AWS_REGION=us-east-1 make deploy STACK=fifth" in screen


def test_sam_deploy_guided_still_makes_a_first_stack(deploy: Deploy, built: Built) -> None:
    deploy.command = [str(ROOT / ".venv-sam" / "bin" / "sam"), "deploy", "--guided", "--template-file", str(built.path)]

    code, screen = deploy.guided(
        {"Stack Name": "guided", "BucketName": "guided-calls", "Save arguments": "n", "Deploy this": "y"}
    )

    assert code == 0, screen
    assert deploy.stack("guided")["status"] == "CREATE_COMPLETE"
