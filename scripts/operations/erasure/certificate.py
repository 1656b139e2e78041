"""The certificate of an erasure: as JSON, and beside it as text. It may be kept for years and contains no number."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.aws_session import OpsError
from scripts.operations.erasure.protocol import Erasure
from scripts.operations.erasure.remains import masked, remains
from scripts.operations.view import View
from scripts.private_files import open_private
from scripts.terminal import Terminal
from shared.observability import mask
from shared.times import utc


def certify(view: View, erasure: Erasure) -> dict[str, Any]:
    subject, found = erasure.subject, erasure.found
    name = {"caller": mask(f"+{subject.caller}")} if subject.caller else {"conversation": subject.conversation}
    deleted = found.without(erasure.kept, erasure.locked).numbers()
    return {
        "certificate": "erasure", "version": 1, "stack": view.stack.name, **name,
        "began_at": utc(erasure.began_at), "finished_at": utc(erasure.finished_at),
        "complete": erasure.is_complete,
        "conversations": sorted(found.calls),
        "shared_conversations": sorted(found.shared),
        "deleted": deleted
        | {"messages": erasure.messages, "elevenlabs": list((erasure.at_elevenlabs or {}).values()).count("")},
        "deleted_versions": [masked(each) for each in found.versions if each not in erasure.locked],
        "found_afterwards": erasure.found_afterwards.numbers(),
        "remains": list(remains(view, erasure)),
    }  # fmt: skip


@contextmanager
def reserved(file: Path) -> Iterator[None]:
    """Make sure that the certificate can be written before anything is deleted. Raises OpsError.

    An error in the block removes the empty files.
    """
    if file.suffix != ".json":
        raise OpsError(
            f"The certificate cannot be named {file}. Its name must end in .json. A .txt file is written beside it."
        )
    text = file.with_suffix(".txt")
    if any(each.exists() and each.stat().st_size for each in (file, text)):  # a run that was killed leaves empty ones
        raise OpsError(f"{file} or {text} exists already. A certificate is never overwritten.")
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


def as_json(certificate: dict[str, Any]) -> str:
    return json.dumps(certificate, indent=2)


def as_text(certificate: dict[str, Any]) -> str:
    """The certificate for people."""
    console = Terminal(width=110, color_system=None)
    with console.capture() as capture:
        subject = certificate.get("caller") or certificate["conversation"]
        console.print(f"Certificate of erasure: {subject}, stack {certificate['stack']}")
        again = "NOT COMPLETE. See what remains. Then run the same command again"
        state = "complete" if certificate["complete"] else again
        console.print(f"{certificate['began_at']} to {certificate['finished_at']}: {state}")
        console.print()
        for title in ("deleted", "found_afterwards"):
            console.print(f"{title.replace('_', ' ').capitalize()}:")
            for name, number in certificate[title].items():
                console.print(f"  {name.replace('_', ' ')}: {number}")
        console.print()
        console.print(f"Conversations: {', '.join(certificate['conversations']) or 'none'}")
        console.print()
        console.print("What remains:")
        for each in certificate["remains"]:
            console.print(f"  {each['what']}")
            console.print(f"    {each['why']}")
            console.print(f"    until: {each['until']}", soft_wrap=True)  # it may be a command, which is not folded
    return capture.get()
