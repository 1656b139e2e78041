"""The signing secret is rotated with the tool alone, while webhooks keep coming."""

import json
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.pipeline.conftest import RUNS_COMMANDS, Ops, Pipeline, wait_until
from tests.processes import LONGEST

PARAMETERS = {"BucketName": "agentic-memory-rotation", "SecretCacheSeconds": "2", "SecretOverlapSeconds": "600"}
NEW = "wsec_new_0123456789abcdef"
MOST = 200  # webhooks
pytestmark = RUNS_COMMANDS


@pytest.fixture
def pipeline(emulator: EmbeddedAws) -> Pipeline:
    return Pipeline(emulator, "rotation", PARAMETERS)


@pytest.fixture
def rotate(ops: Ops) -> Ops:
    """One step of the rotation."""
    return lambda *words, key="": ops("rotate-secret", *words, stdin=key)


class Sender:
    """ElevenLabs: a few webhooks in a second, signed with the key that it has at the time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.key, self.answers = pipeline.outputs["WebhookSecret"], list[tuple[str, int]]()
        self._pipeline, self._stopped = pipeline, Event()

    def post(self, key: str) -> int:
        body = json.dumps({"type": "voice_removed", "data": {"number": len(self.answers)}}).encode()
        return self._pipeline.post(body, key).status_code

    def run(self) -> None:
        while not self._stopped.wait(0.2) and len(self.answers) < MOST:
            key = self.key
            self.answers.append((key, self.post(key)))

    def sent(self, key: str) -> int:
        return sum(each == key for each, _ in self.answers)

    def stop(self) -> None:
        self._stopped.set()


@pytest.fixture
def sender(pipeline: Pipeline) -> Iterator[Sender]:
    started = Sender(pipeline)
    thread = Thread(target=started.run, daemon=True)
    thread.start()
    yield started
    started.stop()
    thread.join(LONGEST)


def test_no_webhook_is_refused_while_the_secret_is_rotated(pipeline, rotate, sender):
    old = sender.key
    wait_until(lambda: sender.sent(old) > 0)

    code, said = rotate("--yes", key=NEW)
    sender.key = NEW  # as it said

    assert (code, said["next"].startswith("Switch ElevenLabs to it now")) == (0, True)
    assert [sender.post(old) for _ in range(3)] == [200] * 3  # calls that ended before
    wait_until(lambda: sender.sent(NEW) > 3)
    code, found = rotate("--status")
    assert (code, found["signed_with_previous_in_the_last_hour"] >= 3, found["signed_with_current"] > 0) == (
        1,
        True,
        True,
    )
    assert rotate("--finish", "--yes")[0] == 2  # the old key was used a moment ago
    assert sender.post(old) == 200

    code, found = rotate("--finish", "--yes", "--force")

    assert (code, found["previous_accepted_until"]) == (0, None)
    assert (sender.post(old), sender.post(NEW)) == (401, 200)
    sender.stop()
    assert {status for _, status in sender.answers} == {200}
