"""The whole way: template.yaml on the embedded AWS, its functions under their own roles, webhooks over HTTP."""

import gc
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from memory_writer.oss import open_memory
from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.deployment import deploy, memory_config
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.operations.app import main
from scripts.webhooks import send
from tests.conftest import Stack
from tests.mem0_stand_in import HostedMem0

PATIENCE_SECONDS = 90
Ops = Callable[..., tuple[int, Any]]
# A command leaves its connections to the end of its process, which here is the tests'.
RUNS_COMMANDS = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Pipeline(Stack):
    """A deployed stack, with a consumer of our own on its topic."""

    def __init__(self, emulator: EmbeddedAws, name: str, parameters: dict[str, str]) -> None:
        super().__init__(emulator.client, deploy(emulator, name, parameters))
        self._memory = json.loads(memory_config(emulator.folder / "memory" / name))
        self.outputs["Announcements"] = self._subscribe(f"{name}-announcements")

    def post(self, body: bytes, secret: str | None = None, **options: Any) -> httpx.Response:
        return send(self.outputs["PostCallUrl"], secret or self.outputs["WebhookSecret"], body, **options)

    def depth(self, output: str) -> int:
        """Messages in a queue, waiting or at work."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def settle(self) -> None:
        """Wait until nothing is left to be archived, remembered or indexed."""
        queues = ("ArchiveQueueUrl", "MemoryQueueUrl", "TextQueueUrl")
        wait_until(lambda: all(self.depth(queue) == 0 for queue in queues))

    def memories(self, user_id: str) -> list[dict[str, Any]]:
        with open_memory(self._memory) as store:
            return store.get_all(filters={"user_id": user_id}, top_k=1000, show_expired=True)["results"]

    def _subscribe(self, name: str) -> str:
        topic = self.outputs["CallArchivedTopicArn"]
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        statement = {
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }  # fmt: skip
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        self._client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )
        return url


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for `holds` to hold twice in a row, for a queue's depth is told a moment late; fails after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    in_a_row = 0
    while in_a_row < 2:
        in_a_row = in_a_row + 1 if holds() else 0
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.3)


@pytest.fixture
def ops(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ops:
    """One command on the stack; returns its exit code and what it printed for machines, if anything."""
    (tmp_path / "outputs.json").write_text(json.dumps(pipeline.outputs))
    monkeypatch.setattr("scripts.operations.stack.OUTPUTS", tmp_path / "outputs.json")
    monkeypatch.chdir(tmp_path)

    def run(*words: str, stdin: str = "") -> tuple[int, Any]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        code = main([*words, "--local", "--json"])
        gc.collect()
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return run


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as started:
        yield started


@pytest.fixture(scope="module")
def mem0() -> Iterator[HostedMem0]:
    with HostedMem0(key="m0-test") as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def elevenlabs() -> Iterator[ElevenLabs]:
    with ElevenLabs("xi-test") as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, request: pytest.FixtureRequest) -> Pipeline:
    """A stack of the module's own: two modules on one would find each other's calls."""
    name = Path(request.module.__file__).stem.removeprefix("test_").replace("_", "-")
    return Pipeline(emulator, name, {"BucketName": f"agentic-memory-of-{name}"})
