"""The join: a call's transcript and audio meet in its record, in whichever order they come.

The order of the steps is the protocol. Each step may run twice; a crash between any two is healed by the retry. Nothing
enters the record before what is to be written exists as bytes, and no object is written before its key, or the folder
that it goes to, is in the record.

Each transcript is judged by itself whether its call is kept. One that does not fit marks the record, unless the call is
archived: then it stays whole. The mark keeps out what else comes about the call, until a transcript that fits lifts it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO, Literal

from archiver.finals import Finals
from archiver.staged import Staged, decode_audio, discard, open_staged
from shared import keys
from shared.bucket import Bucket
from shared.caller import Caller, find_caller
from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError, StorageError
from shared.messages import Announcement, ClaimCheck
from shared.observability import count, logger
from shared.parts import restore, without
from shared.record import MOST_STAGED, Call, Parked, Records
from shared.selection import Selection
from shared.times import utc
from shared.tombstones import Tombstones
from shared.unnamed import Unnamed
from shared.webhooks import AUDIO, TRANSCRIPTION, WebhookEvent

SUMMARY_BYTES = 4096
UNNAMED_FOR = timedelta(days=60)  # a finished body expires after 30
Fate = Literal["done", "waits", "tagged", "erased", "left_out"]


@dataclass(frozen=True)
class Delivery:
    """A staged body on its way: its claim check, and what is in it."""

    check: ClaimCheck
    staged: Staged

    def order(self, event: WebhookEvent, conversation: Conversation | None = None) -> str:
        """Sorts an object's versions as text: a webhook's word over the API's, then the later event.

        A recording that was fetched has no time. There the longer one is the better one.
        """
        ended_ms = conversation.ended_ms if conversation else None
        times = self.staged.length, event.time_ms, ended_ms, 0
        time_ms = next(time for time in times if time is not None)
        return f"{0 if self.staged.origin == 'api' else 1}-{time_ms:013d}-{self.check.delivery_id}"

    def began(self, event: WebhookEvent, conversation: Conversation | None = None) -> datetime:
        """When its call began; else when it was told of, or came."""
        if conversation and conversation.started_at:
            return conversation.started_at
        if event.time_ms is not None:
            return datetime.fromtimestamp(event.time_ms / 1000, timezone.utc)
        return datetime.fromisoformat(self.check.received_at).astimezone(timezone.utc)


class Archiver:
    """Archives events, one at a time: what `selection` and `keep_audio` say is to be kept."""

    def __init__(
        self, bucket: Bucket, records: Records, unnamed: Unnamed, tombstones: Tombstones,
        announce: Callable[[Announcement], None], selection: Selection, *, keep_audio: bool, gzip_json: bool,
    ) -> None:  # fmt: skip
        self._bucket, self._records, self._unnamed, self._tombstones = bucket, records, unnamed, tombstones
        self._announce = announce
        self._finals = Finals(bucket, gzip_json=gzip_json)
        self._selection, self._keep_audio = selection, keep_audio

    def archive(self, delivery: Delivery, now: datetime) -> Fate:
        """Archive one event; says what is to become of its staged body.

        It is done with, or waits with its audio for the call, or was tagged with others; or it is not to be kept, for
        its call, or its caller, is erased or left out.

        Raises PoisonError for what can never be archived, and anything else for what should be tried again.
        """
        event = delivery.staged.event()
        try:
            return self._archive(event, delivery, now)
        except PoisonError:
            call = self._records.get(event.conversation_id) if event.conversation_id else None
            if call and call.erased_at:
                return _drop(event.conversation_id)
            raise

    def _archive(self, event: WebhookEvent, delivery: Delivery, now: datetime) -> Fate:
        if event.type not in (TRANSCRIPTION, AUDIO):
            return self._archive_other(event, delivery, now)
        if event.conversation_id is None:
            raise PoisonError("webhook", "The event names no conversation.")
        if event.type == AUDIO:
            return self._archive_audio(event, event.conversation_id, delivery, now)
        return self._archive_transcript(event, event.conversation_id, delivery, now)

    # Transcripts

    def _archive_transcript(self, event: WebhookEvent, conversation_id: str, delivery: Delivery, now: datetime) -> Fate:
        conversation, caller = read_conversation(event.data), find_caller(event.data)
        if self._leave_call_out(event, conversation_id, conversation):
            return "left_out"
        if self._is_erased(caller, delivery.began(event, conversation)):
            return self._entomb(conversation_id, caller, delivery, now)
        order, force = delivery.order(event, conversation), delivery.check.force
        audio = self._inline_audio(event, conversation_id)
        drops_audio = bool(event.full_audio) and not self._keep_audio
        body = restore(without("full_audio", event.data) if audio or drops_audio else event.data)
        fate: Fate = "left_out" if drops_audio else "done"
        call = self._save(event, conversation_id, conversation, caller, order, delivery.check.staged_key, now)
        if call is None:
            newer = self._leave(conversation_id, delivery, "CallSuperseded", now, caller)
            if newer and audio:  # the newer transcript may have come without
                self._join(self._put_inline(newer, event, audio, order, force))
            return fate if newer else "erased"
        try:
            if audio:
                call = self._put_inline(call, event, audio, order, force)
            self._finals.put_json(call, body, event, order, force=force)
        except StorageError:
            # A storage fault must not hold memories back: they are written from the staged body meanwhile.
            self._announce(Announcement.of(replace(call, json_key=None), source_key=delivery.check.staged_key))
            raise
        try:
            call = self._join(call)
        finally:
            self._announce(Announcement.of(call))
        count("CallArchived")
        logger.info("Call archived", conversation_id=conversation_id, audio=call.audio)
        return fate

    def _leave_call_out(self, event: WebhookEvent, conversation_id: str, conversation: Conversation) -> bool:
        """Mark a call that does not fit, and drop the audio that waits for it. What is archived already stays whole."""
        reason = self._selection.refusal(event.agent_id, conversation.duration_secs)
        call = self._records.leave_out(conversation_id, reason) if reason else None
        if reason is None or call is None:
            return False
        self._drop_parked(call)
        _leave_out("Call", conversation_id, reason)
        return True

    def _save(
        self, event: WebhookEvent, call_id: str, conversation: Conversation, caller: Caller, order: str,
        staged_key: str, now: datetime,
    ) -> Call | None:  # fmt: skip
        """Enter the call in its record, which says whether this is the newest version, and in which folder it lives."""
        learnt = {"external_number": caller.number, "caller": caller.digits}  # a number is never unlearnt
        defaults = {
            "folder": caller.folder,
            "json_key": keys.call_json(caller.folder, call_id),
            "audio": "none" if conversation.has_audio is False else "pending" if self._keep_audio else "unavailable",
            "archived_at": utc(now),
        }
        no_more = dict.fromkeys(("left_out", "missing_since", "missing_reason", "given_up_at"))
        fields = summarise(conversation) | no_more | {"agent_id": event.agent_id}
        fields |= {name: value for name, value in learnt.items() if value}
        call = self._records.save_transcript(call_id, fields, defaults, order, staged_key, caller.numbers)
        if call and call.audio == "none" and defaults["audio"] == "pending":  # an older version knew of no audio
            call = self._records.expect_audio(call_id) or call
        return self._noted(call, now)

    def _inline_audio(self, event: WebhookEvent, conversation_id: str) -> BinaryIO | None:
        """The recording that older payloads carry in the transcript. A fault in it never costs the JSON."""
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

    def _put_inline(self, call: Call, event: WebhookEvent, audio: BinaryIO, order: str, force: bool) -> Call:
        """The call with the recording that came inside a transcript."""
        self._finals.put_mp3(call, event, audio, order, force=force)
        mp3_key = self._announce_audio(call)
        return self._records.save_audio(call.conversation_id, mp3_key, order) or call

    def _join(self, call: Call) -> Call:
        """The call with the audio that was parked before."""
        if not self._keep_audio:
            return self._forgo_audio(call)
        if call.parked is None:
            return call
        with open_staged(self._bucket, call.parked.staged_key) as staged:
            event = staged.event() if staged else None
            audio = staged.audio(event) if staged and event else None
            if event and audio:
                return self._finish(call, call.parked, event, audio, force=False)
        # Dropped when the call did not fit yet, or expired: the audio counts as pending, and is fetched.
        logger.warning("The staged body of the parked audio is gone", conversation_id=call.conversation_id)
        return self._records.unpark(call.conversation_id, call.parked.staged_key, {call.parked}) or call

    # Audio

    def _archive_audio(self, event: WebhookEvent, conversation_id: str, delivery: Delivery, now: datetime) -> Fate:
        if not self._keep_audio:
            self._forgo_audio(self._records.get(conversation_id) or Call(conversation_id))
            return _leave_out("Audio", conversation_id, "no_audio_kept")
        if reason := self._refusal(event, conversation_id):
            return _leave_out("Audio", conversation_id, reason)
        audio = delivery.staged.audio(event)
        if audio is None:
            raise PoisonError("audio", "full_audio is missing, empty or not base64.")
        parked = Parked(delivery.check.staged_key, delivery.order(event))
        call = self._records.park_audio(conversation_id, parked, utc(now), force=delivery.check.force)
        if call is None:
            return self._leave_audio(conversation_id, parked, delivery, now)
        if call.folder:
            self._finish(call, parked, event, audio, force=delivery.check.force)
            return "tagged"
        count("AudioParked")
        logger.info("Audio parked until its call comes", conversation_id=conversation_id)
        return "waits"

    def _leave_audio(self, conversation_id: str, parked: Parked, delivery: Delivery, now: datetime) -> Fate:
        """This recording or a newer one is archived or parked: this one, and older ones that wait, are done with."""
        newer = self._leave(conversation_id, delivery, "AudioSuperseded", now)
        if newer is None:
            return "erased"
        if newer.left_out:
            return _leave_out("Audio", conversation_id, newer.left_out)
        self._records.unpark(conversation_id, parked.staged_key, self._tag_waiting(newer, parked))
        return "tagged"

    def _finish(self, call: Call, parked: Parked, event: WebhookEvent, audio: BinaryIO, *, force: bool) -> Call:
        """Put parked audio in its place. `parked` is removed last, for whoever retries finds the work by it."""
        self._finals.put_mp3(call, event, audio, parked.order, force=force)
        mp3_key = self._announce_audio(call)
        tagged = self._tag_waiting(call, parked)
        count("AudioArchived")
        return self._records.finish_audio(call.conversation_id, mp3_key, parked, tagged) or call

    def _tag_waiting(self, call: Call, done: Parked) -> set[Parked]:
        """Tag what waits and is not newer, and `done` itself; returns what was tagged."""
        tagged = {each for each in call.waiting if each.order <= done.order} | {done}
        for each in tagged:
            self._bucket.tag_archived(each.staged_key)
        return tagged

    def _forgo_audio(self, call: Call) -> Call:
        """No audio is kept: drop what is parked, and let nobody wait for more."""
        self._drop_parked(call)
        forgone = self._records.give_up_audio(call.conversation_id) if call.audio == "pending" else None
        return forgone or call

    def _drop_parked(self, call: Call) -> None:
        """Delete waiting audio for good. `parked` is removed last, for whoever retries finds the work by it."""
        if call.parked is None:
            return
        for each in call.waiting:
            discard(self._bucket, self._records, each.staged_key)
        self._records.unpark(call.conversation_id, call.parked.staged_key, call.waiting)

    def _announce_audio(self, call: Call) -> str:
        """Announce the audio that was just put into the call's folder, and return its key."""
        mp3_key = keys.call_mp3(str(call.folder), call.conversation_id)
        self._announce(Announcement.of(replace(call, audio="archived", mp3_key=mp3_key), "audio_archived"))
        return mp3_key

    # Other events

    def _archive_other(self, event: WebhookEvent, delivery: Delivery, now: datetime) -> Fate:
        """Keep any other event: in its call's folder if the record knows it, else under its own number."""
        conversation_id, caller = event.conversation_id, find_caller(event.data)
        if self._is_erased(caller, delivery.began(event, read_conversation(event.data))):
            return _drop(conversation_id)
        order, force = delivery.order(event), delivery.check.force
        if conversation_id is None:
            key = keys.other_event(event.type, delivery.check.delivery_id)
            nobody = Call("", external_number=caller.number)
            self._unnamed.note(delivery.check.staged_key, until=now + UNNAMED_FOR)
            self._finals.put_event(key, delivery.staged.body, event, nobody, order, force=force)
        else:
            call = self._records.get(conversation_id) or Call(conversation_id)
            if reason := call.left_out or self._refusal(event, conversation_id):
                return _leave_out("Event", conversation_id, reason)
            key = keys.event_json(caller.folder, conversation_id, event.type)
            if call.folder not in (None, caller.folder) and not self._bucket.exists(key):  # nothing ever moves
                key = keys.event_json(str(call.folder), conversation_id, event.type)
            if self._enter(conversation_id, delivery, now, caller, key) is None:
                return _drop(conversation_id)
            call = replace(call, external_number=call.external_number or caller.number)
            self._finals.put_event(key, restore(event.data), event, call, order, force=force)
        count("EventArchived")
        logger.info("Event archived", event_type=event.type, conversation_id=conversation_id)
        return "done"

    # What is not kept

    def _refusal(self, event: WebhookEvent, conversation_id: str) -> str | None:
        """Why what names an agent, but is no transcript, is left out: its call is not archived, and not to be."""
        reason = self._selection.refusal(event.agent_id)
        call = self._records.get(conversation_id) if reason else None
        return None if call and call.t_order else reason

    def _leave(
        self, conversation_id: str, delivery: Delivery, metric: str, now: datetime, caller: Caller | None = None
    ) -> Call | None:
        """A newer version is archived, or the call left out, or erased (None): only its staged body is remembered."""
        newer = self._enter(conversation_id, delivery, now, caller)
        if newer is None:
            _drop(conversation_id)
        elif not newer.left_out:
            count(metric)
            logger.info("Nothing to archive", conversation_id=conversation_id)
        return newer

    def _enter(
        self,
        conversation_id: str,
        delivery: Delivery,
        now: datetime,
        caller: Caller | None,
        event_key: str | None = None,
    ) -> Call | None:
        """Let an erasure find the body by the call's record. None: it is erased. Raises PoisonError if it is full."""
        numbers = caller.numbers if caller else ()
        call = self._records.enter(conversation_id, delivery.check.staged_key, numbers, event_key)
        if call is None:
            known = self._records.get(conversation_id)
            if known and not known.erased_at:
                raise PoisonError(
                    "record", f"The call has {MOST_STAGED:,} staged bodies, or as much else: its record holds no more."
                )
        return self._noted(call, now)

    def _noted(self, call: Call | None, now: datetime) -> Call | None:
        if call and call.numbers - {call.caller}:
            self._records.note_numbers(call, utc(now))
        return call

    def _is_erased(self, caller: Caller, began: datetime) -> bool:
        """Whether the caller was erased since then. A number in a less sure place may be somebody else's."""
        erased_at = self._tombstones.erased_at(caller.digits) if caller.digits else None
        return erased_at is not None and began <= erased_at

    def _entomb(self, conversation_id: str, caller: Caller, delivery: Delivery, now: datetime) -> Fate:
        """A call of before its caller's erasure comes late: delete what came of it earlier, and let no more come.

        What is archived already, or another caller's too, is left to an erasure, which finds it by the number.
        """
        call = self._records.get(conversation_id) or Call(conversation_id)
        if call.t_order or call.numbers - set(caller.numbers):
            self._enter(conversation_id, delivery, now, caller)
        else:
            call = self._records.erase(conversation_id, utc(now))
            for key in call.staged_keys:
                discard(self._bucket, self._records, key)
            for version in (each for key in call.event_keys for each in self._bucket.versions(key)):
                self._bucket.delete_for_good(version)
            self._records.bury(call)  # last, for a retry finds the rest by it
        return _drop(conversation_id)


def _drop(conversation_id: str | None) -> Fate:
    count("ErasedDropped")
    logger.info("Nothing to archive: it is erased", conversation_id=conversation_id)
    return "erased"


def _leave_out(what: Literal["Call", "Audio", "Event"], conversation_id: str, reason: str) -> Fate:
    count(f"{what}LeftOut", reason)
    logger.info(f"{what} left out", conversation_id=conversation_id, reason=reason)
    return "left_out"


def summarise(conversation: Conversation) -> dict[str, Any]:
    """What the record says of a call, besides where it is. None for what ElevenLabs did not say."""
    return {
        "started_at": utc(conversation.started_at) if conversation.started_at else None,
        "duration_secs": conversation.duration_secs,
        "status": _text(conversation.status),
        "call_successful": _text(conversation.call_successful),
        "summary": _text(conversation.summary),
    }


def _text(text: str | None) -> str | None:
    """What DynamoDB can hold of a text, 4 KB at most."""
    return None if text is None else text.encode(errors="ignore")[:SUMMARY_BYTES].decode(errors="ignore")
