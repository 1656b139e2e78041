"""The join: a call's transcript and audio are combined through its record, in whichever order they arrive.

The order of the steps is the protocol. Each step may run twice, and a retry continues after a crash between any two.
Before a record is changed, the bytes to be written are ready. Before an object is written, its key or its folder is in
the record.

Each transcript decides by itself whether its call is kept. If not, the record is marked as left out, and other events
of the call are dropped until a transcript arrives that is kept. A call that is already archived is never left out.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any, BinaryIO, Literal

from archiver.delivery import Delivery
from archiver.finals import Finals
from archiver.recordings import Recordings
from archiver.staged import decode_audio, discard
from shared import keys
from shared.bucket import Bucket
from shared.call import Call, Parked
from shared.caller import Caller, find_caller
from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError, RetryError, StorageError
from shared.indexes import listing
from shared.messages import Announcement
from shared.observability import count, logger
from shared.parts import restore, without
from shared.record import MOST_STAGED, Records
from shared.selection import Selection
from shared.times import utc
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed
from shared.webhooks import AUDIO, TRANSCRIPTION, WebhookEvent

SUMMARY_BYTES = 4096
UNNAMED_FOR = timedelta(days=60)  # an archived staged body expires after 30
LONGEST_RUN = timedelta(minutes=3)  # the function's 120 s, and a request that takes effect after its end
Outcome = Literal["done", "waits", "tagged", "erased", "left_out"]


class Archiver:
    """Archives one event at a time. `selection` and `keep_audio` say what is kept."""

    def __init__(
        self, bucket: Bucket, records: Records, unnamed: Unnamed, tombstones: Tombstones,
        announce: Callable[[Announcement], None], selection: Selection, *, keep_audio: bool, gzip_json: bool,
    ) -> None:  # fmt: skip
        self._bucket, self._records, self._unnamed, self._tombstones = bucket, records, unnamed, tombstones
        self._announce, self._selection, self._keep_audio = announce, selection, keep_audio
        self._finals = Finals(bucket, gzip_json=gzip_json)
        self._recordings = Recordings(bucket, records, self._finals, announce)

    def archive(self, delivery: Delivery, now: datetime) -> Outcome:
        """Archive one event; the outcome says what happens to its staged body.

        `done`: it can be tagged. `waits`: its audio is parked. `tagged`: it is tagged already. `erased`, `left_out`: it
        must be deleted.

        Raises PoisonError if the event can never be archived; after any other exception it is retried.
        """
        event = delivery.staged.event()
        try:
            return self._archive(event, delivery, now)
        except PoisonError:
            call = self._records.get(event.conversation_id) if event.conversation_id else None
            if call and call.erased_at:
                return _drop_erased(event.conversation_id)
            raise

    def _archive(self, event: WebhookEvent, delivery: Delivery, now: datetime) -> Outcome:
        if event.type not in (TRANSCRIPTION, AUDIO):
            return self._archive_other(event, delivery, now)
        if event.conversation_id is None:
            raise PoisonError("webhook", "The event names no conversation.")
        if event.type == AUDIO:
            return self._archive_audio(event, event.conversation_id, delivery, now)
        return self._archive_transcript(event, event.conversation_id, delivery, now)

    # Transcripts

    def _archive_transcript(
        self, event: WebhookEvent, conversation_id: str, delivery: Delivery, now: datetime
    ) -> Outcome:
        conversation, caller = read_conversation(event.data), find_caller(event.data)
        if self._leave_call_out(event, conversation_id, conversation):
            return "left_out"
        if self._is_erased(caller, delivery.started_at(event, conversation)):
            return self._drop_call_of_erased_caller(conversation_id, caller, delivery, now)
        order, force = delivery.order(event, conversation), delivery.check.force
        audio = self._inline_audio(event, conversation_id)
        drops_audio = bool(event.full_audio) and not self._keep_audio
        body = restore(without("full_audio", event.data) if audio or drops_audio else event.data)
        outcome: Outcome = "left_out" if drops_audio else "done"
        call = self._save(event, conversation_id, conversation, caller, order, delivery.check.staged_key, now)
        if call is None:
            newer = self._add_superseded(conversation_id, delivery, "CallSuperseded", now, caller)
            if newer is None and self._is_erased(caller, delivery.started_at(event, conversation)):
                # Erased since the first look, perhaps by an attempt with this payload that did not end.
                return self._drop_call_of_erased_caller(conversation_id, caller, delivery, now)
            if newer and audio:  # the newer transcript may not contain the recording
                self._add_parked(self._recordings.put_inline(newer, event, audio, order, force=force))
            return outcome if newer else "erased"
        try:
            if audio:
                call = self._recordings.put_inline(call, event, audio, order, force=force)
            self._finals.put("JSON", call, event, BytesIO(body), order, force=force)
        except StorageError:
            # Memories must not wait for the bucket: they are written from the staged body.
            self._announce(Announcement.of(replace(call, json_key=None), source_key=delivery.check.staged_key))
            raise
        try:
            call = self._add_parked(call)
        finally:
            self._announce(Announcement.of(call))
        count("CallArchived")
        logger.info("Call archived", conversation_id=conversation_id, audio=call.audio)
        return outcome

    def _leave_call_out(self, event: WebhookEvent, conversation_id: str, conversation: Conversation) -> bool:
        """If the selection excludes the call, mark it and delete its parked audio; not if it is already archived."""
        reason = self._selection.refusal(event.agent_id, conversation.duration_secs)
        call = self._records.leave_out(conversation_id, reason) if reason else None
        if reason is None or call is None:
            return False
        self._recordings.drop_parked(call)
        _leave_out("Call", conversation_id, reason)
        return True

    def _save(
        self, event: WebhookEvent, call_id: str, conversation: Conversation, caller: Caller, order: str,
        staged_key: str, now: datetime,
    ) -> Call | None:  # fmt: skip
        """Save the call in its record; returns it with its folder. None: this is not the newest version."""
        expected = "none" if conversation.has_audio is False else "pending" if self._keep_audio else "unavailable"
        fields, defaults = describe_call(call_id, event.agent_id, conversation, caller, expected, now)
        call = self._records.save_transcript(call_id, fields, defaults, order, staged_key, caller.numbers, utc(now))
        if call and call.audio == "none" and expected == "pending":  # an older version had no audio
            call = self._records.expect_audio(call_id) or call
        return call

    def _inline_audio(self, event: WebhookEvent, conversation_id: str) -> BinaryIO | None:
        """The recording inside the transcript, as in older payloads. If it is invalid, the JSON is still archived."""
        if not event.full_audio:
            logger.info("No full_audio field found", conversation_id=conversation_id)
            return None
        if not self._keep_audio:
            _leave_out("Audio", conversation_id, "no_audio_kept")
            return None
        audio = decode_audio(event.full_audio)
        if audio is None:
            count("AudioInvalid")
            logger.error("full_audio is not base64; the JSON keeps it as sent", conversation_id=conversation_id)
        return audio

    def _add_parked(self, call: Call) -> Call:
        """The call with the audio that is parked for it, or without any if the stack keeps no audio."""
        return self._recordings.put_parked(call) if self._keep_audio else self._recordings.drop(call)

    # Audio

    def _archive_audio(self, event: WebhookEvent, conversation_id: str, delivery: Delivery, now: datetime) -> Outcome:
        if not self._keep_audio:
            self._recordings.drop(self._records.get(conversation_id) or Call(conversation_id))
            return _leave_out("Audio", conversation_id, "no_audio_kept")
        if reason := self._refusal(event, conversation_id):
            return _leave_out("Audio", conversation_id, reason)
        audio = delivery.staged.audio(event)
        if audio is None:
            raise PoisonError("audio", "full_audio is missing, empty or not base64.")
        parked = Parked(delivery.check.staged_key, delivery.order(event))
        call = self._records.park_audio(conversation_id, parked, utc(now), force=delivery.check.force)
        if call is None:
            return self._add_superseded_audio(conversation_id, parked, delivery, now)
        if call.folder:
            self._recordings.finish(call, parked, event, audio, force=delivery.check.force)
            return "tagged"
        count("AudioParked")
        logger.info("Audio parked until its call arrives", conversation_id=conversation_id)
        return "waits"

    def _add_superseded_audio(self, conversation_id: str, parked: Parked, delivery: Delivery, now: datetime) -> Outcome:
        """The same or newer audio is archived or parked: only the staged body is recorded, and then tagged."""
        newer = self._add_superseded(conversation_id, delivery, "AudioSuperseded", now)
        if newer is None:
            return "erased"
        if newer.left_out:
            return _leave_out("Audio", conversation_id, newer.left_out)
        self._recordings.supersede(newer, parked)
        return "tagged"

    # Other events

    def _archive_other(self, event: WebhookEvent, delivery: Delivery, now: datetime) -> Outcome:
        """Archive any other event in its call's folder, or under its own number if the call is unknown."""
        conversation_id, caller = event.conversation_id, find_caller(event.data)
        if self._is_erased(caller, delivery.started_at(event, read_conversation(event.data))):
            return _drop_erased(conversation_id)
        order, force = delivery.order(event), delivery.check.force
        if conversation_id is None:
            key = keys.other_event(event.type, delivery.check.delivery_id)
            no_call = Call("", external_number=caller.number)
            self._unnamed.note(delivery.check.staged_key, until=now + UNNAMED_FOR)
            self._finals.put_event(key, delivery.staged.body, event, no_call, order, force=force)
        else:
            call = self._records.get(conversation_id) or Call(conversation_id)
            if reason := call.left_out or self._refusal(event, conversation_id):
                return _leave_out("Event", conversation_id, reason)
            key = keys.event_json(caller.folder, conversation_id, event.type)
            if call.folder not in (None, caller.folder) and not self._bucket.exists(key):  # objects never move
                key = keys.event_json(str(call.folder), conversation_id, event.type)
            if self._add_staged(conversation_id, delivery, now, caller, key) is None:
                return _drop_erased(conversation_id)
            call = replace(call, external_number=call.external_number or caller.number)
            self._finals.put_event(key, restore(event.data), event, call, order, force=force)
        count("EventArchived")
        logger.info("Event archived", event_type=event.type, conversation_id=conversation_id)
        return "done"

    # Superseded, left out, erased

    def _refusal(self, event: WebhookEvent, conversation_id: str) -> str | None:
        """Why audio or another event of this agent is left out. Not if the call itself is archived."""
        reason = self._selection.refusal(event.agent_id)
        call = self._records.get(conversation_id) if reason else None
        return None if call and call.t_order else reason

    def _add_superseded(
        self, conversation_id: str, delivery: Delivery, metric: str, now: datetime, caller: Caller | None = None
    ) -> Call | None:
        """A newer version is archived, or the call is left out: only record the staged body. None: it is erased."""
        newer = self._add_staged(conversation_id, delivery, now, caller)
        if newer is None:
            _drop_erased(conversation_id)
        elif not newer.left_out:
            count(metric)
            logger.info("Nothing to archive", conversation_id=conversation_id)
        return newer

    def _add_staged(
        self, conversation_id: str, delivery: Delivery, now: datetime, caller: Caller | None,
        event_key: str | None = None,
    ) -> Call | None:  # fmt: skip
        """Record the staged body for an erasure. None: the call is erased. Raises PoisonError if the record is full."""
        numbers = caller.numbers if caller else ()
        call = self._records.add_staged(conversation_id, delivery.check.staged_key, utc(now), numbers, event_key)
        if call is None:
            known = self._records.get(conversation_id)
            if known and not known.erased_at:
                raise PoisonError("record", f"The call's record is full: {MOST_STAGED:,} staged bodies, or 400 KB.")
        return call

    def _is_erased(self, caller: Caller, started_at: datetime) -> bool:
        """Whether the caller was erased after the call. Only the main number counts: others may be someone else's."""
        erased_at = self._tombstones.erased_at(caller.digits) if caller.digits else None
        return erased_at is not None and started_at <= erased_at

    def _drop_call_of_erased_caller(
        self, conversation_id: str, caller: Caller, delivery: Delivery, now: datetime
    ) -> Outcome:
        """A call from before its caller's erasure arrives late: delete its earlier events, and write a tombstone.

        If the call is already archived, or has another caller's number too, an erasure finds it by its number. Raises
        RetryError while another attempt may still write an event that the record names, and StorageError if an event
        may not be deleted: the record is kept until then.
        """
        call = self._records.get(conversation_id) or Call(conversation_id)
        if call.t_order or call.numbers - set(caller.numbers):
            self._add_staged(conversation_id, delivery, now, caller)
        else:
            call = self._records.erase(conversation_id, utc(now))
            if call.event_keys and now < datetime.fromisoformat(str(call.erased_at)) + LONGEST_RUN:
                raise RetryError("an event of an erased call may still be written; the next attempt deletes it")
            for key in call.staged_keys:
                discard(self._bucket, self._records, key)
            events = [version for key in call.event_keys for version in self._bucket.versions(key)]
            if [version for version in events if not self._bucket.delete_for_good(version)]:
                raise StorageError("An erased call's event cannot be deleted: Object Lock or a policy forbids it")
            self._records.write_tombstone(call)  # last, because a retry finds the rest by the record
        return _drop_erased(conversation_id)


