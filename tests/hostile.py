"""Bodies of 6 MB that try to cost more than they weigh, and what they do cost. Run as a program it prints that.

Each function runs in a process of its own, against the embedded AWS, as the template sets it up.
"""

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.deployment import ROOT, deploy
from scripts.webhooks import send
from tests.archiver.conftest import stage
from tests.conftest import Stack, sqs_event
from tests.mem0_stand_in import HostedMem0
from tests.processes import LONGEST

SIZE = 6_000_000  # bytes: what Lambda takes in a request
MOST_MB = 256  # that a function may need for any body
HANDLERS = {"ArchiverFunction": "archiver.handler", "MemoryWriterFunction": "memory_writer.handler"}
WHO = b'"metadata":{"phone_call":{"external_number":"+12025550123"}}'


def array(element: bytes, size: int = SIZE - 500) -> bytes:
    return b"[%s]" % b",".join([element] * (size // (len(element) + 1)))


def transcript(conversation_id: str, *members: bytes) -> bytes:
    named = b'"conversation_id":"%s"' % conversation_id.encode()
    return b'{"type":"post_call_transcription","data":{%s}}' % b",".join([named, WHO, *members])


def sound(conversation_id: str) -> bytes:
    full_audio = b64encode(bytes(SIZE * 3 // 4 - 500)).decode()
    data = {"conversation_id": conversation_id, "full_audio": full_audio}
    return json.dumps({"type": "post_call_audio", "data": data}).encode()


def names(count: int = 500_000) -> bytes:
    return b",".join(b'"%06d":0' % number for number in range(count))


USUAL = "a usual call"
BODIES: dict[str, Callable[[str], bytes]] = {
    USUAL: lambda call: transcript(call, b'"transcript":%s' % array(b'{"role":"user","message":"Hello"}', 5000)),
    "[{},{},…": lambda _: array(b"{}"),
    "[0,0,…": lambda _: array(b"0"),
    "[[[[…": lambda call: transcript(call, b'"x":%s' % (b"[" * SIZE)),
    "transcript: [{},{},…": lambda call: transcript(call, b'"transcript":%s' % array(b"{}")),
    "transcript: [0,0,…": lambda call: transcript(call, b'"transcript":%s' % array(b"0")),
    "transcript: 170,000 turns": lambda call: transcript(
        call, b'"transcript":%s' % array(b'{"role":"user","message":"Hello"}')
    ),
    "500,000 names, with audio": lambda call: transcript(call, names(), b'"full_audio":"SUQz"'),
    "halves of emojis, [{},{},…": lambda call: transcript(
        call, b'"x":"%s"' % (b"\\ud83d" * (SIZE // 12)), b'"transcript":%s' % array(b"{}", SIZE // 2 - 500)
    ),
    "half an emoji, \\n\\n\\n…": lambda call: transcript(call, b'"x":"\\ud83d%s"' % (b"\\n" * (SIZE // 2 - 100))),
    "traces: [{},{},…": lambda call: transcript(call, b'"otlp_traces":{"resourceSpans":%s}' % array(b"{}")),
    "audio": sound,
    "audio in a transcript": lambda call: sound(call).replace(b"audio", b"transcription", 1),
}


class Bench:
    """A stack whose functions take nothing from the queues, so that they are run here, one message at a time."""

    def __init__(self, emulator: EmbeddedAws, mem0: HostedMem0) -> None:
        outputs = deploy(
            emulator, "bench", {"Mem0ApiKey": "m0-test", "Mem0Host": mem0.url, "BucketName": "bench-calls"}
        )
        self.stack, self._emulator = Stack(emulator.client, outputs), emulator
        functions = emulator.client("lambda")
        for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
            if "function:bench-" in mapping["FunctionArn"]:
                functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)

    def archive(self, name: str, conversation_id: str) -> dict[str, Any]:
        """Have the body archived; with the archiver's cost, and the reason if it was set aside."""
        self.stack.take("MemoryQueueUrl")
        cost = self.run("ArchiverFunction", stage(self.stack, BODIES[name](conversation_id)))
        return cost | {"reasons": [error for _, error in self.stack.reasons("ArchiveDlqUrl")]}

    def remember(self) -> dict[str, Any] | None:
        """Have the call that was archived last remembered; None if none was announced."""
        announced = [each["Body"] for each in self.stack.take("MemoryQueueUrl")]
        return self.run("MemoryWriterFunction", announced[0]) if announced else None

    def run(self, function: str, message: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.invocation", HANDLERS[function]], cwd=ROOT, check=True,
            env=self._environment(function), input=json.dumps(sqs_event(message)).encode(), stdout=subprocess.PIPE,
            timeout=LONGEST,
        )  # fmt: skip
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _environment(self, function: str) -> dict[str, str]:
        client = self._emulator.client
        found = client("cloudformation").describe_stack_resource(StackName="bench", LogicalResourceId=function)
        physical = found["StackResourceDetail"]["PhysicalResourceId"]
        configured = client("lambda").get_function_configuration(FunctionName=physical)["Environment"]["Variables"]
        return configured | {
            "AWS_ENDPOINT_URL": self._emulator.endpoint_url, "AWS_DEFAULT_REGION": REGION, "NO_PROXY": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": ROOT_KEY, "AWS_SECRET_ACCESS_KEY": ROOT_KEY, "PATH": os.environ["PATH"],
        }  # fmt: skip


def split_seconds(emulator: EmbeddedAws) -> float:
    """How long it takes from the answer to an array of 1,000 calls until the last is archived, by four archivers."""
    outputs = deploy(emulator, "array", {"BucketName": "array-calls"})
    stack = Stack(emulator.client, outputs)
    calls = [transcript(f"conv_{number}") for number in range(1000)]
    send(outputs["PostCallUrl"], outputs["WebhookSecret"], b"[%s]" % b",".join(calls)).raise_for_status()
    begun = time.monotonic()
    while len(stack.object_keys("12025550123/")) < len(calls):
        if time.monotonic() - begun > 600:
            raise TimeoutError("an array of 1,000 calls was not archived in ten minutes")
        time.sleep(1)
    return time.monotonic() - begun


def main() -> None:
    print(f"{'Body of 6 MB':30}{'archiver':>12}{'memory writer':>26}")
    with EmbeddedAws() as emulator, HostedMem0(key="m0-test") as mem0:
        bench = Bench(emulator, mem0)
        for number, name in enumerate(BODIES):
            archived, remembered = bench.archive(name, f"conv_{number}"), bench.remember()
            print(f"{name:30}{said(archived)}{said(remembered)}  {' '.join(archived['reasons'])}", flush=True)
        print(f"\nAn array of 1,000 calls is archived by four archivers in {split_seconds(emulator):.0f} s")


def said(cost: dict[str, Any] | None) -> str:
    return f"{cost['seconds']:9.2f} s{cost['peak_mb']:6} MB" if cost else " " * 20


if __name__ == "__main__":
    main()
