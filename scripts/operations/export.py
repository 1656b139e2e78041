"""`ops export`: copy calls, with all data that is kept about them, to a folder or an archive file."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from scripts.aws_session import OpsError
from scripts.operations.exports.check import check
from scripts.operations.exports.download import Download
from scripts.operations.exports.folder import ARCHIVES, VERSION, Folder, open_folder, pack, remove
from scripts.operations.exports.tables import Tables
from scripts.operations.selection import Agent, Caller, CallId, Chosen, Since, Until
from scripts.operations.view import View, parse_time, several

OTHER_ARCHIVES = (
    ".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".lz4", *ARCHIVES,
)  # fmt: skip
NOTHING = "There is nothing to export. No call fits the options, or the calls were erased."
WAYS_OUT = "Delete it and run the export command again, or export to another name."


class Format(StrEnum):
    """What is written: the objects as they are in the bucket, or tables of them."""

    json = "json"
    parquet = "parquet"
    csv = "csv"


def export(
    context: typer.Context,
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="A folder, or a file that ends in .zip or .tar.gz.")
    ],
    since: Since = "", until: Until = "", caller: Caller = "", agent: Agent = "", conversation: CallId = "",
    form: Annotated[
        Format, typer.Option("--format", help="JSON and MP3 as in the bucket, or tables: Parquet, or CSV for Excel.")
    ] = Format.json,
    audio: Annotated[bool, typer.Option(help="Export the recordings too, or leave them out.")] = True,
    check_only: Annotated[bool, typer.Option("--verify", help="Compare an export with its manifest.")] = False,
) -> int:  # fmt: skip
    """Copy calls to a folder or an archive file.

    JSON, MP3 and other events have the same names as in the bucket. The records and ledgers are in records/. The file
    manifest.json lists all files with sizes and checksums. It is written last: an export with it is complete.

    If the command is interrupted, run it again: it continues. A time such as 36h still counts from the first run.

    With --format parquet or csv, tables are written instead: calls, turns, evaluation, collected and tools, each with a
    file per day (UTC) on which calls began. manifest.json says what each column means. Read docs/read.md.

    An archive file is made from a temporary folder beside it. So it needs twice the space.

    Exit code 1 if something could not be exported. Example: ops export calls.zip --since 2026-11-01 --until 2026-12-01
    """
    view: View = context.obj
    choice = {"since": since, "until": until, "caller": caller, "agent": agent, "conversation": conversation}
    if check_only:
        if any(choice.values()) or not audio:
            raise OpsError("--verify checks an existing export. Leave out the options that select calls.")
        return verify_export(view, destination)
    chosen, parts = Chosen(view.stack, **choice), folder_of(view, destination)
    with open_folder(parts) as folder:
        asked = choice | {"audio": audio} | ({} if form is Format.json else {"format": form.value})
        header = read_header(folder, view.stack.name, asked)
        chosen = replace(chosen, since=header["since"], until=header["until"])
        download = (
            Download(view.stack, folder, audio=audio) if form is Format.json else Tables(view.stack, folder, form.value)
        )
        with view.progress.status("Looking for the calls ..."):
            found = download.find(chosen)
        if not found and not folder.header:
            raise OpsError(NOTHING, code=1)
        folder.begin(header)
        download.run(view)
        folder.finish(download.manifest(header))
        if parts != destination:
            with view.bar() as bar:
                pack(folder, destination, lambda names: bar.track(names, description="Packing"))
            if download.outcome.is_complete:
                remove(folder)
    shown = download.totals() | {"fetched": download.outcome.fetched} | {"destination": destination}
    view.show(shown, "Exported", download.advice())
    return 0 if download.outcome.is_complete else 1


def folder_of(view: View, destination: Path) -> Path:
    """The folder to export to: the destination itself, or a folder beside the archive file. Raises OpsError."""
    if not destination.name.endswith(ARCHIVES):
        if destination.name.lower().endswith(OTHER_ARCHIVES):
            raise OpsError(
                f"{destination} has the ending of an archive file that this command cannot make. "
                "Name a folder, a file.zip or a file.tar.gz."
            )
        return destination
    parts = destination.with_name(f"{destination.name}.parts")
    if destination.exists() and not parts.exists():
        raise OpsError(
            f"{destination} exists already. If it is damaged: {WAYS_OUT} "
            f"To check it: {view.command(f'export --verify {quote(str(destination))}')}"
        )
    return parts


def read_header(folder: Folder, stack: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The export's choice, with the times of its first run. Raises OpsError if the folder holds another choice."""
    since, until = asked["since"], asked["until"]
    header = folder.header or {
        "version": VERSION, "stack": stack, "asked": asked,
        "since": since and parse_time(since).isoformat(), "until": until and parse_time(until).isoformat(),
    }  # fmt: skip
    if (header["version"], header["stack"], header["asked"]) != (VERSION, stack, asked):
        raise OpsError(
            f"{folder.path} is an export of another selection. Use the same options, or name another folder."
        )
    return header


def verify_export(view: View, destination: Path) -> int:
    if not destination.exists():
        raise OpsError(f"{destination} does not exist.")
    with view.progress.status("Reading the export ..."):
        checked = check(destination, WAYS_OUT)
    rows = [{"file": name, "problem": problem} for name, problem in checked.problems]
    title = f"{several(checked.files, 'file', 'files')}, {len(rows)} with a problem"
    if checked.missing:
        title += f"; its manifest lists {checked.missing} more that could not be exported"
    in_folder = "Delete the damaged files, then run the export command again. It fetches them again."
    advice = (in_folder if destination.is_dir() else WAYS_OUT) if rows else ""
    view.table(rows, {"file": "File", "problem": "Problem"}, title, advice, empty=f"{title}.")
    return 1 if rows else 0
