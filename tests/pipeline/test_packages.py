"""The functions as they are deployed: each package alone under Lambda's runtime client, set up as the template says."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from scripts import package_sizes
from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.deployment import ROOT, TEMPLATE, deploy
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.package_sizes import measure
from shared.messages import Announcement
from tests.archiver.conftest import stage
from tests.conftest import Stack, fixture_body, sqs_event
from tests.ingest.conftest import signed
from tests.lambda_runtime import Function, provide
from tests.mem0_stand_in import HostedMem0

FULL_ID = "conv_fixture00000000000000000full"
FOLDER = "12025550123"
BUILD_SECONDS = 600.0
HANDLERS = dict(re.findall(r"^  (\w+Function):\n(?:    .*\n)+?      Handler: (.*)", TEMPLATE.read_text(), re.MULTILINE))

Package = Callable[[str], Path]
Invoke = Callable[[str, Any], Any]


def make(*words: str, **variables: Any) -> str:
    """What make prints when it makes a package as `sam build` does, but for this machine and with this pip."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(
        ["make", *words, "PLATFORM=", f"PIP={quote(sys.executable)} -m pip", "MEMORY_BACKEND=platform", *settings],
        cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=BUILD_SECONDS,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    """Builds a function's package, one for functions of the same handler.

    The wheels are fetched once, for pip reads long lists of versions for each.
    """
    wheels, pip = tmp_path_factory.mktemp("wheels"), [sys.executable, "-m", "pip"]
    pinned = [f"-r{folder.split('.')[0]}/requirements.txt" for folder in sorted(set(HANDLERS.values()))]
    subprocess.run(
        [*pip, "download", "-q", "--require-hashes", "--only-binary=:all:", "-d", wheels, *pinned],
        cwd=ROOT,
        check=True,
        timeout=BUILD_SECONDS,
    )

    @cache
    def build(handler: str) -> Path:
        name = next(each for each in HANDLERS if HANDLERS[each] == handler)
        folder = tmp_path_factory.mktemp(name)
        make(f"build-{name}", ARTIFACTS_DIR=folder)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        yield lambda name: build(HANDLERS[name])


@pytest.fixture(scope="module")
def stack(emulator: EmbeddedAws, mem0: HostedMem0, elevenlabs: ElevenLabs) -> Stack:
    """The template's stack, whose own functions take nothing from the queues."""
    parameters = {
        "BucketName": "agentic-memory-packages", "AudioDelaySeconds": "0", "Mem0ApiKey": "m0-test",
        "Mem0Host": mem0.url, "ElevenLabsApiKey": "xi-test", "ElevenLabsApiHost": elevenlabs.url,
    }  # fmt: skip
    stack = Stack(emulator.client, deploy(emulator, "packages", parameters))
    functions = emulator.client("lambda")
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if "function:packages-" in mapping["FunctionArn"]:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    return stack


@pytest.fixture(scope="module")
def invoke(
    emulator: EmbeddedAws, stack: Stack, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Invoke]:
    """Has a function's package handle an event, in the environment and by the handler that the template gives it."""
    provided = provide(tmp_path_factory.mktemp("lambda"))
    aws = {
        "AWS_ENDPOINT_URL": emulator.endpoint_url, "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ROOT_KEY, "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
    }  # fmt: skip
    with ExitStack() as running:

        @cache
        def start(name: str) -> Function:
            found = emulator.client("cloudformation").describe_stack_resource(
                StackName="packages", LogicalResourceId=name
            )
            physical = found["StackResourceDetail"]["PhysicalResourceId"]
            settings = emulator.client("lambda").get_function_configuration(FunctionName=physical)
            environment = settings["Environment"]["Variables"] | aws
            return running.enter_context(Function(package(name), settings["Handler"], environment, provided))

        yield lambda name, event: start(name).invoke(event)


def call(conversation_id: str) -> dict[str, Any]:
    """A call with a recording that ended two hours ago."""
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id, "has_audio": True}
    start = int((datetime.now(timezone.utc) - timedelta(hours=2)).timestamp())
    return data | {"metadata": data["metadata"] | {"start_time_unix_secs": start}}


def announcement(conversation_id: str) -> str:
    key = f"{FOLDER}/{conversation_id}.json"
    return Announcement(
        "transcript_archived", conversation_id, "agent_1", f"+{FOLDER}", "1-1", key, key, None, "pending"
    ).to_json()


def test_ingests_package_stages_a_signed_webhook_and_refuses_a_forged_one(invoke, stack):
    answer = invoke("IngestFunction", signed(secret=stack.outputs["WebhookSecret"]))
    forged = invoke("IngestFunction", signed(secret="wsec_another"))

    assert answer["statusCode"] == 200
    (check,) = [json.loads(message["Body"]) for message in stack.take("ArchiveQueueUrl")]
    assert stack.body(check["staged_key"]) == fixture_body("02")
    assert json.loads(answer["body"])["delivery_id"] == check["delivery_id"]
    assert forged["statusCode"] == 401


