"""`ops erase`: a privacy request, carried out and certified."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError

from reconciler.elevenlabs import ElevenLabs
from scripts.aws_session import OpsError
from scripts.operations.erasure.eraser import Eraser
from scripts.operations.erasure.reading import Subject
from scripts.operations.erasure.search import Found
from scripts.operations.logs import FUNCTIONS, log_group
from scripts.operations.selection import CallId
from scripts.operations.stack import Stack
from scripts.operations.view import View, undisturbed
from scripts.private_files import open_private
from scripts.terminal import Terminal
from shared.bucket import Version
from shared.caller import found_by, normalise
from shared.errors import ElevenLabsError
from shared.keys import is_id
from shared.observability import mask, mask_key
from shared.record import DISCARDED_FOR
from shared.times import utc
from shared.tombstones import KEPT

Asked = dict[str, str | None]  # calls, and why ElevenLabs has not deleted them; empty if it has
BACKUP_DAYS = 35  # of the table's point-in-time recovery, where AWS does not say
MOST_WAITS = 2  # after the first, no function is at work that had read before there was a tombstone
NOTHING_OF_CALL = "nothing is kept of this call; with --yes a tombstone keeps it from coming (back)"
NOTHING_OF_CALLER = (
    "nothing is kept of this caller: is the number as the calls had it, with its country's code? With --yes a "
    "tombstone keeps out what comes late of calls until now"
)


def erase(
    context: typer.Context,
    caller: Annotated[str, typer.Argument(help="The caller's phone number: all that is kept of this person.")] = "",
    conversation: CallId = "",
    elevenlabs: Annotated[
        bool, typer.Option("--elevenlabs", help="Delete ElevenLabs' own copy too; its key must be allowed to.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; erasure-TIME.json if not given.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be erased.")] = False,
) -> int:
    """Erase a caller, or one call, as a privacy law (GDPR, CCPA) gives people a right to.

    All versions of objects, staged bodies, records, memories and messages are deleted for good, and tombstones keep
    them from coming back, however late. Functions that began before are waited out, two minutes by default. Then it
    looks again, and writes a certificate: as JSON, and beside it as text. Calls that begin after this command are kept.
    Interrupted, run the same command again. Exit code 1 if something is left, or a person must look at something.

    Example: ops erase +12025550123 --elevenlabs --yes
    """
    view: View = context.obj
    subject = read_subject(caller, conversation)
    stack = view.stack
    client = elevenlabs_of(stack) if elevenlabs else None
    eraser = Eraser(stack, subject)
    with view.progress.status("Looking for all that is kept ..."):
        found = eraser.find()
    if not yes:
        advice = "the same command with --yes deletes it for good; ops export keeps a copy"
        if not (found.known or found.shared or found.versions or found.memories):
            advice = NOTHING_OF_CALLER if subject.caller else NOTHING_OF_CALL
        shown = preview(found, subject, elevenlabs=elevenlabs, has_mem0=eraser.memories.has_mem0)
        view.show(shown | {"takes": f"{eraser.patience} s at least"}, "To be erased", advice)
        return 0
    file = certificate or Path(f"erasure-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json")
    with reserved(file):
        written = {"certificate": "erasure", "version": 1, "stack": stack.name, **named(subject)}
        written |= carry_out(view, eraser, found, client)
        text = readable(written)
        print(json.dumps(written, indent=2) if view.as_json else text)
        write(file, json.dumps(written, indent=2) + "\n", text)
    view.progress.print(f"The certificate is in {file} and {file.with_suffix('.txt')}.")
    return 0 if written["complete"] else 1


def read_subject(caller: str, conversation: str) -> Subject:
    """Raises OpsError."""
    if bool(caller) == bool(conversation):
        raise OpsError("Whom? Give a caller's number, or one call with --conversation.")
    if conversation and not is_id(conversation):
        raise OpsError(f"{conversation!r} is no conversation id: letters, digits, _ and - only.")
    number = normalise(caller) if caller else ""
    if number is None:
        raise OpsError(f"{caller!r} is no phone number: write it as +12025550123.")
    return Subject(found_by(number) if number else "", conversation)


def elevenlabs_of(stack: Stack) -> ElevenLabs:
    without = "The stack has no key of ElevenLabs' API: give it ElevenLabsApiKey, or delete their copy there by hand."
    key = stack.secret("ElevenLabsSecretArn", without)
    return ElevenLabs(stack.output("ElevenLabsApiHost"), key)


def preview(found: Found, subject: Subject, *, elevenlabs: bool, has_mem0: bool) -> dict[str, Any]:
    memories = "all of the user's memories, whoever wrote them" if subject.caller else "the memories of this call"
    return found.numbers() | {
        "conversations": sorted(found.calls),
        "shared_calls": len(found.shared),
        "in_mem0": memories if has_mem0 else "the stack has no Mem0",
        "at_elevenlabs": "their copy too" if elevenlabs else "stays, without --elevenlabs",
    }


@contextmanager
def reserved(file: Path) -> Iterator[None]:
    """Make sure of the certificate's place before anything is deleted. Raises OpsError."""
    if file.suffix != ".json":
        raise OpsError(f"{file} is no name for the certificate: it must end in .json, for beside it comes one in .txt.")
    text = file.with_suffix(".txt")
    if any(each.exists() and each.stat().st_size for each in (file, text)):  # an empty one is of a run that was killed
        raise OpsError(f"{file} or {text} is there already: a certificate is never overwritten.")
    try:
        write(file, "", "")
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        text.unlink(missing_ok=True)
        raise


