"""The certificate of an erasure: as JSON, and beside it as text. It may be kept for years and contains no number."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def certify(view: View, erasure: Erasure, interrupted: list[str]) -> dict[str, Any]:
    """What the certificate says; `interrupted` is when each earlier run began that has no certificate."""
    subject, found = erasure.subject, erasure.found
    name = {"caller": mask(f"+{subject.caller}")} if subject.caller else {"conversation": subject.conversation}
    deleted = found.without(erasure.kept, erasure.locked).numbers()
    return {
        "certificate": "erasure", "version": 1, "stack": view.stack.name, **name,
        "began_at": utc(erasure.began_at), "finished_at": utc(erasure.finished_at),
        "complete": erasure.is_complete,
        "interrupted_runs": interrupted,
        "conversations": sorted(found.calls),
        "shared_conversations": sorted(found.shared),
        "deleted": deleted
        | {"messages": erasure.messages, "elevenlabs": list((erasure.at_elevenlabs or {}).values()).count("")},
        "deleted_versions": [masked(each) for each in found.versions if each not in erasure.locked],
        "found_afterwards": erasure.found_afterwards.numbers(),
        "remains": list(remains(view, erasure)),
    }  # fmt: skip


def check_place(file: Path) -> None:
    """Make sure that the certificate can be written, before anything is deleted. Leaves no file. Raises OpsError."""
    if file.suffix != ".json":
        raise OpsError(
            f"The certificate cannot be named {file}. Its name must end in .json. A .txt file is written beside it."
        )
    with drafts(file):
        pass


def write(file: Path, certificate: str, text: str) -> None:
    """Write both files. Each appears under its name only when it is complete. Raises OpsError."""
    with drafts(file) as paths:
        for path, content in zip(paths, (certificate, text), strict=True):
            with open_private(path) as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
        for path in paths:
            path.rename(path.with_suffix(""))


@contextmanager
def drafts(file: Path) -> Iterator[list[Path]]:
    """Empty files beside the certificate and its text, which are removed at the end of the block. Raises OpsError."""
    text = file.with_suffix(".txt")
    if os.path.lexists(file) or os.path.lexists(text):
        raise OpsError(f"{file} or {text} exists already. A certificate is never overwritten.")
    paths = [each.with_name(f"{each.name}.draft") for each in (file, text)]
    try:
        for each in paths:
            open_private(each).close()
        yield paths
    except OSError as error:
        raise OpsError(f"The certificate cannot be written to {file}: {error.strerror}.") from None
    finally:
        for each in paths:
            with suppress(OSError):
                each.unlink()


def as_json(certificate: dict[str, Any]) -> str:
    return json.dumps(certificate, indent=2)


def as_text(certificate: dict[str, Any]) -> str:
    """The certificate for people."""
    console = Terminal(width=110, color_system=None)
    with console.capture() as capture:
        print_heading(console, certificate)
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


def print_heading(console: Terminal, certificate: dict[str, Any]) -> None:
    subject = certificate.get("caller") or certificate["conversation"]
    console.print(f"Certificate of erasure: {subject}, stack {certificate['stack']}")
    again = "NOT COMPLETE. See what remains. Then run the same command again"
    state = "complete" if certificate["complete"] else again
    console.print(f"{certificate['began_at']} to {certificate['finished_at']}: {state}")
    if runs := certificate["interrupted_runs"]:
        console.print(f"Earlier runs of this erasure were interrupted. They began at {', '.join(runs)}.")
        console.print("They wrote no certificate. What they deleted is not in the counts below.")
