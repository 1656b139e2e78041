"""What an erasure does not delete, or cannot delete yet: why, and until when it remains."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from botocore.exceptions import ClientError

from scripts.operations.erasure.protocol import Erasure
from scripts.operations.logs import FUNCTIONS, log_group
from scripts.operations.stack import Stack
from scripts.operations.view import View
from shared.bucket import Version
from shared.observability import mask_key
from shared.record import DISCARDED_FOR
from shared.times import utc
from shared.tombstones import KEPT

BACKUP_DAYS = 35  # of the table's point-in-time recovery, if AWS does not tell
Remains = Iterator[dict[str, str]]


def remains(view: View, erasure: Erasure) -> Remains:
    stack = view.stack
    yield from undeleted(stack, erasure)
    yield from in_stack(stack, erasure.finished_at)
    yield from at_elevenlabs(view, erasure)
    yield from outside_the_stack(stack, erasure)


def undeleted(stack: Stack, erasure: Erasure) -> Remains:
    """What a second run of the erasure deletes."""
    for version in erasure.locked:
        until = retained_until(stack, version)
        why = (
            "Object Lock"
            if until
            else "AWS refuses to delete it: check the policy of the bucket, and your own permissions"
        )
        yield remaining(masked(version), why, until or "it can be deleted. Then run the same command again")
    for conversation_id, at in erasure.unsettled.items():
        why = "Mem0 may show a memory later, because its answer was lost"
        yield remaining(conversation_id, why, f"{utc(at)}. Then run the same command again")
    for conversation_id in sorted(erasure.transcribing):
        why = "Amazon Transcribe is working on the recording, and cannot be stopped. The stack deletes the result"
        yield remaining(conversation_id, why, "the job has ended, mostly in minutes. Then run the same command again")
    for key, why in erasure.to_review.items():
        yield remaining(mask_key(key), why, "a person has looked at it. Then run the same command again")


def in_stack(stack: Stack, now: datetime) -> Remains:
    yield remaining(
        "backups of the table (point-in-time recovery)", "AWS deletes them when they are old enough",
        utc(now + timedelta(days=backup_days(stack))),
    )  # fmt: skip
    yield remaining(
        "logs: ids of conversations, masked numbers", "they contain no number and no words", log_end(stack, now)
    )
    yield remaining(
        "tombstones of calls: ids of conversations", "if the calls arrive again, they are dropped", "for ever"
    )
    yield remaining(
        "marks: ids of deliveries, and for a caller a keyed hash of the number", "what is delivered late is dropped",
        f"{DISCARDED_FOR.days} days, and {KEPT.days} for a caller",
    )  # fmt: skip
    yield remaining(
        "messages that are delayed or being processed", "the functions drop them when they arrive",
        "their queue's visibility timeout",
    )  # fmt: skip


def at_elevenlabs(view: View, erasure: Erasure) -> Remains:
    answers = erasure.at_elevenlabs
    if answers is None:
        until = "the end of the agent's retention there"
        yield remaining("ElevenLabs' own copy of the calls", "--elevenlabs was not given", until)
        return
    for conversation_id, fault in answers.items():
        if fault:
            command = view.command(f"erase --conversation {conversation_id} --elevenlabs --yes")
            yield remaining(f"ElevenLabs' own copy of {conversation_id}", fault, f"you run {command}")
    if unknown := [each for each, fault in answers.items() if fault is None]:
        why = "ElevenLabs has no such calls. They are deleted there, or the API key is of another workspace"
        yield remaining(", ".join(unknown), why, "-")


def outside_the_stack(stack: Stack, erasure: Erasure) -> Remains:
    if not erasure.has_mem0:
        yield remaining("memories in a Mem0 that the stack used before", "the stack has no key for it", "-")
    if logs := stack.outputs.get("AccessLogBucketName"):
        why = "they contain keys, and keys contain the number. They also log the deletions of this run"
        yield remaining(f"S3's access logs in {logs}", why, log_end(stack, erasure.finished_at))
    if replica := stack.outputs.get("ReplicationBucketArn"):
        yield remaining(
            f"copies in {replica}", "S3 does not replicate the deletion of versions. Delete them there too", "-"
        )
    yield remaining(
        "files on operators' machines: exports, dropped messages, and other copies",
        "`ops export` and `ops dlq drop` write them where they run. An erasure cannot delete them",
        "somebody deletes them by hand",
    )
    yield remaining("copies of other subscribers of CallArchivedTopic", "they do not belong to the stack", "-")


def remaining(what: str, why: str, until: str) -> dict[str, str]:
    return {"what": what, "why": why, "until": until}


def masked(version: Version) -> str:
    return f"{mask_key(version.key)} {version.version_id}"


def retained_until(stack: Stack, version: Version) -> str | None:
    """When Object Lock lets a version be deleted; None if it is not locked."""
    names = {"Bucket": stack.bucket.name, "Key": version.key, "VersionId": version.version_id}
    try:
        head = stack.client("s3").head_object(**names)
    except ClientError:
        return None
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        return "its legal hold is removed"
    return utc(head["ObjectLockRetainUntilDate"]) if "ObjectLockRetainUntilDate" in head else None


def backup_days(stack: Stack) -> int:
    try:
        answer = stack.table.meta.client.describe_continuous_backups(TableName=stack.table.name)
        recovery = answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        return int(recovery.get("RecoveryPeriodInDays", BACKUP_DAYS))
    except ClientError:
        return BACKUP_DAYS


def log_end(stack: Stack, now: datetime) -> str:
    days = [retention for logical_id in FUNCTIONS.values() if (retention := retention_days(stack, logical_id))]
    return utc(now + timedelta(days=max(days))) if days else "the log groups' retention"


def retention_days(stack: Stack, logical_id: str) -> int | None:
    try:
        name = log_group(stack, logical_id)
        groups = stack.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    except ClientError:  # a stack without a key of ElevenLabs has no log of the audio function
        return None
    return next((each.get("retentionInDays") for each in groups), None)
