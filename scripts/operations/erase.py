"""`ops erase`: delete all data about a caller, or about one call, for a privacy request."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.elevenlabs import ElevenLabs
from scripts.aws_session import OpsError
from scripts.operations.erasure.certificate import as_json, as_text, certify, reserved, write
from scripts.operations.erasure.find import Found
from scripts.operations.erasure.journal import Journal
from scripts.operations.erasure.protocol import Run
from scripts.operations.erasure.reading import Subject
from scripts.operations.selection import CallId
from scripts.operations.stack import Stack
from scripts.operations.view import View
from shared.caller import found_by, normalise
from shared.keys import is_id

NO_DATA_OF_CALL = "there is no data about this call; with --yes a tombstone keeps it from arriving later"
NO_DATA_OF_CALLER = (
    "there is no data about this caller: is the number written as in the calls, with its country code? With --yes a "
    "tombstone keeps out calls until now that arrive later"
)


def erase(
    context: typer.Context,
    caller: Annotated[str, typer.Argument(help="The caller's phone number: erases all data about this person.")] = "",
    conversation: CallId = "",
    elevenlabs: Annotated[
        bool, typer.Option("--elevenlabs", help="Delete ElevenLabs' own copy too; its key must allow it.")
    ] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for the certificate; default erasure-TIME.json.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only show what would be erased.")] = False,
) -> int:
    """Erase a caller, or one call. Privacy laws such as GDPR and CCPA give people a right to it.

    All versions of objects, staged bodies, records, memories and messages are deleted permanently. Tombstones keep
    them from coming back, however late they arrive. The command waits until functions that are running have finished,
    two minutes by default. Then it searches again and writes a certificate, as JSON and beside it as text. Calls that
    begin after this command are kept.
    Interrupted, run the same command again. Exit code 1 if something is left, or a person must look at something.

    Example: ops erase +12025550123 --elevenlabs --yes
    """
    view: View = context.obj
    subject = read_subject(caller, conversation)
    client = elevenlabs_of(view.stack) if elevenlabs else None
    run = Run(view, subject)
    with view.progress.status("Searching for all data ..."):
        found = run.find()
    if not yes:
        shown = preview(found, subject, elevenlabs=elevenlabs, has_mem0=run.memories.has_mem0)
        view.show(shown | {"takes_at_least_seconds": run.seconds}, "To be erased", advise(found, subject))
        return 0
    file = certificate or Path(f"erasure-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json")
    with reserved(file):
        journal = Journal(view.stack)
        journal.begin(subject)
        written = certify(view.stack, run.erase(found, client))
        print(as_json(written) if view.as_json else as_text(written))
        write(file, f"{as_json(written)}\n", as_text(written))
        journal.end(subject)
    view.progress.print(f"The certificate is in {file} and {file.with_suffix('.txt')}.")
    return 0 if written["complete"] else 1


def read_subject(caller: str, conversation: str) -> Subject:
    """Raises OpsError."""
    if bool(caller) == bool(conversation):
        raise OpsError("Name one: a caller's number, or one call with --conversation.")
    if conversation and not is_id(conversation):
        raise OpsError(f"{conversation!r} is not a conversation id: letters, digits, _ and - only.")
    number = normalise(caller) if caller else ""
    if number is None:
        raise OpsError(f"{caller!r} is not a phone number: write it as +12025550123.")
    return Subject(found_by(number) if number else "", conversation)


def elevenlabs_of(stack: Stack) -> ElevenLabs:
    without = "The stack has no key of ElevenLabs' API: give it ElevenLabsApiKey, or delete their copy there by hand."
    key = stack.secret("ElevenLabsSecretArn", without)
    return ElevenLabs(stack.output("ElevenLabsApiHost"), key)


def preview(found: Found, subject: Subject, *, elevenlabs: bool, has_mem0: bool) -> dict[str, Any]:
    memories = "all memories of the user, from any source" if subject.caller else "the memories of this call"
    return found.numbers() | {
        "conversations": sorted(found.calls),
        "shared_calls": len(found.shared),
        "in_mem0": memories if has_mem0 else "the stack has no Mem0",
        "at_elevenlabs": "their copy too" if elevenlabs else "stays, without --elevenlabs",
    }


def advise(found: Found, subject: Subject) -> str:
    if found.with_data or found.shared or found.versions or found.memories:
        return "the same command with --yes deletes it permanently; ops export keeps a copy"
    return NO_DATA_OF_CALLER if subject.caller else NO_DATA_OF_CALL
