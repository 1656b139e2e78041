"""One schedule from beginning to rest: a story under faults. Then the faults stop, hours pass, and oracles look."""

from functools import partial
from random import Random
from typing import Any

from shared.indexes import INDEXES
from tests.conftest import environment
from tests.faults.simulator.actors import Operators, Sender
from tests.faults.simulator.faults import Faults
from tests.faults.simulator.hosts import ELEVENLABS, MEM0
from tests.faults.simulator.lambdas import CONSTANTS, Lambda
from tests.faults.simulator.story import SECRET, Act, Body, Conversation, make_story
from tests.faults.simulator.world import BEGIN, World

CHAOS = 2 * 3600.0  # seconds with faults
HOUR = 3600.0
ROUNDS = 6  # of an operator who looks at the dead-letter queues
TABLE, BUCKET = "conversations", "archive"
DAYS = 86400


class Simulation:
    """A schedule's stack and actors, which the oracles look at."""

    def __init__(
        self, seed: str, left_out: frozenset[int], spared: frozenset[tuple[str, int]], trace: list[str] | None
    ) -> None:
        self.story = make_story(Random(f"{seed}/story"), BEGIN, CHAOS).without(left_out)
        self.world = World(seed, lambda random: Faults(random, BEGIN, BEGIN + CHAOS, spared), trace)
        self.outputs = self._create()
        self.environment = environment(self.outputs | {"Announcements": ""}) | ENVIRONMENT
        self.environment["ELEVENLABS_SECRET_ARN"] = "elevenlabs" if self.story.has_api_key else ""
        self.functions = Lambda(self.world, self.outputs, self.story.concurrency)
        self.sender = Sender(self.world, self.functions)
        self.operators = Operators(self.world, self.outputs, self.functions, self.environment)
        self.violations: dict[str, str] = {}

    def _create(self) -> dict[str, str]:
        world = self.world
        world.dynamodb.create_table(TABLE, ("conversation_id", "item"), INDEXES)
        queues = {}
        for name in ("Archive", "Memory", "Audio"):
            dead = world.sqs.create_queue(f"{name}Dlq", {"MessageRetentionPeriod": 14 * DAYS})
            redrive = {
                "deadLetterTargetArn": f"arn:aws:sqs:us-east-1:1:{name}Dlq",
                "maxReceiveCount": CONSTANTS[f"{name}MaxReceives"],
            }
            attributes = {
                "VisibilityTimeout": CONSTANTS[f"{name}VisibilitySeconds"], "RedrivePolicy": redrive,
                "MessageRetentionPeriod": (14 if name == "Memory" else 4) * DAYS,
                "DelaySeconds": CONSTANTS["AudioDelaySeconds"] if name == "Audio" else 0,
            }  # fmt: skip
            queues |= {f"{name}DlqUrl": dead, f"{name}QueueUrl": world.sqs.create_queue(f"{name}Queue", attributes)}
        self.announcements = world.sqs.create_queue("Announcements", {"MessageRetentionPeriod": 14 * DAYS})
        world.sns.subscribe(
            "calls", queues["MemoryQueueUrl"], {"event": ["transcript_archived"]}, queues["MemoryDlqUrl"]
        )
        if self.story.has_api_key:
            pending = {"event": ["transcript_archived"], "audio": ["pending"]}
            world.sns.subscribe("calls", queues["AudioQueueUrl"], pending, queues["AudioDlqUrl"])
        world.sns.subscribe("calls", self.announcements, None, None)
        for name, value in SECRETS.items():
            world.secrets.create(name, value)
        return queues | OUTPUTS

    # The course of a schedule

    def run(self) -> None:
        with self.world.entered():
            self.functions.start(self.environment)
            for call in self.story.conversations:
                self.world.scheduler.at(call.began + call.seconds, partial(self._end_call, call))
            for part in (*self.story.bodies, *self.story.acts):
                self._plan(part)
            self._every_hour(BEGIN + self.world.random.uniform(0, HOUR))
            self.world.scheduler.run(BEGIN + CHAOS)
            self._come_to_rest()

    def _end_call(self, call: Conversation) -> None:
        """ElevenLabs' API has the call from now on, as its newest version says."""
        self.world.note("elevenlabs", f"the call {call.id} is over")
        self.world.elevenlabs.conversations[call.id] = call.data(max(call.versions))
        if call.audio:
            self.world.elevenlabs.audio[call.id] = call.audio

    def _plan(self, part: Body | Act) -> None:
        if isinstance(part, Act):
            self.world.scheduler.at(part.at, partial(self.operators.act, part))
        else:
            ends = {call.id: call.began + call.seconds for call in self.story.conversations}
            self.world.scheduler.at(ends.get(part.conversation_id, BEGIN) + part.delay, partial(self.sender.send, part))

    def _every_hour(self, first: float) -> None:
        self.world.scheduler.at(first, self._reconcile)

    def _reconcile(self) -> None:
        self.functions.reconcile()
        self._every_hour(self.world.scheduler.now + HOUR)

    def _come_to_rest(self) -> None:
        """Hours pass; an operator does what the runbook says, until nothing is left to do."""
        self.world.note("the faults", "stop")
        now = BEGIN + CHAOS
        for number in range(ROUNDS):
            now += 2 * HOUR if number == 0 else 1.5 * HOUR
            self.world.scheduler.run(now)
            if number and self._is_at_rest():
                return
            self.operators.finish_erasures()
            if self.letters():
                self.operators.redrive()

    def letters(self) -> list[dict[str, Any]]:
        """Messages in dead-letter queues that are no poison."""
        return [
            message
            for name in ("Archive", "Memory", "Audio")
            for message in self.world.sqs.messages(self.outputs[f"{name}DlqUrl"])
            if not is_poison(message)
        ]

    def _is_at_rest(self) -> bool:
        queues = [self.world.sqs.messages(self.outputs[f"{name}QueueUrl"]) for name in ("Archive", "Memory", "Audio")]
        return not any(queues) and not self.letters() and not self.operators.begun - self.operators.erased.keys()


def is_poison(message: dict[str, Any]) -> bool:
    attributes = message.get("MessageAttributes", {})
    return "error" in attributes and attributes["step"]["StringValue"] not in ("mem0", "configuration")


OUTPUTS = {
    "BucketName": BUCKET, "ConversationTableName": TABLE, "CallArchivedTopicArn": "calls",
    "WebhookSecretArn": "webhook", "ErasureSecretArn": "erasure", "MemorySecretArn": "mem0",
    "MemoryBackend": "platform", "Mem0Host": MEM0, "KeepAudio": "true",
} | {
    name: str(CONSTANTS[name])
    for name in ("MemoryUnknownSeconds", "ArchiveTimeoutSeconds", "MemoryTimeoutSeconds", "TextTimeoutSeconds")
}  # fmt: skip
SECRETS = {"webhook": SECRET, "erasure": "key-of-tombstones", "mem0": "m0-test", "elevenlabs": "xi-test"}
ENVIRONMENT = {
    "MEMORY_BACKEND": "platform", "MEMORY_SECRET_ARN": "mem0", "MEM0_HOST": MEM0, "MEMORY_INFERENCE": "true",
    "ELEVENLABS_HOST": ELEVENLABS, "ALLOWED_SOURCES": "203.0.113.7",
}  # fmt: skip
