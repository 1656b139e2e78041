"""Fetches recordings that no webhook brought: those too long for one, and those that it lost."""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.elevenlabs import ElevenLabs
from reconciler.staging import Staging
from shared.errors import ElevenLabsError, NotFoundError
from shared.messages import Audio
from shared.observability import logger
from shared.record import Call, Records
from shared.times import utc

PATIENCE = timedelta(days=1)  # with one recording, since it was first asked for in vain
DOWNLOAD_SHARE = 2 / 3  # of the function's time; the rest is for S3 and the notes
UNDER_WAY = timedelta(hours=3)  # until a message of AudioQueue has failed for good: 5 attempts, every 30 minutes


def fetch_audio(
    conversation_id: str, api: ElevenLabs, records: Records, staging: Staging, now: datetime, seconds_left: float
) -> str:
    """Stage the call's recording, if it is still missing; returns the metric of what became of it.

    A recording that cannot be had stays pending, whatever the fault, and the hourly pass asks for it again. After a day
    it is given up; at once if the call was not recorded. Raises KeyRefusedError: a wrong key is no recording's fault.
    """
    call = records.get(conversation_id)
    if call is None or not awaits_audio(call):
        return "AudioNotNeeded"
    try:
        with tempfile.TemporaryFile() as file:
            api.download(conversation_id, file, seconds_left * DOWNLOAD_SHARE)
            staging.stage_recording(conversation_id, call.agent_id, file, now)
    except ElevenLabsError as error:
        if error.status == 401:
            raise
        logger.warning("The recording cannot be had yet", reason=error.reason)
        records.note_no_audio(conversation_id, utc(now), error.reason)
        patience = PATIENCE if _may_come(conversation_id, api, error) else timedelta()
        return "AudioUnavailable" if records.give_up_audio(conversation_id, utc(now - patience)) else "AudioNotReady"
    return "AudioFetched"


def find_missing(records: Records, ended_before: datetime, audio: Audio = "pending") -> Iterator[Call]:
    """The archived calls whose recording is missing so long after their end, however old."""
    return (
        each for each in records.find_by_audio(audio) if awaits_audio(each, audio) and ended_at(each) <= ended_before
    )


def is_asked_for(call: Call, now: datetime) -> bool:
    """Whether AudioQueue may still hold the call from an earlier pass."""
    return call.audio_asked_at is not None and datetime.fromisoformat(call.audio_asked_at) > now - UNDER_WAY


def awaits_audio(call: Call, audio: Audio = "pending") -> bool:
    """Whether the archived call has a recording that is neither archived nor on its way from a webhook."""
    return call.audio == audio and call.t_order is not None and call.parked is None and call.erased_at is None


def ended_at(call: Call) -> datetime:
    """When an archived call ended; when it was archived, if ElevenLabs did not say when it began."""
    begun = datetime.fromisoformat(str(call.started_at or call.archived_at))
    return begun + timedelta(seconds=int(call.duration_secs or 0))


def _may_come(conversation_id: str, api: ElevenLabs, error: ElevenLabsError) -> bool:
    """Not if ElevenLabs did not record the call. Whether it was deleted a wrong key could not tell."""
    try:
        return not isinstance(error, NotFoundError) or api.conversation(conversation_id)[1].has_audio is not False
    except ElevenLabsError:
        return True
