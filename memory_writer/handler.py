"""Memory writer: turn an announced call into its memories in Mem0, effectively once.

SQS delivers twice and Mem0 adds again whatever it is sent again, so each memory has a line in a ledger
(`memory_writer.ledger`): what is `done` is never sent again, and what may have been sent is looked for in Mem0 for an
hour before it is sent again. A memory that another worker has on lease fails the record, for SQS to bring back.

What raises is retried, and ends in the DLQ. What no retry can heal (a PoisonError: no announcement, its object gone) is
set aside there at once (`shared.batch`).
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from typing import Any

from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from memory_writer.ledger import Line
from memory_writer.memories import build_memories, find_user
from memory_writer.memory import Memory, MemoryBackend
from memory_writer.remember import Writer
from shared.announcements import read_announcement
from shared.aws import Aws
from shared.batch import process_batch
from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError
from shared.messages import Announcement
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings
from shared.webhooks import TRANSCRIPTION, read_archived, read_event

# A silent service of AWS fails the attempt after 3 x 12 s and the pauses, well within the function's 120 s.
_CONFIG = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class Settings:
    """`memory_secret_arn` holds the key of the platform, or the JSON that `mem0.Memory.from_config` takes."""

    bucket_name: str
    conversation_table_name: str
    dlq_url: str
    memory_backend: str
    memory_secret_arn: str
    mem0_host: str
    memory_timeout_seconds: int
    memory_inference: bool
    memory_lease_seconds: int
    memory_unknown_seconds: int

    @property
    def answer_seconds(self) -> float:
        """How long Mem0 may take to answer: 30 s of the function's 120."""
        return min(30, self.memory_timeout_seconds / 4)

    @property
    def post_seconds(self) -> float:
        """How long sending a memory may take: the answer, 10 s for a rate limit to pass, 5 s to write it down."""
        return self.answer_seconds * 1.5


@at_start
def settings() -> Settings:
    return read_settings(Settings)


@at_start
def aws() -> Aws:
    return Aws(_CONFIG, settings().bucket_name, settings().conversation_table_name)


def memory_backend() -> MemoryBackend:
    """The backend with the secret as it is now: a corrected key takes effect without a restart."""
    return make_backend(aws().read_secret(settings().memory_secret_arn))


@cache
def make_backend(secret: str) -> MemoryBackend:
    """The backend that the stack chose. Only its own packages are there to be imported. Raises PoisonError."""
    if settings().memory_backend == "oss":
        try:
            from memory_writer.oss import OssBackend

            return OssBackend(json.loads(secret))
        except ImportError:
            raise PoisonError("configuration", "The package is not for oss: MEMORY_BACKEND=oss make deploy.") from None
        except ValueError:
            raise PoisonError("configuration", "The stack's parameter MemoryConfig is not JSON.") from None
    from memory_writer.platform import PlatformBackend

    return PlatformBackend(settings().mem0_host, secret, settings().answer_seconds)


@dataclass(frozen=True)
class Invocation:
    """Who writes, what time it is, and how many seconds are left."""

    owner: str
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]


def handle_record(record: SQSRecord, invocation: Invocation) -> None:
    announcement = read_announcement(record.body)
    logger.append_keys(conversation_id=announcement.conversation_id)
    source = aws().bucket.read(announcement.source_key)
    call = aws().records.get(announcement.conversation_id)  # after the source, which an erasure deletes
    if call and call.erased_at:
        forget(announcement.conversation_id)
        return count("ErasedDropped")
    if source is None and call and call.json_key:  # a staged body does not stay: here is what became of it
        announcement = replace(announcement, source_key=call.json_key, json_key=call.json_key)
        source = aws().bucket.read(call.json_key)
    if source is None:
        raise PoisonError("source", "The object under the announcement's source_key is gone.")
    remember_call(*read_source(announcement, *source), invocation)


def forget(conversation_id: str) -> None:
    """Take back what was remembered of an erased call, by its receipts, and then the receipts."""
    for item, entry in aws().records.ledger(conversation_id).items():
        if entry.get("memory_ids"):
            memory_backend().delete(entry["memory_ids"])
        if entry.get("state") == "done":
            aws().table.delete_item(Key={"conversation_id": conversation_id, "item": item})


def read_source(announcement: Announcement, body: bytes, metadata: dict[str, str]) -> tuple[Announcement, Conversation]:
    """The announced call, with the caller and agent of the object that holds its words. Raises PoisonError.

    A final JSON may be of a later version than the announcement, with another caller; a staged body never changes.
    """
    if announcement.json_key:
        number, agent_id = metadata.get("external_number"), metadata.get("agent_id")
        return replace(announcement, external_number=number, agent_id=agent_id), read_archived(body)
    event = read_event(body)
    if (event.type, event.conversation_id) != (TRANSCRIPTION, announcement.conversation_id):
        raise PoisonError("source", "The staged body under the announcement's source_key does not hold the call.")
    return announcement, read_conversation(event.data)


def remember_call(announcement: Announcement, conversation: Conversation, invocation: Invocation) -> None:
    """Write the call's memories side by side, each under a line of its own in the ledger.

    Both are tried; then the first error that may heal is raised, else the first.
    """
    user_id = find_user(announcement, conversation)
    if user_id is None:
        logger.info("No user id: skipping memory")
        return count("MemorySkipped", reason="no_user")
    memories = build_memories(announcement, conversation, user_id, settings().memory_inference)
    backend = memory_backend()
    with ThreadPoolExecutor(len(memories)) as pool:
        futures = [pool.submit(write, memory, backend, invocation) for memory in memories]
    errors = [future.exception() for future in futures]
    for memory, future, error in zip(memories, futures, errors, strict=True):
        if error is None:
            count(future.result(), reason=memory.type)
            logger.info("Memory done", memory_type=memory.type)
    failed = [error for error in errors if error]
    if failed:
        raise next((error for error in failed if not isinstance(error, PoisonError)), failed[0])


def write(memory: Memory, backend: MemoryBackend, invocation: Invocation) -> str:
    """Write one memory; returns the metric of what became of it."""
    unknown = timedelta(seconds=settings().memory_unknown_seconds)
    writer = Writer(backend, invocation.clock, invocation.seconds_left, unknown, settings().post_seconds)
    key = str(memory.metadata["conversation_id"]), memory.type
    lease = timedelta(seconds=settings().memory_lease_seconds)
    line = Line(aws().table.meta.client, settings().conversation_table_name, key, invocation.owner, lease)
    return writer.remember(memory, line)


@metrics.log_metrics
@logger.inject_lambda_context(clear_state=True)
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    invocation = Invocation(
        context.aws_request_id,
        clock=lambda: datetime.now(timezone.utc),
        seconds_left=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    handle = partial(handle_record, invocation=invocation)
    return process_batch(event, context, handle, aws().sqs, settings().dlq_url)
