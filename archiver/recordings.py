"""A call's recording: written into the call's folder, parked until the call arrives, or dropped."""

from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO

from archiver.finals import Finals
from archiver.staged import discard, open_staged
from shared import keys
from shared.bucket import Bucket
from shared.call import Call, Parked
from shared.messages import Announcement
from shared.observability import count, logger
from shared.record import Records
from shared.webhooks import WebhookEvent


class Recordings:
    """Every method may run again. `parked` is removed last, because a retry finds its work by it."""

    def __init__(
        self, bucket: Bucket, records: Records, finals: Finals, announce: Callable[[Announcement], None]
    ) -> None:
        self._bucket, self._records, self._finals, self._announce = bucket, records, finals, announce

    def put_inline(self, call: Call, event: WebhookEvent, audio: BinaryIO, order: str, *, force: bool) -> Call:
        """Write the recording that came inside a transcript; returns the call with it."""
        mp3_key = self._put(call, event, audio, order, force)
        return self._records.save_audio(call.conversation_id, mp3_key, order) or call

    def put_parked(self, call: Call) -> Call:
        """Write the audio that is parked for this call, if any; returns the call with it."""
        if call.parked is None:
            return call
        with open_staged(self._bucket, call.parked.staged_key) as staged:
            event = staged.event() if staged else None
            audio = staged.audio(event) if staged and event else None
            if event and audio:
                return self.finish(call, call.parked, event, audio, force=False)
        # It expired, or was dropped when the call was left out. The audio counts as pending and is fetched.
        logger.warning("The staged body of the parked audio is gone", conversation_id=call.conversation_id)
        return self._records.unpark(call.conversation_id, call.parked.staged_key, {call.parked}) or call

    def finish(self, call: Call, parked: Parked, event: WebhookEvent, audio: BinaryIO, *, force: bool) -> Call:
        """Write parked audio, tag its staged body and older waiting ones, and then remove `parked`."""
        mp3_key = self._put(call, event, audio, parked.order, force)
        tagged = self._tag_waiting(call, parked)
        count("AudioArchived")
        return self._records.finish_audio(call.conversation_id, mp3_key, parked, tagged) or call

    def supersede(self, call: Call, parked: Parked) -> None:
        """The call has this audio or newer audio: tag this staged body and older waiting ones."""
        self._records.unpark(call.conversation_id, parked.staged_key, self._tag_waiting(call, parked))

    def drop(self, call: Call) -> Call:
        """The stack keeps no audio: delete what is parked, and expect no more."""
        self.drop_parked(call)
        dropped = self._records.mark_audio_unavailable(call.conversation_id) if call.audio == "pending" else None
        return dropped or call

    def drop_parked(self, call: Call) -> None:
        """Delete the waiting audio permanently."""
        if call.parked is None:
            return
        for each in call.waiting:
            discard(self._bucket, self._records, each.staged_key)
        self._records.unpark(call.conversation_id, call.parked.staged_key, call.waiting)

    def _put(self, call: Call, event: WebhookEvent, audio: BinaryIO, order: str, force: bool) -> str:
        """Write and announce the MP3; returns its key."""
        self._finals.put("MP3", call, event, audio, order, force=force)
        mp3_key = keys.call_mp3(str(call.folder), call.conversation_id)
        self._announce(Announcement.of(replace(call, audio="archived", mp3_key=mp3_key), "audio_archived"))
        return mp3_key

    def _tag_waiting(self, call: Call, done: Parked) -> set[Parked]:
        """Tag `done` and all waiting audio that is not newer; returns what was tagged."""
        tagged = {each for each in call.waiting if each.order <= done.order} | {done}
        for each in tagged:
            self._bucket.tag_archived(each.staged_key)
        return tagged
