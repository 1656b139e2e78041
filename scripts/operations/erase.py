"""`ops erase`: delete all data about a caller, or about one call, for a privacy request."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.bookmarks import Bookmarks
from reconciler.elevenlabs import ElevenLabs
from scripts.aws_session import OpsError
from scripts.operations.erasure.certificate import as_json, as_text, certify, check_place, write
from scripts.operations.erasure.find import Found
from scripts.operations.erasure.journal import Journal
from scripts.operations.erasure.protocol import Run
from scripts.operations.erasure.reading import Subject
from scripts.operations.reindex import REACHED
from scripts.operations.selection import CallId
from scripts.operations.stack import Stack
from scripts.operations.view import WITH_YES, View
from shared.caller import found_by, normalise
from shared.keys import is_id

NO_DATA_OF_CALL = (
    "There is no data about this call. With --yes, a tombstone is written: if the call arrives later, it is dropped."
)
NO_DATA_OF_CALLER = (
    "There is no data about this caller. Check the number: it needs its country code, as in the calls. With --yes, a "
    "tombstone is written: if a call from before now arrives later, it is dropped."
)
UNFINISHED_REINDEX = (
    "A run of ops reindex is not finished, so not every call of the caller can be found yet. Finish it first: "
    "./scripts/ops reindex --yes"
)


def erase(
    context: typer.Context,
    caller: Annotated[
        str, typer.Argument(help="The caller's phone number. All data about this caller is erased.")
    ] = "",
    conversation: CallId = "",
    elevenlabs: Annotated[
        bool, typer.Option("--elevenlabs", help="Also delete the copy at ElevenLabs. The API key must allow it.")
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for the certificate, ending in .json. Default: erasure-TIME.json."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what would be erased.")] = False,
) -> int:
    """Erase all data about a caller, or about one call. Privacy laws such as GDPR and CCPA give people this right.

    The command permanently deletes objects with all their versions, payloads, records, memories and messages. It writes
    tombstones: if erased data arrives again, it is dropped. Calls that begin after this command are kept.

    The command waits until all running functions have ended, by default for five minutes. Then it searches again. At
    the end it writes a certificate, as a JSON file and as a text file.

    If the command is interrupted, run it again. Exit code 1 if data is left, or if a person must look at something.

    Example: ops erase +12025550123 --elevenlabs --yes
    """
    view: View = context.obj
    subject = read_subject(caller, conversation)
    if Bookmarks(view.stack.table).read(REACHED):
        raise OpsError(UNFINISHED_REINDEX)
    client = elevenlabs_of(view.stack) if elevenlabs else None
    run = Run(view, subject)
    with view.progress.status("Searching for all data ..."):
        found = run.find()
    if not yes:
        shown = preview(found, subject, elevenlabs=elevenlabs, has_mem0=run.memories.has_mem0)
        view.show(shown | {"takes_at_least_seconds": run.seconds}, "To be erased", advise(found, subject))
        return 0
    file = certificate or Path(f"erasure-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.json")
    check_place(file)
    journal = Journal(view.stack)
    interrupted = journal.begin(subject)
    written = certify(view, run.erase(found, client), interrupted)
    print(as_json(written) if view.as_json else as_text(written))
    write(file, f"{as_json(written)}\n", as_text(written))
    journal.end(subject)
    view.progress.print(f"The certificate is in {file} and {file.with_suffix('.txt')}.")
    return 0 if written["complete"] else 1


def read_subject(caller: str, conversation: str) -> Subject:
    """Raises OpsError."""
    if bool(caller) == bool(conversation):
        raise OpsError("Give either a caller's number, or one call with --conversation.")
    if conversation and not is_id(conversation):
        raise OpsError(f"{conversation!r} is not a conversation id. An id has only letters, digits, _ and -.")
    number = normalise(caller) if caller else ""
    if number is None:
        raise OpsError(f"{caller!r} is not a phone number. Write it as +12025550123.")
    return Subject(found_by(number) if number else "", conversation)


def elevenlabs_of(stack: Stack) -> ElevenLabs:
    without = (
        "The stack has no API key of ElevenLabs. Deploy it with ElevenLabsApiKey, or delete the copy there by hand."
    )
    key = stack.secret("ElevenLabsSecretArn", without)
    return ElevenLabs(stack.output("ElevenLabsApiHost"), key)


def preview(found: Found, subject: Subject, *, elevenlabs: bool, has_mem0: bool) -> dict[str, Any]:
    memories = "all memories of the user, from any source" if subject.caller else "the memories of this call"
    return found.numbers() | {
        "conversations": sorted(found.calls),
        "shared_calls": len(found.shared),
        "in_mem0": memories if has_mem0 else "the stack has no Mem0",
        "at_elevenlabs": "their copy is deleted too" if elevenlabs else "their copy stays, without --elevenlabs",
    }


def advise(found: Found, subject: Subject) -> str:
    if found.with_data or found.shared or found.versions or found.memories:
        choice = "--caller NUMBER" if subject.caller else f"--conversation {subject.conversation}"
        return f"{WITH_YES} It deletes all this permanently.\nTo keep a copy, first run: ops export FOLDER {choice}"
    return NO_DATA_OF_CALLER if subject.caller else NO_DATA_OF_CALL
