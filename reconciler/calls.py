"""The pass over ElevenLabs' list of calls: stages what the archive does not have, and asks again for missing audio.

A call that was fetched is a call like any other from then on. It is fetched three times at most; whether the archiver
made something of it, the next pass sees.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from reconciler.audio import awaits_audio
from reconciler.elevenlabs import ElevenLabs, Listed
from reconciler.staging import Staging
from shared.errors import ElevenLabsError, KeyRefusedError, NotFoundError
from shared.messages import Announcement
from shared.observability import logger
from shared.record import Call, Records

WINDOW = timedelta(hours=48)
FETCHES = 3
_NOT_MISSING = ("gone", "unfinished")
_AT_ONCE = 8


@dataclass
class Report:
    """What a pass found, in numbers of calls.

    `missing_calls` and `missing_audio` are those that the archive lacked when it was looked at; `oldest` is when the
    first of them ended. What became of the calls is in `outcomes`: `fetched`, `on_its_way` (fetched lately), `given_up`
    (fetched three times) and `failed`, and of those that are not missing after all `gone` and `unfinished`.
    """

    listed: int = 0
    due: int = 0
    missing_calls: int = 0
    missing_audio: int = 0
    audio_queued: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    is_complete: bool = True


class CallsPass:
    """One pass. `grace` is how long a webhook may take after a call's end; a `preview` changes nothing."""

    def __init__(
        self, api: ElevenLabs, records: Records, staging: Staging, queue_audio: Callable[[list[Announcement]], None],
        now: datetime, grace: timedelta, *, preview: bool = False,
    ) -> None:  # fmt: skip
        self._api, self._records, self._staging, self._queue_audio = api, records, staging, queue_audio
        self._now, self._grace, self._preview = now, grace, preview
        self.report = Report()

    def run(
        self, since: datetime, until: datetime, agent_id: str | None = None,
        *, on_page: Callable[[Report], None] = lambda _: None, has_time: Callable[[], bool] = lambda: True,
    ) -> Report:  # fmt: skip
        """Raises KeyRefusedError, or another ElevenLabsError when the list itself cannot be had."""
        for page in self._api.pages(since, until, agent_id):
            self.report.listed += len(page)
            self._reconcile([each for each in page if self._is_due(each)])
            on_page(self.report)
            if not has_time():
                self.report.is_complete = False
                break
        return self.report

    def _is_due(self, listed: Listed) -> bool:
        return listed.is_final and listed.ended_at is not None and listed.ended_at <= self._now - self._grace

    def _reconcile(self, page: list[Listed]) -> None:
        self.report.due += len(page)
        calls = self._records.get_all(each.conversation_id for each in page) if page else {}
        missing, silent = [], []
        for listed in page:
            call = calls.get(listed.conversation_id, Call(listed.conversation_id))
            if call.erased_at is None and call.t_order is None:
                missing.append((listed, call))
            elif awaits_audio(call):
                silent.append((listed, call))
        outcomes = self._fetch_all([call for _, call in missing])
        self._ask_again([call for _, call in silent])
        lacking = [
            listed for (listed, _), outcome in zip(missing, outcomes, strict=True) if outcome not in _NOT_MISSING
        ]
        self.report.missing_calls += len(lacking)
        self.report.missing_audio += len(silent)
        ends = [each.ended_at for each in lacking + [listed for listed, _ in silent]]
        self.report.oldest = min((end for end in [self.report.oldest, *ends] if end), default=None)

    def _fetch_all(self, calls: list[Call]) -> list[str]:
        if self._preview:
            return ["missing"] * len(calls)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            outcomes = list(pool.map(self._fetch, calls))
        self.report.outcomes = dict(Counter(self.report.outcomes) + Counter(outcomes))
        return outcomes

    def _fetch(self, call: Call) -> str:
        """Stage one call. Only what was staged counts as fetched: an API that fails for hours uses no attempt up."""
        if call.fetches >= FETCHES:
            return "given_up"
        if call.fetched_at and datetime.fromisoformat(call.fetched_at) > self._now - self._grace:
            return "on_its_way"
        try:
            body, conversation = self._api.conversation(call.conversation_id)
        except KeyRefusedError:
            raise
        except NotFoundError:  # deleted since it was listed
            return "gone"
        except ElevenLabsError as error:
            logger.warning("A call could not be fetched", conversation_id=call.conversation_id, reason=str(error))
            return "failed"
        if conversation.status not in ("done", "failed"):
            return "unfinished"
        self._staging.stage_call(body, self._now)
        self._records.note_fetch(call.conversation_id, self._now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        return "fetched"

    def _ask_again(self, calls: list[Call]) -> None:
        if calls and not self._preview:
            self._queue_audio([_announcement(call) for call in calls])
            self.report.audio_queued += len(calls)


def _announcement(call: Call) -> Announcement:
    """As the archiver announced this call."""
    return Announcement(
        "transcript_archived", call.conversation_id, call.agent_id, call.external_number,
        source_key=str(call.json_key), json_key=call.json_key, mp3_key=None, audio="pending",
    )  # fmt: skip


def audio_sender(sqs: Any, queue_url: str) -> Callable[[list[Announcement]], None]:
    """A sender of announcements to AudioQueue, past the topic: no other subscriber is to hear of them again."""

    def send(announcements: list[Announcement]) -> None:
        for announcement in announcements:
            sqs.send_message(QueueUrl=queue_url, MessageBody=announcement.to_json(), DelaySeconds=0)

    return send