def test_the_archivers_package_archives_a_call_and_its_audio_and_sets_aside_what_is_neither(invoke, stack):
    checks = [stage(stack, fixture_body(name)) for name in ("02", "08")]

    answer = invoke("ArchiverFunction", sqs_event(*checks, "not json"))

    assert answer == {"batchItemFailures": []}
    assert {f"{FOLDER}/{FULL_ID}.json", f"{FOLDER}/{FULL_ID}.mp3"} <= stack.object_keys()
    assert stack.call(FULL_ID)["audio"] == "archived"
    assert len(stack.reasons("ArchiveDlqUrl")) == 1
    assert {json.loads(each["Body"])["conversation_id"] for each in stack.take("MemoryQueueUrl")} == {FULL_ID}


def test_the_memory_writers_package_remembers_a_call_on_the_hosted_platform(invoke, stack, mem0):
    stack.s3.put_object(
        Bucket=stack.bucket, Key=f"{FOLDER}/conv_told.json", Body=json.dumps(call("conv_told")).encode(),
        Metadata={"external_number": f"+{FOLDER}", "order": "1-1"},
    )  # fmt: skip

    answer = invoke("MemoryWriterFunction", sqs_event(announcement("conv_told")))

    assert answer == {"batchItemFailures": []}
    assert [mem0.adds("conv_told", kind) for kind in ("factual", "semantic")] == [1, 1]
    assert stack.items()["conv_told", "memory#semantic"]["state"] == "done"


def test_the_reconcilers_package_fetches_a_call_that_never_came(invoke, stack, elevenlabs):
    elevenlabs.add(call("conv_missing"))
    stack.take("ArchiveQueueUrl")

    report = invoke("ReconcilerFunction", {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})

    assert report["outcomes"] == {"fetched": 1}
    (check,) = [json.loads(message["Body"]) for message in stack.take("ArchiveQueueUrl")]
    assert check["source"] == "reconciler"
    assert stack.json(check["staged_key"])["data"]["conversation_id"] == "conv_missing"


def test_the_audio_functions_package_fetches_a_recording(invoke, stack, elevenlabs):
    elevenlabs.add(call("conv_silent"), b"ID3 a recording")
    record = {
        "conversation_id": "conv_silent",
        "item": "call",
        "audio": "pending",
        "t_order": "1",
        "agent_id": "agent_1",
    }
    item = {name: {"S": value} for name, value in record.items()}
    stack.dynamodb.put_item(TableName=stack.outputs["ConversationTableName"], Item=item)
    stack.take("ArchiveQueueUrl")

    answer = invoke("AudioFunction", sqs_event(announcement("conv_silent")))

    assert answer == {"batchItemFailures": []}
    (check,) = [json.loads(message["Body"]) for message in stack.take("ArchiveQueueUrl")]
    assert stack.body(check["staged_key"]) == b"ID3 a recording"


def test_ingests_package_holds_our_code_and_powertools_in_less_than_a_megabyte(package):
    built = package("IngestFunction")

    _, zipped = measure(built)

    assert zipped < 1_000_000
    assert {each.name for each in built.iterdir() if each.suffix != ".dist-info"} == {
        "ingest", "shared", "aws_lambda_powertools", "jmespath", "typing_extensions.py",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["IngestFunction", "ArchiverFunction", "MemoryWriterFunction", "ReconcilerFunction"])
def test_no_package_holds_what_lambda_brings_or_nobody_imports(package, name):
    held = {part for file in package(name).rglob("*") for part in file.relative_to(package(name)).parts}

    assert not held & {
        "boto3",
        "botocore",
        "bin",
        "tests",
        "__pycache__",
        "event_handler",
        "RECORD",
        "requirements.txt",
    }
    assert not [part for part in held if part.endswith((".pyi", ".pyc"))]


@pytest.mark.parametrize("name", HANDLERS)
def test_every_function_of_the_template_is_built_from_its_handlers_folder(name):
    folder = HANDLERS[name].split(".")[0]

    plan = make("-n", f"build-{name}", ARTIFACTS_DIR="x")

    assert f"-r {folder}/requirements.txt" in plan


def test_the_sizes_are_printed_for_each_package(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(package_sizes, "BUILT", tmp_path)
    (tmp_path / "OneFunction").mkdir()
    (tmp_path / "OneFunction/handler.py").write_text("#" * 2_000_000)

    assert package_sizes.main() == 0

    _, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["OneFunction", "2.00", "MB", "0.00", "MB"]


def test_without_packages_the_sizes_say_what_makes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(package_sizes, "BUILT", tmp_path / "build")

    assert package_sizes.main() == 1

    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "There are no packages yet. Run make build first.\n")
