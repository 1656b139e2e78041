"""A batch of announcements: their calls are read concurrently, and their rows are written in one file for each day.

The record is told of a call's rows before the file is written, so that an erasure, which looks into the files of these
days, finds them. The record refuses what is erased or older than the rows that exist.

What is erased after that is found by the erasure: it waits until no function runs that began before the tombstone, and
then looks for rows. So nobody needs to look at the records again after the file is written.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from indexer.drafts import Drafts
from shared.announcements import read_announcement
from shared.bucket import Bucket
from shared.errors import RetryError
from shared.keys import TEST_CALLS
from shared.messages import Announcement
from shared.observability import count, logger
from shared.record import Records
from shared.source import Source, read_source
from shared.texts import CallVersion, Row, rows_of
from shared.transcription import is_without_words, result_key, turns_of, version_of

AT_ONCE = 8  # calls that are read at the same time. Each may have 6 MB


@dataclass(frozen=True)
class Indexed:
    """A call whose record knows of the rows that it is about to have on this day."""

    source: Source
    day: str
    listed: datetime

    @property
    def version(self) -> CallVersion:
        return self.source.announcement.conversation_id, self.source.announcement.order

    def rows(self) -> Iterator[Row]:
        announcement = self.source.announcement
        audio = (self.source.call and self.source.call.audio) or announcement.audio
        conversation_id, order = self.version
        listed, caller = int(self.listed.timestamp()), announcement.external_number
        return rows_of(self.source.conversation, conversation_id, caller, listed, order, audio)


def note(source: Source, records: Records) -> Indexed | None:
    """Tell the record that a file of the call's day will have its rows; None if the call must have none.

    The day is that on which the call is listed: on which it began, or was archived if the start is unknown.
    """
    announcement, started = source.announcement, source.conversation.started_at
    listed_at = source.call and source.call.listed_at
    if started is None and listed_at is None:
        return None  # without a record there is nothing that an erasure would find the rows by
    listed = started or datetime.fromisoformat(str(listed_at))
    day = f"{listed:%Y-%m-%d}"
    call = records.note_text(announcement.conversation_id, day, announcement.order)
    return Indexed(source, day, listed) if call else None


def with_heard(source: Source, bucket: Bucket) -> Source:
    """The call with the words of its recording, if ElevenLabs sent none and Amazon Transcribe heard some."""
    call, announcement = source.call, source.announcement
    key = result_key(call) if call else None
    if key is None or not is_without_words(source.conversation):
        return source
    stored = bucket.read(key)
    turns = turns_of(stored[0]) if stored else []
    if stored is None or not turns:
        return source
    order = version_of(announcement.order, stored[1].get("order", ""))
    conversation = replace(source.conversation, heard=tuple(turns))
    return replace(source, conversation=conversation, announcement=replace(announcement, order=order))


class Batch:
    """The messages of one invocation. What goes wrong with one of them does not fail the others.

    What is not read while it `has_time` is left to the next attempt, so that the others' files are written.
    """

    def __init__(self, bucket: Bucket, records: Records, has_time: Callable[[], bool]) -> None:
        self._bucket, self._records, self._has_time = bucket, records, has_time
        self._drafts, self._errors = Drafts(bucket), dict[str, Exception]()
        self._indexed: dict[str, CallVersion] = {}

    def index(self, messages: Iterable[SQSRecord]) -> None:
        """Write the rows of all calls. A few are read ahead, so that memory is bounded."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running: deque[tuple[SQSRecord, Future[Indexed | None]]] = deque()
            for message in messages:
                running.append((message, pool.submit(self._read, message)))
                if len(running) >= AT_ONCE:
                    self._add(*running.popleft())
            for each in running:
                self._add(*each)
        self._errors |= self._drafts.write()

    def report(self, message: SQSRecord) -> None:
        """Raise what went wrong with a message; otherwise log that it is done."""
        if error := self._errors.get(message.message_id):
            raise error
        version = self._indexed.get(message.message_id)
        count("CallIndexed" if version else "CallNotIndexed")
        if version:
            logger.info("Call indexed", conversation_id=version[0])

    def _read(self, message: SQSRecord) -> Indexed | None:
        announcement = read_announcement(message.body)
        if not self._has_time():
            raise RetryError("too little time is left to read this call")
        return self._prepare(announcement)

    def _prepare(self, announcement: Announcement) -> Indexed | None:
        """None for a test call, and for a call that is erased or has newer rows."""
        if announcement.conversation_id.startswith(TEST_CALLS):
            return None
        source = read_source(announcement, self._bucket, self._records)
        return note(with_heard(source, self._bucket), self._records) if source else None

    def _add(self, message: SQSRecord, read: Future[Indexed | None]) -> None:
        try:
            if indexed := read.result():
                self._drafts.add(indexed.day, indexed.version, indexed.rows(), message.message_id)
                self._indexed[message.message_id] = indexed.version
        except Exception as error:
            self._errors[message.message_id] = error
        if self._drafts.is_full:
            self._errors |= self._drafts.write()
