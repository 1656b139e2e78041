"""Fetches recordings that no webhook delivered: too large for a webhook, or lost."""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta

from reconciler.elevenlabs import ElevenLabs
from reconciler.staging import Staging
from shared.call import Call
from shared.errors import ElevenLabsError, NotFoundError
from shared.messages import Audio
from shared.observability import logger
from shared.record import Records
from shared.times import utc

RETRY_FOR = timedelta(days=1)  # since the first failed request for a recording
DOWNLOAD_SHARE = 2 / 3  # of the function's time; the rest is for S3 and the record
QUEUED_FOR = timedelta(hours=3)  # after which AudioQueue has dropped a message: 5 attempts, one per 30 minutes


def fetch_audio(
    conversation_id: str, api: ElevenLabs, records: Records, staging: Staging, now: datetime, seconds_left: float
) -> str:
    """Stage the call's recording if it is still missing; returns the metric to count.

    If the recording is not ready, the hourly pass retries it for 24 hours. After that, or at once if the call was not
    recorded, it is marked as unavailable. Raises KeyRefusedError, because a wrong key says nothing about the recording.
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
        logger.warning("The recording is not available yet", reason=error.reason)
        records.note_no_audio(conversation_id, utc(now), error.reason)
        retry_for = RETRY_FOR if _may_exist(conversation_id, api, error) else timedelta()
        is_final = records.mark_audio_unavailable(conversation_id, utc(now - retry_for))
        return "AudioUnavailable" if is_final else "AudioNotReady"
    return "AudioFetched"


def find_missing(records: Records, ended_before: datetime) -> Iterator[Call]:
    """All archived calls that ended before this time and whose recording is missing."""
    return (each for each in records.find_missing_audio() if awaits_audio(each) and ended_at(each) <= ended_before)


def is_asked_for(call: Call, now: datetime) -> bool:
    """Whether AudioQueue may still contain the call from an earlier pass."""
    return call.audio_asked_at is not None and datetime.fromisoformat(call.audio_asked_at) > now - QUEUED_FOR


def awaits_audio(call: Call, audio: Audio = "pending") -> bool:
    """Whether the archived call's recording is missing, and is not parked either."""
    return call.audio == audio and call.t_order is not None and call.parked is None and call.erased_at is None


def ended_at(call: Call) -> datetime:
    """When an archived call ended. If its start is unknown, the time of archival is used as the start."""
    begun = datetime.fromisoformat(str(call.started_at or call.archived_at))
    return begun + timedelta(seconds=int(call.duration_secs or 0))


def _may_exist(conversation_id: str, api: ElevenLabs, error: ElevenLabsError) -> bool:
    """False if ElevenLabs did not record the call. A missing call counts as True: the key may belong elsewhere."""
    try:
        return not isinstance(error, NotFoundError) or api.conversation(conversation_id)[1].has_audio is not False
    except ElevenLabsError:
        return True
