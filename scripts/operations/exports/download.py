"""Copies calls from the bucket and the table into an export's folder, several calls at a time."""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from itertools import groupby
from threading import Event
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from scripts.operations.exports.folder import RECORDS, VERSION, File, Folder, NameRefusedError, is_ours
from scripts.operations.selection import Chosen
from scripts.operations.stack import Stack
from scripts.operations.view import View
from shared.aws_errors import error_code
from shared.bucket import PIECE
from shared.call import Call
from shared.record import ITEM, MEMORIES, Records
from shared.times import utc

WORKERS = 8  # S3 and DynamoDB allow far more; the operator's connection does not
TOGETHER = 33  # calls whose items DynamoDB reads in one request: 3 items each, and a request takes 100 keys
WAITS = (0, 1, 2)  # seconds, after a connection that broke
ITEMS = (ITEM, *MEMORIES)
_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")  # of DynamoDB's numbers and sets


@dataclass
class Outcome:
    """How many calls were exported, and what could not be."""

    calls: int = 0
    fetched: int = 0
    unavailable: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not (self.unavailable or self.missing)

    def add(self, other: "Outcome") -> None:
        self.calls += other.calls
        self.fetched += other.fetched
        self.unavailable += other.unavailable
        self.missing += other.missing


class Download:
    """One run of an export. Each object is streamed to the disk."""

    def __init__(self, stack: Stack, folder: Folder, *, audio: bool) -> None:
        self.outcome = Outcome()
        self._folder, self._audio, self._stop = folder, audio, Event()
        self._s3, self._bucket, self._records = stack.client("s3"), stack.bucket, stack.records
        self._stack = stack.name
        self._calls: list[Call] = []

    def find(self, chosen: Chosen) -> int:
        """Look for the calls to export; returns how many there are."""
        self._calls = list({call.conversation_id: call for call in chosen.calls() if not call.erased_at}.values())
        return len(self._calls)

    def run(self, view: View) -> None:
        """Raises the first error of a worker; the other workers stop after their current piece."""
        with view.bar() as bar, ThreadPoolExecutor(WORKERS) as pool:
            task = bar.add_task("Exporting", total=len(self._calls))
            try:
                step = partial(bar.advance, task)
                for done in as_completed([pool.submit(self._export, *group, step) for group in grouped(self._calls)]):
                    self.outcome.add(done.result())
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def totals(self) -> dict[str, int]:
        files = self._folder.files.values()
        return {
            "calls": self.outcome.calls,
            "files": len(files),
            "recordings": sum(file.key.endswith(".mp3") for file in files),
            "bytes": sum(file.size for file in files),
            "unavailable_calls": len({each["conversation_id"] for each in self.outcome.unavailable}),
            "missing": len(self.outcome.missing),
        }

    def manifest(self, header: dict[str, Any]) -> dict[str, Any]:
        """The manifest without its files, which the folder adds."""
        return {
            "version": VERSION, "stack": self._stack, "bucket": self._bucket.name,
            "exported_at": utc(datetime.now(timezone.utc)),
            "choice": header["asked"] | {"since": header["since"], "until": header["until"]},
            "totals": self.totals(), "unavailable": self.outcome.unavailable, "missing": self.outcome.missing,
        }  # fmt: skip

    def advice(self) -> str:
        if any("reason" in each for each in self.outcome.unavailable):
            return 'Some records have ids that cannot be file names. manifest.json lists them under "unavailable".'
        if self.outcome.unavailable:
            return (
                'The objects under "unavailable" in manifest.json are in an archive class of S3. '
                "S3 needs hours to restore them. Then run the same command again. Restore each with: "
                f"aws s3api restore-object --bucket {self._bucket.name} --key KEY --restore-request Days=7"
            )
        if self.outcome.missing:
            return (
                'S3 does not have some objects of these calls: see "missing" in manifest.json. Then run: ops verify ID'
            )
        return ""

    def _export(self, name: str | None, calls: list[Call], step: Callable[[], None]) -> Outcome:
        """Export calls of one folder, with a `step` for each; without those that were erased since they were chosen."""
        listable = [call for call in calls if is_ours(f"{name}/{call.conversation_id}.json")]
        objects = list(self._listed(str(name), listable)) if listable else []
        records, outcome = read_records(self._records, [call.conversation_id for call in calls]), Outcome()
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
            mine += self._listed_alone(expected - {item["Key"] for item in mine})
            for item in mine:
                self._keep_object(call.conversation_id, item, outcome)
            self._keep_record(call.conversation_id, items, outcome)
            lost = sorted(expected - {item["Key"] for item in mine})
            outcome.missing += [{"key": key, "conversation_id": call.conversation_id} for key in lost]
            outcome.calls += 1
        return outcome

    def _listed(self, name: str, calls: list[Call]) -> Iterator[dict[str, Any]]:
        """The objects from the first call to the last one, as S3 lists them."""
        first, last = (f"{name}/{calls[at].conversation_id}." for at in (0, -1))
        for page in self._bucket.pages(f"{name}/", first):
            for item in page:
                if item["Key"] > f"{last}~":
                    return
                if is_ours(item["Key"]) and (self._audio or not item["Key"].endswith(".mp3")):
                    yield item

    def _listed_alone(self, keys: set[str]) -> Iterator[dict[str, Any]]:
        """Objects in other folders, as S3 lists them: an event may arrive before the folder of its call is known."""
        for key in sorted(filter(is_ours, keys)):
            for page in self._bucket.pages(key, ""):
                yield from (item for item in page if item["Key"] == key)

    def _keep_object(self, conversation_id: str, item: dict[str, Any], outcome: Outcome) -> None:
        file = self._folder.known(item["Key"], etag=item["ETag"].strip('"'), size=item["Size"])
        if file is None:
            try:
                file = self._fetched(item["Key"], conversation_id)
                outcome.fetched += 1
            except ClientError as error:
                one = {"key": item["Key"], "conversation_id": conversation_id}
                if error_code(error) == "InvalidObjectState":
                    outcome.unavailable.append(one | {"storage_class": item.get("StorageClass")})
                elif error_code(error) == "NoSuchKey":
                    outcome.missing.append(one)
                else:
                    raise
                return
        self._folder.add(file)

    def _fetched(self, key: str, conversation_id: str) -> File:
        """An object as S3 keeps it, byte for byte. A connection that breaks is tried again."""
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

    def _keep_record(self, conversation_id: str, items: dict[str, Any], outcome: Outcome) -> None:
        body = msgspec.json.format(_ENCODER.encode(items), indent=1)
        key, sha256 = f"{RECORDS}/{conversation_id}.json", hashlib.sha256(body).hexdigest()
        if not self._folder.known(key, sha256=sha256):
            try:
                self._folder.write(key, [body])
            except NameRefusedError:
                reason = "the id would lead out of the export"
                outcome.unavailable.append({"key": key, "conversation_id": conversation_id, "reason": reason})
                return
        self._folder.add(File(key, conversation_id, len(body), sha256))


def grouped(calls: list[Call]) -> Iterator[tuple[str | None, list[Call]]]:
    """Groups of calls of one folder, in the order of their keys ('.' comes after '-'), small enough for all workers."""
    together = max(1, min(TOGETHER, len(calls) // (4 * WORKERS)))
    in_order = sorted(calls, key=lambda call: (call.folder or "", f"{call.conversation_id}."))
    for folder, group in groupby(in_order, key=lambda call: call.folder):
        members = list(group)
        for start in range(0, len(members), together):
            yield folder, members[start : start + together]


def read_records(records: Records, conversation_ids: list[str]) -> dict[str, dict[str, Any]]:
    """All items of each call, by their names. Raises RetryError if DynamoDB keeps refusing to read them."""
    read: dict[str, dict[str, Any]] = {}
    keys = [{"conversation_id": each, "item": item} for each in conversation_ids for item in ITEMS]
    for item in records.read_items(keys):
        read.setdefault(item["conversation_id"], {})[item["item"]] = item
    return read
