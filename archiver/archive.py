"""The join: a call's transcript and audio meet in its record, in whichever order they come.

The order of the steps is the protocol. Each step may run twice; a crash between any two is healed by the retry.

Each transcript is judged by itself whether its call is kept. One that does not fit marks the record, unless the call is
archived: then it stays whole. The mark keeps out what else comes about the call, until a transcript that fits lifts it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, BinaryIO, Literal

from archiver.announcer import Announcer
from archiver.caller import find_caller
from archiver.finals import Finals, dump
from archiver.staged import Staged, decode_audio, discard, open_staged
from shared import keys
from shared.bucket import Bucket
from shared.conversation import Conversation
from shared.errors import PoisonError, StorageError
from shared.messages import ClaimCheck
from shared.observability import count, logger
from shared.record import Call, Parked, Records
from shared.selection import Selection
from shared.times import utc
from shared.webhooks import AUDIO, TRANSCRIPTION, WebhookEvent, find_event

SUMMARY_BYTES = 4096
Fate = Literal["done", "parked", "erased", "left_out"]


@dataclass(frozen=True)
class Delivery:
    """A staged body on its way: its claim check, and what is in it."""

    check: ClaimCheck
    staged: Staged

    def order(self, event: WebhookEvent, conversation: Conversation | None = None) -> str:
        """Sorts an object's versions as text: a webhook's word over the API's, then the later event."""
        ended_ms = conversation.ended_ms if conversation else None
        time_ms = event.time_ms if event.time_ms is not None else ended_ms or 0
        return f"{0 if self.staged.origin == 'api' else 1}-{time_ms:013d}-{self.check.delivery_id}"


