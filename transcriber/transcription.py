"""One recording's way: a job is started, its result is copied into the call's folder, and its traces are removed.

The record says what stands before anything is done, so that an erasure and a retry find it. Every step may run again.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Literal

from aws_lambda_powertools.metrics import MetricUnit

from shared import keys
from shared.bucket import Bucket, Version
from shared.call import Call, Transcription
from shared.errors import PoisonError, RetryError
from shared.messages import Announcement
from shared.observability import logger, metrics
from shared.record import Records
from shared.times import utc
from shared.transcription import is_without_words, length_of
from shared.webhooks import read_archived
from transcriber.jobs import STEP, Job, Jobs

Outcome = Literal["started", "running", "busy", "done", "failed", "not_needed", "dropped"]
LEAST_BILLED = 15  # seconds of each job


class Transcriber:
    """`reject` sends an announcement to the dead-letter queue, `index` to the queue of the indexer."""

    def __init__(
        self, bucket: Bucket, records: Records, jobs: Jobs, reject: Callable[[Announcement, PoisonError], None],
        index: Callable[[Announcement], None], *, only_missing: bool,
    ) -> None:  # fmt: skip
        self._bucket, self._records, self._jobs = bucket, records, jobs
        self._reject, self._index, self._only_missing = reject, index, only_missing

    # A recording was announced

    def request(self, conversation_id: str, now: datetime) -> tuple[Outcome, str]:
        """Start the transcription of a call's recording, if it needs one; returns the job's name too."""
        call = self._records.get(conversation_id)
        recording = self._recording_order(call) if call else None
        if call is None or recording is None or self._is_needless(call, recording):
            return "not_needed", ""
        before = call.transcription
        wanted = self._next_attempt(call, recording, now)
        if self._records.note_transcription(conversation_id, wanted, before) is None:
            raise RetryError("the call's record has changed; the next attempt reads it again")
        try:
            return self._jobs.start(wanted.job, keys.call_mp3(str(call.folder), conversation_id)), wanted.job
        except PoisonError as error:
            self._fail(call, wanted, error.error)
            return "failed", wanted.job

    def _recording_order(self, call: Call) -> str | None:
        """The `order` of the recording that is in the archive. None if the call is erased, has none, or is a test."""
        is_test = call.conversation_id.startswith(keys.TEST_CALLS)
        if is_test or call.erased_at or call.left_out or not call.folder:
            return None
        stored = self._bucket.stored(keys.call_mp3(call.folder, call.conversation_id))
        return stored.order if stored else None

    def _is_needless(self, call: Call, recording: str) -> bool:
        last = call.transcription
        if last and last.order == recording and last.state != "failed":
            return last.state == "done"
        return self._only_missing and self._has_words(call)

    def _has_words(self, call: Call) -> bool:
        """Whether ElevenLabs sent words. Raises RetryError while the JSON is not written."""
        stored = self._bucket.read(keys.call_json(str(call.folder), call.conversation_id))
        if stored is None:
            raise RetryError("the call's JSON is not in the archive yet")
        return not is_without_words(read_archived(stored[0]))

    def _next_attempt(self, call: Call, recording: str, now: datetime) -> Transcription:
        """The same attempt while it is open. After a failure another one, because a job's name is used only once."""
        last = call.transcription if call.transcription and call.transcription.order == recording else None
        if last and last.state == "started":
            return last
        attempt = int(last.attempt) + 1 if last else 1
        job = self._jobs.name(call.conversation_id, recording, attempt)
        return Transcription("started", job, recording, attempt, utc(now))

    # A job has ended, or it is time to look

    def settle(self, name: str) -> Outcome:
        """Finish a job of this stack that has ended."""
        job = self._jobs.find(name)  # before the record: a job is deleted after the record says `done` or `failed`
        call = self._records.get(str(self._jobs.call_of(name)))
        if job and job.is_running:
            return "running"
        if call is None or call.erased_at or not call.transcription or call.transcription.job != name:
            self._clear(name)
            return "dropped"
        if call.transcription.state == "done" or (call.transcription.state == "failed" and job is None):
            self._clear(name)
            return "not_needed"
        return self._finish(call, call.transcription, job)

    def _finish(self, call: Call, mine: Transcription, job: Job | None) -> Outcome:
        if job is None or not job.is_completed:
            self._fail(call, mine, job.reason if job else "Amazon Transcribe does not know the job.")
            return "failed"
        written = {version.key.rpartition(".")[2]: version.key for version in self._working(mine.job)}
        result = self._bucket.read(written["json"]) if "json" in written else None
        if result is None:
            raise RetryError("the result of the job is not there; the next attempt looks again")
        subtitles = self._bucket.read(written["vtt"]) if "vtt" in written else None
        if not self._keep(call, mine, result[0], subtitles[0] if subtitles else b""):
            self._clear(mine.job)
            return "dropped"
        count_seconds(max(length_of(result[0]), call.duration_secs or 0))
        self._clear(mine.job)
        return "done"

    def _keep(self, call: Call, mine: Transcription, result: bytes, subtitles: bytes) -> bool:
        """Write the results into the call's folder. False: the call is erased, or has a newer recording."""
        folder = str(call.folder)
        objects = {keys.call_transcription(folder, call.conversation_id): (result, "application/json")}
        if subtitles:
            objects[keys.call_subtitles(folder, call.conversation_id)] = (subtitles, "text/vtt")
        if not self._records.note_transcription(call.conversation_id, mine, mine, objects):
            return False
        for key, (body, content_type) in objects.items():
            self._bucket.put_newest(key, BytesIO(body), content_type, describe(call, mine), force=True)
        if call.t_order:
            self._index(Announcement.of(call))
        done = replace(mine, state="done")
        return self._records.note_transcription(call.conversation_id, done, mine) is not None

    def _fail(self, call: Call, mine: Transcription, reason: str) -> None:
        """Note the reason, and send the call to the dead-letter queue: a redrive starts another attempt.

        The job goes last: whoever finds it although the record says `failed` sends the message again.
        """
        failed = replace(mine, state="failed", reason=reason)
        if mine != failed and not self._records.note_transcription(call.conversation_id, failed, mine):
            raise RetryError("the call's record has changed; the next attempt reads it again")
        mp3_key = keys.call_mp3(str(call.folder), call.conversation_id)
        announced = replace(call, audio="archived", mp3_key=mp3_key)
        self._reject(Announcement.of(announced, "audio_archived"), PoisonError(STEP, reason))
        self._clear(mine.job)

    # Traces

    def _working(self, name: str) -> list[Version]:
        return [each for each in self._bucket.versions(self._jobs.folder(name)) if not each.key.endswith(".temp")]

    def _clear(self, name: str) -> None:
        """Delete the job's working files for good, and then the job itself: its record there names the recording."""
        for version in self._bucket.versions(self._jobs.folder(name)):
            if not self._bucket.delete_for_good(version):
                logger.warning("A working file may not be deleted yet", reason="Object Lock or a policy")
        self._jobs.delete(name)


def count_seconds(seconds: float) -> None:
    """Count what Amazon Transcribe bills: its seconds, and LEAST_BILLED at least."""
    metrics.add_metric("TranscribedSeconds", MetricUnit.Seconds, max(round(seconds), LEAST_BILLED))


def describe(call: Call, mine: Transcription) -> dict[str, str]:
    """Object metadata, from checked values only, as the archiver has it. `ops reindex` restores the record by it."""
    values = {
        "external_number": call.external_number, "conversation_id": call.conversation_id, "agent_id": call.agent_id,
        "timestamp": call.started_at, "event": "transcribe", "order": mine.order, "job": mine.job,
        "attempt": str(mine.attempt),
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}
