"""`ops export`: calls, with all that is kept of them, in a folder or an archive file."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import msgspec
import typer
from botocore.exceptions import BotoCoreError, ClientError

from scripts.aws_session import OpsError
from scripts.operations.export_check import check
from scripts.operations.export_folder import (
    ARCHIVES,
    RECORDS,
    VERSION,
    File,
    Folder,
    NameRefusedError,
    is_ours,
    open_folder,
    pack,
    remove,
)
from scripts.operations.selection import Agent, Caller, CallId, Chosen, Since, Until
from scripts.operations.stack import Stack
from scripts.operations.view import View, moment
from shared.aws_errors import error_code
from shared.bucket import PIECE
from shared.record import ITEM, MEMORIES, Call, Records
from shared.times import utc

WORKERS = 8  # S3 and DynamoDB take far more; the operator's line does not
TOGETHER = 33  # calls at most whose items DynamoDB reads at once: 3 each, and it takes 100 keys
WAITS = (0, 1, 2)  # seconds, after a line that broke
ITEMS = (ITEM, *MEMORIES)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")  # of DynamoDB's numbers and sets


def export(
    context: typer.Context,
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="A folder, or a file.zip or file.tar.gz.")],
    since: Since = "", until: Until = "", caller: Caller = "", agent: Agent = "", conversation: CallId = "",
    audio: Annotated[bool, typer.Option(help="Export the recordings too, or leave them out.")] = True,
    check_only: Annotated[bool, typer.Option("--verify", help="Check an export against its manifest.")] = False,
) -> int:  # fmt: skip
    """Export calls: JSON, MP3 and other events under their keys, records and ledgers under records/, a manifest.

    Interrupted or killed, the same command goes on where it was; a time such as 36h still counts from the first run.
    manifest.json, with sizes and checksums, is written last: where it is, the export is complete. An archive file is
    made of a folder beside it, so that it needs the room twice.

    Exit code 1 if something could not be exported. Example: ops export calls.zip --since 2026-11-01 --until 2026-12-01
    """
    view: View = context.obj
    choice = {"since": since, "until": until, "caller": caller, "agent": agent, "conversation": conversation}
    if check_only:
        if any(choice.values()) or not audio:
            raise OpsError("--verify checks an export that is there: leave the choice out.")
        return verify_export(view, destination)
    chosen, parts = Chosen(view.stack, **choice), parts_of(destination)
    with open_folder(parts) as folder:
        header = read_header(folder, view.stack.name, choice | {"audio": audio})
        with view.progress.status("Looking for the calls ..."):
            found = replace(chosen, since=header["since"], until=header["until"]).calls()
            calls = {call.conversation_id: call for call in found if not call.erased_at}
        if not calls and not folder.header:
            raise OpsError("There is nothing to export: no call fits the choice, or it was erased.", code=1)
        folder.begin(header)
        run = Run(view.stack, folder, audio=audio)
        run.go(view, list(calls.values()))
        folder.finish(run.manifest(header))
        if parts != destination:
            with view.bar() as bar:
                pack(folder, destination, lambda names: bar.track(names, description="Packing"))
            if run.found.is_all:
                remove(folder)
    view.show(run.totals() | {"fetched": run.found.fetched, "destination": destination}, "Exported", run.advice())
    return 0 if run.found.is_all else 1


def parts_of(destination: Path) -> Path:
    """The folder to export to: the destination itself, or beside an archive file that is not there yet."""
    if not destination.name.endswith(ARCHIVES):
        return destination
    parts = destination.with_name(f"{destination.name}.parts")
    if destination.exists() and not parts.exists():
        raise OpsError(f"{destination} is there already: check it with --verify, or name another file.")
    return parts


def read_header(folder: Folder, stack: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What an export is about: as it began, with the times of then. Raises OpsError if that was something else."""
    since, until = asked["since"], asked["until"]
    header = folder.header or {
        "version": VERSION, "stack": stack, "asked": asked,
        "since": since and moment(since).isoformat(), "until": until and moment(until).isoformat(),
    }  # fmt: skip
    if (header["version"], header["stack"], header["asked"]) != (VERSION, stack, asked):
        raise OpsError(f"{folder.path} holds the export of another choice: choose as before, or name another folder.")
    return header


