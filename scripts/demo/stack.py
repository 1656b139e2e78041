"""The deployed stack as the demo uses it: posts to it, waits for it, and looks at all that it holds."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from memory_writer.oss import open_memory
from scripts.demo.calls import SampleCall
from scripts.demo.scenes import Answer, Found, Kept, Question, Webhook
from scripts.embedded.aws import EmbeddedAws, EmbeddedAwsError
from scripts.embedded.deployment import memory_config
from scripts.webhooks import send
from shared.bucket import content
from shared.texts import PREFIX

DRAIN_SECONDS = 120.0  # some ten times what it takes
QUEUES = ("ArchiveQueue", "AudioQueue", "MemoryQueue", "TextQueue", "ArchiveDlq", "AudioDlq", "MemoryDlq", "TextDlq")
FLOW = ("ArchiveQueue", "AudioQueue", "ArchiveQueue", "MemoryQueue", "TextQueue")  # what is fetched is archived too
COUNTS = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
MOST_MEMORIES = 1000


class UnfinishedError(EmbeddedAwsError):
    """Messages were still under way when the time was up; the text says where."""


class Stack:
    """The stack of that name, by its outputs."""

    def __init__(self, aws: EmbeddedAws, name: str, outputs: Mapping[str, str]) -> None:
        self._aws, self._outputs = aws, outputs
        self._memory_config = json.loads(memory_config(aws.folder / "memory" / name))

    def post(self, webhooks: Iterable[Webhook]) -> list[Answer]:
        return [self._post(webhook) for webhook in webhooks]

    def _post(self, webhook: Webhook) -> Answer:
        secret = "not-the-secret" if webhook.forged else self._outputs["WebhookSecret"]
        response = send(self._outputs["PostCallUrl"], secret, webhook.body)
        try:
            content = response.json()
        except ValueError:
            content = {"not JSON": response.text[:80]}
        return Answer(webhook, response.status_code, content)

    def reconcile(self) -> dict[str, Any]:
        """Run the hourly pass now; returns what it says that it found and did."""
        function = self._outputs["ReconcilerFunctionName"]
        answer = self._aws.client("lambda").invoke(FunctionName=function)
        return dict(json.loads(answer["Payload"].read()))

    def drain(self, say: Callable[[str], None]) -> None:
        """Wait until no message is waiting or in flight. Raises UnfinishedError after DRAIN_SECONDS.

        Asked in the order of the flow, so that no message slips from a queue not yet asked into one already empty.
        """
        deadline = time.monotonic() + DRAIN_SECONDS
        while under_way := {name: count for name in FLOW if (count := self._messages(name))}:
            self._aws.ensure_alive()
            told = ", ".join(f"{count} in {name}" for name, count in under_way.items())
            if time.monotonic() > deadline:
                raise UnfinishedError(f"After {DRAIN_SECONDS:.0f} s there were still messages under way: {told}.")
            say(told)
            time.sleep(0.2)

    def look(self, calls: Sequence[SampleCall]) -> Kept:
        """All that the stack holds now."""
        finals, versions, staged = self._objects()
        messages = {name: self._messages(name) for name in QUEUES}
        with open_memory(self._memory_config) as memory:
            memories = {
                call.user_id: len(memory.get_all(filters={"user_id": call.user_id}, top_k=MOST_MEMORIES)["results"])
                for call in calls
            }
        return Kept(finals, versions, staged, self._records(), messages, memories)

    def ask(self, questions: Iterable[Question]) -> list[Found]:
        """The best answer that Mem0 has to each question, if it has one."""
        with open_memory(self._memory_config) as memory:
            answers = [
                (question, memory.search(question.text, filters={"user_id": question.user_id}, top_k=1, threshold=0.0))
                for question in questions
            ]
        hits = [(question, (answer["results"] or [{"memory": "", "score": 0.0}])[0]) for question, answer in answers]
        return [Found(question, hit["memory"], hit["score"]) for question, hit in hits]

    def _messages(self, queue: str) -> int:
        url = self._outputs[f"{queue}Url"]
        answer = self._aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=COUNTS)
        return sum(int(count) for count in answer["Attributes"].values())

    def _objects(self) -> tuple[dict[str, bytes], dict[str, list[str]], dict[str, bool]]:
        s3, bucket = self._aws.client("s3"), {"Bucket": self._outputs["BucketName"]}
        versions: dict[str, list[str]] = defaultdict(list)
        for version in s3.list_object_versions(**bucket).get("Versions", []):
            if not version["Key"].startswith(PREFIX):  # rows for searches, whose files are made and merged at any time
                versions[version["Key"]].append(version["VersionId"])
        staged = {
            key: {"Key": "archived", "Value": "true"} in s3.get_object_tagging(**bucket, Key=key)["TagSet"]
            for key in versions
            if key.startswith("staging/")
        }
        finals = {key: ids for key, ids in versions.items() if key not in staged}
        return {key: content(s3.get_object(**bucket, Key=key)) for key in finals}, finals, staged

    def _records(self) -> dict[tuple[str, str], dict[str, Any]]:
        items = self._aws.client("dynamodb").scan(TableName=self._outputs["ConversationTableName"])["Items"]
        read: Any = TypeDeserializer()
        plain = [{name: read.deserialize(value) for name, value in item.items()} for item in items]
        return {(item["conversation_id"], item["item"]): item for item in plain if item["conversation_id"][0] != "#"}