def write(file: Path, certificate: str, text: str) -> None:
    """Raises OpsError."""
    try:
        for path, content in ((file, certificate), (file.with_suffix(".txt"), text)):
            with open_private(path) as opened:
                opened.write(content)
    except OSError as error:
        raise OpsError(f"The certificate cannot be written to {file}: {error.strerror}.") from None


def carry_out(view: View, eraser: Eraser, found: Found, client: ElevenLabs | None) -> dict[str, Any]:
    """Erase; returns what the certificate says of it."""
    began = datetime.now(timezone.utc)
    found = settle(view, eraser, found)
    with view.progress.status("Deleting messages, memories, and what is elsewhere ..."):
        doubts = eraser.memories.doubts(found)
        messages = eraser.drop_messages(found)
        eraser.memories.forget(found)
    locked = delete(view, eraser, found)
    with view.progress.status("Deleting what the table knows, and looking again ..."):
        kept = set(found.calls) if locked else set(doubts)
        eraser.bury(found, kept)
        left = eraser.find_again()
        eraser.tidy(left)
        doubtful = left.doubtful | eraser.unseen
        asked = delete_at_elevenlabs(client, sorted(found.calls)) if client else {}
    return {
        "began_at": utc(began), "finished_at": utc(datetime.now(timezone.utc)),
        "complete": not (any(left.numbers().values()) or doubtful or doubts or any(asked.values())),
        "conversations": sorted(found.calls),
        "shared_conversations": sorted(found.shared),
        "deleted": found.without(kept, locked).numbers()
        | {"messages": messages, "elevenlabs": list(asked.values()).count("")},
        "deleted_versions": [named_version(each) for each in found.versions if each not in locked],
        "found_afterwards": left.numbers(),
        "remains": list(remains(view.stack, eraser, locked, doubts, doubtful, asked if client else None)),
    }  # fmt: skip


def delete_at_elevenlabs(client: ElevenLabs, conversation_ids: list[str]) -> Asked:
    """Why each call is not deleted there: empty if it is, None if ElevenLabs has no such call. Raises nothing."""
    asked: Asked = {}
    for each in conversation_ids:
        try:
            asked[each] = "" if client.delete(each) else None
        except ElevenLabsError as error:
            asked[each] = str(error)
    return asked


def settle(view: View, eraser: Eraser, found: Found) -> Found:
    """Put up tombstones and wait, once more if calls of before came meanwhile; returns what there is then."""
    eraser.close_caller()
    for _ in range(MOST_WAITS):
        wait(view, eraser.entomb(found))
        with view.progress.status("Looking for what came meanwhile ..."):
            now_found = eraser.find_again()
        if now_found.calls.keys() <= found.calls.keys():
            return now_found
        found = now_found
    eraser.entomb(found)
    return found


def wait(view: View, until: datetime) -> None:
    """For the functions that had read before the tombstones were there."""
    while (left := (until - datetime.now(timezone.utc)).total_seconds()) > 0:
        with view.progress.status(f"Waiting {left:.0f} s for functions that began before ..."):
            time.sleep(min(left, 5))


def delete(view: View, eraser: Eraser, found: Found) -> list[Version]:
    """Delete every version; returns those that may not be deleted yet."""
    with view.bar() as bar, undisturbed():
        deleted = bar.track(eraser.delete_objects(found), total=len(found.versions), description="Deleting")
        return [version for version, is_gone in deleted if not is_gone]


def named(subject: Subject) -> dict[str, str]:
    """Whom the certificate is about; it may be kept for years, so that it does not hold the number."""
    return {"caller": mask(f"+{subject.caller}")} if subject.caller else {"conversation": subject.conversation}


def named_version(version: Version) -> str:
    return f"{mask_key(version.key)} {version.version_id}"