def _drop_erased(conversation_id: str | None) -> Outcome:
    count("ErasedDropped")
    logger.info("Nothing to archive: it is erased", conversation_id=conversation_id)
    return "erased"


def _leave_out(what: Literal["Call", "Audio", "Event"], conversation_id: str, reason: str) -> Outcome:
    count(f"{what}LeftOut", reason)
    logger.info(f"{what} left out", conversation_id=conversation_id, reason=reason)
    return "left_out"


def describe_call(
    call_id: str, agent_id: str | None, conversation: Conversation, caller: Caller, audio: str, archived_at: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a call's record, and those that an earlier version has set for good.

    `audio` is what the record says until there is a recording: none, pending or unavailable.
    """
    known = {"external_number": caller.number, "caller": caller.digits}  # a known number is never removed
    removed = dict.fromkeys(("left_out", "missing_since", "missing_reason", "given_up_at"))
    fields = summarise(conversation) | removed | {"agent_id": agent_id}
    fields |= {name: value for name, value in known.items() if value}
    defaults = {
        "folder": caller.folder,
        "json_key": keys.call_json(caller.folder, call_id),
        "audio": audio,
        "archived_at": utc(archived_at),
    } | ({"open_audio": "pending"} if audio == "pending" else {})
    listed = listing(call_id, agent_id, utc(conversation.started_at or archived_at))
    return (fields | listed, defaults) if conversation.started_at else (fields, defaults | listed)


def summarise(conversation: Conversation) -> dict[str, Any]:
    """The record's fields about the call itself. None for values that ElevenLabs did not send."""
    return {
        "started_at": utc(conversation.started_at) if conversation.started_at else None,
        "duration_secs": conversation.duration_secs,
        "status": _shorten(conversation.status),
        "call_successful": _shorten(conversation.call_successful),
        "title": _shorten(conversation.title),
        "summary": _shorten(conversation.summary),
        "cost": conversation.cost,
    }


def _shorten(text: str | None) -> str | None:
    """A text as DynamoDB can store it, at most 4 KB."""
    return None if text is None else text.encode(errors="ignore")[:SUMMARY_BYTES].decode(errors="ignore")