def verify_export(view: View, destination: Path) -> int:
    if not destination.exists():
        raise OpsError(f"There is no {destination}.")
    with view.progress.status("Reading the export ..."):
        checked = check(destination)
    rows = [{"file": name, "problem": problem} for name, problem in checked.problems]
    title = f"{checked.files} files, {len(rows)} with a problem"
    if checked.lacking:
        title += f"; by its manifest it lacks {checked.lacking} more"
    view.table(rows, {"file": "File", "problem": "Problem"}, title, empty=f"{title}.")
    return 1 if rows else 0


@dataclass
class Found:
    """What came of some calls."""

    calls: int = 0
    fetched: int = 0
    unavailable: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_all(self) -> bool:
        return not (self.unavailable or self.missing)

    def add(self, other: "Found") -> None:
        self.calls += other.calls
        self.fetched += other.fetched
        self.unavailable += other.unavailable
        self.missing += other.missing


class Run:
    """One run of an export: several calls at a time, each object streamed to the disk."""

    def __init__(self, stack: Stack, folder: Folder, *, audio: bool) -> None:
        self.found = Found()
        self._folder, self._audio, self._stop = folder, audio, Event()
        self._s3, self._bucket, self._records = stack.client("s3"), stack.bucket, stack.records
        self._stack = stack.name

    def go(self, view: View, calls: list[Call]) -> None:
        """Raises what the first worker raised that failed; the others stop after the piece at hand."""
        with view.bar() as bar, ThreadPoolExecutor(WORKERS) as pool:
            task = bar.add_task("Exporting", total=len(calls))
            try:
                step = partial(bar.advance, task)
                for done in as_completed([pool.submit(self._export, *group, step) for group in grouped(calls)]):
                    self.found.add(done.result())
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def totals(self) -> dict[str, int]:
        files = self._folder.files.values()
        return {
            "calls": self.found.calls,
            "files": len(files),
            "recordings": sum(file.key.endswith(".mp3") for file in files),
            "bytes": sum(file.size for file in files),
            "unavailable_calls": len({each["conversation_id"] for each in self.found.unavailable}),
            "missing": len(self.found.missing),
        }

    def manifest(self, header: dict[str, Any]) -> dict[str, Any]:
        """All but the files, which the folder knows."""
        return {
            "version": VERSION, "stack": self._stack, "bucket": self._bucket.name,
            "exported_at": utc(datetime.now(timezone.utc)),
            "choice": header["asked"] | {"since": header["since"], "until": header["until"]},
            "totals": self.totals(), "unavailable": self.found.unavailable, "missing": self.found.missing,
        }  # fmt: skip

    def advice(self) -> str:
        if any("reason" in each for each in self.found.unavailable):
            return 'records have ids that would lead out of the export: manifest.json lists them under "unavailable"'
        if self.found.unavailable:
            return (
                'what manifest.json lists under "unavailable" is in an archive class of S3 and must be restored first: '
                f"aws s3api restore-object --bucket {self._bucket.name} --key KEY --restore-request Days=7; "
                "hours later, when S3 has done it, the same command again"
            )
        if self.found.missing:
            return 'records know objects that S3 does not have ("missing" in manifest.json): ops verify CONVERSATION'
        return ""

    def _export(self, name: str | None, calls: list[Call], step: Callable[[], None]) -> Found:
        """Calls of one folder, a `step` each. What was erased since they were chosen is left out."""
        listable = [call for call in calls if is_ours(f"{name}/{call.conversation_id}.json")]
        objects = list(self._listed(str(name), listable)) if listable else []
        records, found = read_records(self._records, [call.conversation_id for call in calls]), Found()
        for call in calls:
            step()
            items = records.get(call.conversation_id, {})
            record = items.get("call", {})
            if not record or "erased_at" in record:
                continue
            mine = [item for item in objects if item["Key"].startswith(f"{name}/{call.conversation_id}.")]
            named = (
                record.get("json_key"),
                record.get("mp3_key") if self._audio else None,
                *record.get("event_keys", ()),
            )
            expected = {str(key) for key in named if key}
            mine += self._found(expected - {item["Key"] for item in mine})
            for item in mine:
                self._keep_object(call.conversation_id, item, found)
            self._keep_record(call.conversation_id, items, found)
            lost = sorted(expected - {item["Key"] for item in mine})
            found.missing += [{"key": key, "conversation_id": call.conversation_id} for key in lost]
            found.calls += 1
        return found

    def _listed(self, name: str, calls: list[Call]) -> Iterator[dict[str, Any]]:
        """The objects from the first call's to the last one's, as S3 lists them."""
        first, last = (f"{name}/{calls[at].conversation_id}." for at in (0, -1))
        for page in self._bucket.pages(f"{name}/", first):
            for item in page:
                if item["Key"] > f"{last}~":
                    return
                if is_ours(item["Key"]) and (self._audio or not item["Key"].endswith(".mp3")):
                    yield item

    def _found(self, keys: set[str]) -> Iterator[dict[str, Any]]:
        """Objects in other folders, as S3 lists them: an event may have come before its call's folder was known."""
        for key in sorted(filter(is_ours, keys)):
            for page in self._bucket.pages(key, ""):
                yield from (item for item in page if item["Key"] == key)

    def _keep_object(self, conversation_id: str, item: dict[str, Any], found: Found) -> None:
        file = self._folder.known(item["Key"], etag=item["ETag"].strip('"'), size=item["Size"])
        if file is None:
            try:
                file = self._fetched(item["Key"], conversation_id)
                found.fetched += 1
            except ClientError as error:
                one = {"key": item["Key"], "conversation_id": conversation_id}
                if error_code(error) == "InvalidObjectState":
                    found.unavailable.append(one | {"storage_class": item.get("StorageClass")})
                elif error_code(error) == "NoSuchKey":
                    found.missing.append(one)
                else:
                    raise
                return
        self._folder.add(file)

    def _fetched(self, key: str, conversation_id: str) -> File:
        """An object as S3 keeps it, byte for byte. A line that breaks in the middle is tried again."""
        for wait in WAITS:
            try:
                return self._download(key, conversation_id)
            except BotoCoreError:
                time.sleep(wait)
        return self._download(key, conversation_id)

    def _download(self, key: str, conversation_id: str) -> File:
        answer = self._s3.get_object(Bucket=self._bucket.name, Key=key)
        size, sha256 = self._folder.write(key, self._pieces(answer["Body"]))
        return File(
            key, conversation_id, size, sha256, answer["ETag"].strip('"'), answer.get("VersionId"),
            utc(answer["LastModified"]), answer.get("ContentEncoding") or None,
        )  # fmt: skip

    def _pieces(self, body: Any) -> Iterator[bytes]:
        for piece in body.iter_chunks(PIECE):
            if self._stop.is_set():
                raise CancelledError
            yield piece

    def _keep_record(self, conversation_id: str, items: dict[str, Any], found: Found) -> None:
        body = msgspec.json.format(_ENCODER.encode(items), indent=1)
        key, sha256 = f"{RECORDS}/{conversation_id}.json", hashlib.sha256(body).hexdigest()
        if not self._folder.known(key, sha256=sha256):
            try:
                self._folder.write(key, [body])
            except NameRefusedError:
                reason = "the id would lead out of the export"
                found.unavailable.append({"key": key, "conversation_id": conversation_id, "reason": reason})
                return
        self._folder.add(File(key, conversation_id, len(body), sha256))


def grouped(calls: list[Call]) -> Iterator[tuple[str | None, list[Call]]]:
    """Calls of one folder each time, in the order of their keys ('.' comes after '-'); few enough to share the work."""
    together = max(1, min(TOGETHER, len(calls) // (4 * WORKERS)))
    in_order = sorted(calls, key=lambda call: (call.folder or "", f"{call.conversation_id}."))
    for folder, group in groupby(in_order, key=lambda call: call.folder):
        members = list(group)
        for start in range(0, len(members), together):
            yield folder, members[start : start + together]


def read_records(records: Records, conversation_ids: list[str]) -> dict[str, dict[str, Any]]:
    """All items of each call, by their names. Raises RetryError if DynamoDB has not read them for a while."""
    read: dict[str, dict[str, Any]] = {}
    keys = [{"conversation_id": each, "item": item} for each in conversation_ids for item in ITEMS]
    for item in records.read_items(keys):
        read.setdefault(item["conversation_id"], {})[item["item"]] = item
    return read
