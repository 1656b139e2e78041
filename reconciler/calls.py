"""The pass over ElevenLabs' list of calls: stages what the archive does not have.

A call that was fetched is a call like any other from then on. It is fetched three times at most; whether the archiver
made something of it, the next pass sees.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from reconciler.elevenlabs import ElevenLabs, Listed
from reconciler.staging import Staging
from shared.errors import ElevenLabsError
from shared.observability import logger
from shared.record import Call, Records
from shared.selection import Selection
from shared.times import utc

WINDOW = timedelta(hours=48)
FETCHES = 3
_NOT_MISSING = ("gone", "unfinished")
_AT_ONCE = 8


@dataclass
class Report:
    """What a pass found, in numbers of calls.

    `missing_calls` are those that the archive lacked when it was looked at; `oldest` is when the first of them ended.
    What became of them is in `outcomes`: `fetched`, `on_its_way` (fetched lately), `given_up` (fetched three times),
    `failed` and `no_time`, and of those that are not missing after all `gone` and `unfinished`. `left_out` are those
    that the stack's parameters do not keep. `settled_until` is the time before which no call was left that a later pass
    has to look at.
    """

    listed: int = 0
    due: int = 0
    missing_calls: int = 0
    left_out: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    settled_until: datetime | None = None
    is_complete: bool = True


class CallsPass:
    """One pass. `grace` is how long a webhook, or a call that was fetched, may take; a `preview` changes nothing.

    `anew` judges by its listing a call that the archiver left out, perhaps under other parameters; else it stays so.
    """

    def __init__(
        self, api: ElevenLabs, records: Records, staging: Staging, clock: Callable[[], datetime], grace: timedelta,
        selection: Selection, *, fetches: float = FETCHES, preview: bool = False, anew: bool = False,
    ) -> None:  # fmt: skip
        self._api, self._records, self._staging = api, records, staging
        self._clock, self._grace, self._fetches, self._preview = clock, grace, fetches, preview
        self._selection, self._anew = selection, anew
        self._has_time: Callable[[], bool] = lambda: True
        self.report = Report()

    def run(
        self, since: datetime, until: datetime, agent_id: str | None = None,
        *, on_page: Callable[[Report], None] = lambda _: None, has_time: Callable[[], bool] = lambda: True,
    ) -> Report:  # fmt: skip
        """Raises KeyRefusedError, or another ElevenLabsError when the list itself cannot be had."""
        self._has_time = has_time
        self.report.settled_until = until
        for page in self._api.pages(since, until, agent_id):
            self.report.listed += len(page)
            self._reconcile([each for each in page if self._is_due(each)])
            self._hold(each for each in page if not each.is_final)
            on_page(self.report)
            if not has_time():
                self.report.is_complete = False
                break
        return self.report

    def _is_due(self, listed: Listed) -> bool:
        """A final call without a time is due too, for nobody knows when else it would be."""
        return listed.is_final and (listed.ended_at is None or listed.ended_at <= self._clock() - self._grace)

    def _hold(self, unsettled: Iterable[Listed]) -> None:
        starts = [datetime.fromtimestamp(each.start_time_unix_secs or 0, timezone.utc) for each in unsettled]
        self.report.settled_until = min([self.report.settled_until or self._clock(), *starts])

    def _reconcile(self, page: list[Listed]) -> None:
        self.report.due += len(page)
        calls = self._records.get_all(each.conversation_id for each in page)
        missing = []
        for listed in page:
            call = calls.get(listed.conversation_id, Call(listed.conversation_id))
            if call.erased_at or call.t_order:
                continue
            if self._is_left_out(listed, call):
                self.report.left_out += 1
            else:
                missing.append((listed, call))
        outcomes = self._fetch_all([call for _, call in missing])
        lacking = [
            listed for (listed, _), outcome in zip(missing, outcomes, strict=True) if outcome not in _NOT_MISSING
        ]
        self.report.missing_calls += len(lacking)
        self._hold(lacking)
        ends = [self.report.oldest, *(each.ended_at for each in lacking)]
        self.report.oldest = min((end for end in ends if end), default=None)

    def _is_left_out(self, listed: Listed, call: Call) -> bool:
        """A call whose audio waits for it is fetched all the same: with its transcript the archiver drops both."""
        if call.left_out and not self._anew:
            return True
        return call.parked is None and self._selection.refusal(listed.agent_id, listed.call_duration_secs) is not None

    def _fetch_all(self, calls: list[Call]) -> list[str]:
        if self._preview:
            return ["missing"] * len(calls)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            outcomes = list(pool.map(self._fetch, calls))
        self.report.outcomes = dict(Counter(self.report.outcomes) + Counter(outcomes))
        return outcomes

    def _fetch(self, call: Call) -> str:
        """Stage one call. Only what was staged counts as fetched: an API that fails for hours uses no attempt up."""
        now = self._clock()
        if call.fetches >= self._fetches:
            return "given_up"
        if call.fetched_at and datetime.fromisoformat(call.fetched_at) > now - self._grace:
            return "on_its_way"
        if not self._has_time():
            self.report.is_complete = False
            return "no_time"
        try:
            body, conversation = self._api.conversation(call.conversation_id)
        except ElevenLabsError as error:
            return self._not_fetched(call, error)
        if conversation.status not in ("done", "failed"):
            return "unfinished"
        self._staging.stage_call(body, now)
        self._records.note_fetch(call, utc(now))
        return "fetched"

    def _not_fetched(self, call: Call, error: ElevenLabsError) -> str:
        """A wrong key ends the pass; a 403 is about this call alone, for the list could be read."""
        if error.status == 401:
            raise error
        if error.status == 404:  # deleted since it was listed
            return "gone"
        logger.warning("A call could not be fetched", conversation_id=call.conversation_id, reason=str(error))
        return "failed"