class Archiver:
    """Archives events, one at a time: what `selection` and `keep_audio` say is to be kept."""

    def __init__(
        self, bucket: Bucket, records: Records, announcer: Announcer, selection: Selection,
        *, keep_audio: bool, gzip_json: bool,
    ) -> None:  # fmt: skip
        self._bucket, self._records, self._announcer = bucket, records, announcer
        self._finals = Finals(bucket, gzip_json=gzip_json)
        self._selection, self._keep_audio = selection, keep_audio

    def archive(self, event: WebhookEvent, delivery: Delivery, now: datetime) -> Fate:
        """Archive one event; says what is to become of its staged body.

        It is done with, or still needed, for its audio is parked, or not to be kept, for its call is erased, or it is
        left out.

        Raises PoisonError for what can never be archived, and anything else for what should be tried again.
        """
        conversation_id = event.conversation_id
        if event.type not in (TRANSCRIPTION, AUDIO):
            return self._archive_other(event, delivery)
        if conversation_id is None:
            raise PoisonError("webhook", "The event names no conversation.")
        if event.type == AUDIO:
            return self._archive_audio(event, conversation_id, delivery, now)
        return self._archive_transcript(event, conversation_id, delivery, now)

    def _archive_transcript(self, event: WebhookEvent, conversation_id: str, delivery: Delivery, now: datetime) -> Fate:
        conversation = Conversation.model_validate(event.data)
        if self._leave_call_out(event, conversation_id, conversation):
            return "left_out"
        order = delivery.order(event, conversation)
        fate: Fate = "done" if self._keep_audio or not event.data.get("full_audio") else "left_out"
        audio = self._inline_audio(event, conversation_id)
        call = self._save(event, conversation_id, conversation, order, delivery.check.staged_key, now)
        if call is None:
            newer = self._leave(conversation_id, delivery, "CallSuperseded")
            if newer and audio:  # the newer transcript may have come without
                self._finals.put_mp3(newer, event, audio, order, force=delivery.check.force)
                self._join(newer, order)
            return fate if newer else "erased"
        try:
            if audio:
                self._finals.put_mp3(call, event, audio, order, force=delivery.check.force)
            drop_audio = bool(audio) or fate == "left_out"
            self._finals.put_json(call, event, order, drop_audio=drop_audio, force=delivery.check.force)
        except StorageError:
            # A storage fault must not hold memories back: they are written from the staged body meanwhile.
            self._announcer.say("transcript_archived", replace(call, json_key=None), delivery.check.staged_key)
            raise
        try:
            call = self._join(call, order if audio else None)
        finally:
            self._announcer.say("transcript_archived", call)
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
        self, event: WebhookEvent, call_id: str, conversation: Conversation, order: str, staged_key: str, now: datetime
    ) -> Call | None:
        """Enter the call in its record, which says whether this is the newest version, and in which folder it lives."""
        caller = find_caller(event.data)
        learnt = {"external_number": caller.number} if caller.number else {}  # a number is never unlearnt
        defaults = {
            "folder": caller.folder,
            "json_key": keys.call_json(caller.folder, call_id),
            "audio": "none" if conversation.has_audio is False else "pending" if self._keep_audio else "unavailable",
            "archived_at": utc(now),
        }
        fields = summarise(conversation) | {"agent_id": event.agent_id, "left_out": None} | learnt
        call = self._records.save_transcript(call_id, fields, defaults, order, staged_key)
        if call and call.audio == "none" and defaults["audio"] == "pending":  # an older version knew of no audio
            call = self._records.expect_audio(call_id) or call
        return call

    def _inline_audio(self, event: WebhookEvent, conversation_id: str) -> BinaryIO | None:
        """The recording that older payloads carry in the transcript. A fault in it never costs the JSON."""
        full_audio = event.data.get("full_audio")
        if full_audio is None or full_audio == "":
            logger.info("No full_audio field found", conversation_id=conversation_id)
            return None
        if not self._keep_audio:
            _leave_out("Audio", conversation_id, "no_audio_kept")
            return None
        audio = decode_audio(full_audio)
        if audio is None:
            count("AudioInvalid")
            logger.error("full_audio is not base64; the JSON keeps it as sent", conversation_id=conversation_id)
        return audio

    def _join(self, call: Call, inline_order: str | None) -> Call:
        """The call with its audio: the transcript's own, just put, and what was parked before."""
        if inline_order:
            mp3_key = self._announcer.say_audio(call)
            call = self._records.save_audio(call.conversation_id, mp3_key, inline_order) or call
        if not self._keep_audio:
            return self._forgo_audio(call)
        if call.parked is None:
            return call
        try:
            with self._open_parked(call.conversation_id, call.parked) as (event, audio, alone):
                # An array may hold what is not done yet: then its own message tags it, or the sweep.
                return self._finish(call, call.parked, event, audio, tag=copies(call, call.parked) if alone else set())
        except PoisonError:
            if not self._records.is_discarded(str(keys.staged_delivery_id(call.parked.staged_key))):
                raise
            return self._records.unpark(call) or call  # it was dropped when the call did not fit yet

    def _forgo_audio(self, call: Call) -> Call:
        """No audio is kept: drop what is parked, and let nobody wait for more."""
        self._drop_parked(call)
        forgone = self._records.give_up_audio(call.conversation_id) if call.audio == "pending" else None
        return forgone or call

    def _drop_parked(self, call: Call) -> None:
        """Delete parked audio for good. `parked` is removed last, for whoever retries finds the work by it."""
        if call.parked is None:
            return
        with open_staged(self._bucket, call.parked.staged_key) as staged:
            is_array = staged is not None and len(staged.elements()) > 1  # its own message drops that, or the sweep
        for key in set() if is_array else copies(call, call.parked):
            discard(self._bucket, self._records, key)
        self._records.unpark(call)

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
            newer = self._leave(conversation_id, delivery, "AudioSuperseded")
            if newer and newer.left_out:
                return _leave_out("Audio", conversation_id, newer.left_out)
            return "done" if newer else "erased"
        if call.folder:
            others = copies(call, parked) - {parked.staged_key} if event.index is None else set()
            self._finish(call, parked, event, audio, tag=others, force=delivery.check.force)
            return "done"
        count("AudioParked")
        logger.info("Audio parked until its call comes", conversation_id=conversation_id)
        return "parked"

    @contextmanager
    def _open_parked(self, conversation_id: str, parked: Parked) -> Iterator[tuple[WebhookEvent, BinaryIO, bool]]:
        """The parked event, its audio, and whether it is alone in its staged body."""
        with open_staged(self._bucket, parked.staged_key) as staged:
            elements = staged.elements() if staged else []
            event = find_event(elements, AUDIO, conversation_id)
            audio = staged.audio(event) if staged and event else None
            if event is None or audio is None:
                raise PoisonError("parked audio", "The staged body of the parked audio is gone.")
            yield event, audio, len(elements) == 1

    def _finish(
        self,
        call: Call,
        parked: Parked,
        event: WebhookEvent,
        audio: BinaryIO,
        *,
        tag: set[str],
        force: bool = False,
    ) -> Call:
        """Put parked audio in its place. `parked` is removed last, for whoever retries finds the work by it."""
        self._finals.put_mp3(call, event, audio, parked.order, force=force)
        mp3_key = self._announcer.say_audio(call)
        for key in tag:
            self._bucket.tag_archived(key)
        finished = self._records.finish_audio(call.conversation_id, mp3_key, parked.order)
        count("AudioArchived")
        return finished or self._records.get(call.conversation_id) or call

    def _archive_other(self, event: WebhookEvent, delivery: Delivery) -> Fate:
        """Keep any other event: in its call's folder if the record knows it, else under its own number."""
        conversation_id = event.conversation_id
        caller = find_caller(event.data)
        if conversation_id is None:
            call = Call("", external_number=caller.number)
            key = keys.other_event(event.type, delivery.check.delivery_id, event.index)
            body = delivery.staged.body if event.index is None else dump(event.element)
        else:
            call = self._records.get(conversation_id) or Call(conversation_id)
            if call.erased_at:
                self._leave(conversation_id, delivery, "EventSuperseded")
                return "erased"
            if reason := call.left_out or self._refusal(event, conversation_id):
                return _leave_out("Event", conversation_id, reason)
            call = replace(call, external_number=call.external_number or caller.number)
            key = keys.event_json(caller.folder, conversation_id, event.type)
            if call.folder not in (None, caller.folder) and not self._bucket.exists(key):  # nothing ever moves
                key = keys.event_json(str(call.folder), conversation_id, event.type)
            body = dump(event.data)
        self._finals.put_event(key, body, event, call, delivery.order(event), force=delivery.check.force)
        count("EventArchived")
        logger.info("Event archived", event_type=event.type, conversation_id=conversation_id)
        return "done"

    def _refusal(self, event: WebhookEvent, conversation_id: str) -> str | None:
        """Why what names an agent, but is no transcript, is left out: its call is not archived, and not to be."""
        reason = self._selection.refusal(event.agent_id)
        call = self._records.get(conversation_id) if reason else None
        return None if call and call.t_order else reason

    def _leave(self, conversation_id: str, delivery: Delivery, metric: str) -> Call | None:
        """A newer version is archived, or the call left out, or erased (None): only its staged body is remembered."""
        newer = self._records.note_staged(conversation_id, delivery.check.staged_key)
        if newer and newer.left_out:
            return newer
        count(metric if newer else "ErasedDropped")
        logger.info("Nothing to archive", conversation_id=conversation_id, erased=newer is None)
        return newer