def remains(
    stack: Stack,
    eraser: Eraser,
    locked: list[Version],
    doubts: dict[str, datetime],
    doubtful: dict[str, str],
    asked: Asked | None,
) -> Iterator[dict[str, str]]:
    """What is not, or cannot be, deleted now; why, and until when."""
    now = datetime.now(timezone.utc)
    for version in locked:
        until = retained_until(stack, version)
        why = "Object Lock" if until else "AWS refuses to delete it: look at the bucket's policy, and at your own"
        yield {"what": named_version(version), "why": why, "until": until or "run this again then"}
    for conversation_id, moment in doubts.items():
        why = "Mem0 may still show a memory whose answer was lost"
        yield {"what": conversation_id, "why": why, "until": f"{utc(moment)}; run this again then"}
    for key, why in doubtful.items():
        yield {"what": mask_key(key), "why": why, "until": "a person looks at it; run this again then"}
    yield {"what": "backups of the table (point-in-time recovery)", "why": "AWS deletes them by age alone",
           "until": utc(now + timedelta(days=backup_days(stack)))}  # fmt: skip
    yield {"what": "logs: ids of conversations, masked numbers", "why": "they hold neither number nor words",
           "until": log_end(stack, now)}  # fmt: skip
    yield {"what": "tombstones of calls: ids of conversations", "why": "they keep the calls from coming back",
           "until": "for ever"}  # fmt: skip
    yield {"what": "marks: ids of deliveries, and for a caller a keyed hash of the number",
           "why": "they keep out what is delivered late",
           "until": f"{DISCARDED_FOR.days} days, and {KEPT.days} for a caller"}  # fmt: skip
    yield {"what": "messages that were delayed or at work", "why": "the functions drop them when they come",
           "until": "their queue's visibility timeout"}  # fmt: skip
    for conversation_id, fault in (asked or {}).items():
        if fault:
            until = f"ops erase --conversation {conversation_id} --elevenlabs --yes"
            yield {"what": f"ElevenLabs' own copy of {conversation_id}", "why": fault, "until": until}
    unknown = [each for each, fault in (asked or {}).items() if fault is None]
    if unknown:
        why = "ElevenLabs knows no such calls: they are gone there, or its key is of another workspace"
        yield {"what": ", ".join(unknown), "why": why, "until": "-"}
    if asked is None:
        yield {"what": "ElevenLabs' own copy of the calls", "why": "--elevenlabs was not given",
               "until": "the end of the agent's retention there"}  # fmt: skip
    if not eraser.memories.has_mem0:
        yield {"what": "memories in a Mem0 of earlier times", "why": "the stack has no key of it", "until": "-"}
    if logs := stack.outputs.get("AccessLogBucketName"):
        why = "they name keys, and keys the number; so does each deletion of this run"
        yield {"what": f"S3's access logs in {logs}", "why": why, "until": log_end(stack, now)}
    if replica := stack.outputs.get("ReplicationBucketArn"):
        why = "S3 does not replicate the deletion of versions: delete them there too"
        yield {"what": f"copies in {replica}", "why": why, "until": "-"}
    yield {"what": "files on operators' machines: exports, dropped messages, and other copies",
           "why": "ops export and ops dlq drop save them where they run, and no erasure reaches them",
           "until": "somebody deletes them by hand"}  # fmt: skip
    yield {"what": "copies of other subscribers of CallArchivedTopic", "why": "they are not the stack's", "until": "-"}


def retained_until(stack: Stack, version: Version) -> str | None:
    names = {"Bucket": stack.bucket.name, "Key": version.key, "VersionId": version.version_id}
    try:
        head = stack.client("s3").head_object(**names)
    except ClientError:
        return None
    if head.get("ObjectLockLegalHoldStatus") == "ON":
        return "its legal hold is taken off"
    return utc(head["ObjectLockRetainUntilDate"]) if "ObjectLockRetainUntilDate" in head else None


def backup_days(stack: Stack) -> int:
    try:
        answer = stack.client("dynamodb").describe_continuous_backups(TableName=stack.output("ConversationTableName"))
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


def readable(written: dict[str, Any]) -> str:
    """The certificate as people read it."""
    console = Terminal(width=110, color_system=None)
    with console.capture() as capture:
        whom = written.get("caller") or written["conversation"]
        console.print(f"Certificate of erasure: {whom}, stack {written['stack']}")
        state = "complete" if written["complete"] else "NOT COMPLETE: see what remains, and run the same command again"
        console.print(f"{written['began_at']} to {written['finished_at']}: {state}")
        console.print()
        for title in ("deleted", "found_afterwards"):
            console.print(f"{title.replace('_', ' ').capitalize()}:")
            for name, number in written[title].items():
                console.print(f"  {name.replace('_', ' ')}: {number}")
        console.print()
        console.print(f"Conversations: {', '.join(written['conversations']) or 'none'}")
        console.print()
        console.print("What remains:")
        for each in written["remains"]:
            console.print(f"  {each['what']}")
            console.print(f"    {each['why']}; until: {each['until']}")
    return capture.get()
