"""Memory writer: turn an announced call into its memories in Mem0, effectively once.

SQS may deliver a message twice, and Mem0 stores a repeated memory twice. So each memory has a line in a ledger
(`memory_writer.ledger`). A memory that is `done` is never sent again. One that may have been sent is searched for in
Mem0 for an hour before it is sent again. If another worker holds the lease, the record fails, and SQS retries it.

A record that raises is retried, and then moved to the DLQ. A poison message (not an announcement, its object is gone)
goes to the DLQ at once (`shared.batch`).
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from shared.conversation import Conversation
from shared.errors import EventUnknownError, MemoryBackendError, PoisonError
from shared.messages import Announcement
from shared.observability import count, logger, metrics
from shared.settings import at_start, read_settings
from shared.source import read_source

# If a service of AWS does not answer, the attempt fails after 3 x 12 s and pauses, well within the function's 120 s.
_CONFIG = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True)
class Settings:
    """The secret has the hosted platform's key, or the JSON for `mem0.Memory.from_config`."""

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
        """How long sending a memory may take: the answer, 10 s to wait for a rate limit, 5 s to update the ledger."""
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
    """The backend that the stack chose. The deployment package contains only its libraries. Raises PoisonError."""
    if settings().memory_backend == "oss":
        try:
            from memory_writer.oss import OssBackend

            return OssBackend(json.loads(secret))
        except ImportError:
            raise PoisonError(
                "configuration", "The package is not built for oss: run MEMORY_BACKEND=oss make deploy."
            ) from None
        except ValueError:
            raise PoisonError("configuration", "The stack's parameter MemoryConfig is not JSON.") from None
    from memory_writer.platform import PlatformBackend

    return PlatformBackend(settings().mem0_host, secret, settings().answer_seconds)


@dataclass(frozen=True)
class Invocation:
    """The ledger's owner, the clock, and the seconds that are left."""

    owner: str
    clock: Callable[[], datetime]
    seconds_left: Callable[[], float]


def handle_record(record: SQSRecord, invocation: Invocation) -> None:
    announcement = read_announcement(record.body)
    logger.append_keys(conversation_id=announcement.conversation_id)
    source = read_source(announcement, aws().bucket, aws().records)
    if source is None:
        delete_memories(announcement.conversation_id)
        return count("ErasedDropped")
    remember_call(source.announcement, source.conversation, invocation)


def delete_memories(conversation_id: str) -> None:
    """Delete an erased call's memories by the ids in the ledger, and then the ledger's lines.

    Raises MemoryBackendError while Mem0 is still processing a memory: until then nobody can delete it, and only the
    ledger knows it.
    """
    for item, entry in aws().records.ledger(conversation_id).items():
        if ids := find_ids(entry):
            memory_backend().delete(ids)
        if entry.get("state") in ("sent", "done"):
            aws().table.delete_item(Key={"conversation_id": conversation_id, "item": item})


def find_ids(entry: dict[str, Any]) -> list[str]:
    """The ids of a memory that Mem0 accepted, from the ledger or from Mem0's event."""
    ids = list(entry.get("memory_ids", ()))
    if "event_id" not in entry:
        return ids
    try:
        answer = memory_backend().check_event(entry["event_id"])
    except EventUnknownError:
        return ids
    if answer.status == "PENDING":
        raise MemoryBackendError("Mem0 is still processing a memory that must be deleted")
    return ids or answer.memory_ids


def remember_call(announcement: Announcement, conversation: Conversation, invocation: Invocation) -> None:
    """Write the call's memories concurrently, each with its own line in the ledger.

    Both are tried. Then a retryable error is raised first, otherwise the first error.
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
    """Write one memory; returns the metric to count."""
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