def _leave_out(what: Literal["Call", "Audio", "Event"], conversation_id: str, reason: str) -> Fate:
    count(f"{what}LeftOut", reason)
    logger.info(f"{what} left out", conversation_id=conversation_id, reason=reason)
    return "left_out"


def copies(call: Call, parked: Parked) -> set[str]:
    """The parked body's staged keys: a repeat of a delivery in another hour has its own, and may have been parked."""
    delivery_id = keys.staged_delivery_id(parked.staged_key)
    return {key for key in call.staged_keys if keys.staged_delivery_id(key) == delivery_id}


def summarise(conversation: Conversation) -> dict[str, Any]:
    """What the record says of a call, besides where it is. None for what ElevenLabs did not say."""
    analysis = conversation.analysis
    return {
        "started_at": utc(conversation.started_at) if conversation.started_at else None,
        "duration_secs": conversation.duration_secs,
        "status": _text(conversation.status),
        "call_successful": _text(analysis.call_successful) if analysis else None,
        "summary": _text(analysis.transcript_summary) if analysis else None,
    }


def _text(text: str | None) -> str | None:
    """What DynamoDB can hold of a text, 4 KB at most."""
    return None if text is None else text.encode(errors="ignore")[:SUMMARY_BYTES].decode(errors="ignore")
