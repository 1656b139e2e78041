"""The pass over ElevenLabs' list of calls: stages what the archive does not have.

A call that was fetched is a call like any other from then on. It is fetched three times at most; whether the archiver
made something of it, the next pass sees. A call that ElevenLabs does not give is asked for in every pass for a day.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.elevenlabs import ElevenLabs, Listed
from reconciler.staging import Staging
from shared.errors import ElevenLabsError
from shared.observability import logger
from shared.record import Call, Records
from shared.selection import Selection
from shared.times import utc

WINDOW = timedelta(hours=48)
LONGEST = timedelta(days=30)  # that a call which does not end is waited for
PATIENCE = timedelta(days=1)  # with a call that ElevenLabs does not give
FETCHES = 3
_NOT_MISSING = ("gone", "not_found", "unfinished")
_SETTLED = ("gone", "given_up", "unavailable")
_AT_ONCE = 8


@dataclass
class Report:
    """What a pass found, in numbers of calls.

    `missing_calls` are those that the archive lacked when it was looked at; `oldest` is when the first of them ended.
    What became of them is in `outcomes`: `fetched`, `on_its_way` (fetched lately), `given_up` (fetched three times),
    `failed`, `unavailable` (failed for a day) and `no_time`, and of those that are not missing after all `unfinished`,
    `not_found` and `gone` (not found twice). `left_out` are those that the stack's parameters do not keep.

    `settled_until` is the time before which no call was left that a later window has to look at; `reached` is how far
    back the pass was done with the list.
    """

    settled_until: datetime
    reached: datetime
    listed: int = 0
    missing_calls: int = 0
    left_out: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    is_complete: bool = True


class CallsPass:
    """One pass. `grace` is how long a webhook, or a call that was fetched, may take; a `preview` changes nothing.

    `anew` judges by its listing a call that the archiver left out, perhaps under other parameters; else it stays so.
    It also asks again for what was given up.
    """

    def __init__(
        self, api: ElevenLabs, records: Records, staging: Staging, clock: Callable[[], datetime], grace: timedelta,
        selection: Selection, *, preview: bool = False, anew: bool = False,
    ) -> None:  # fmt: skip
        self._api, self._records, self._staging = api, records, staging
        self._clock, self._grace, self._preview = clock, grace, preview
        self._selection, self._anew = selection, anew

    def run(
        self, since: datetime, until: datetime, agent_id: str | None = None, *, settled_until: datetime | None = None,
        on_page: Callable[[Report], None] = lambda _: None, has_time: Callable[[], bool] = lambda: True,
    ) -> Report:  # fmt: skip
        """`settled_until` is what earlier passes left of the same window; `on_page` follows each page that is done.

        Raises KeyRefusedError, or another ElevenLabsError when the list itself cannot be had.
        """
        self.report, self._has_time = Report(settled_until or until, until), has_time
        self._earliest = min(self._clock() - LONGEST, since + WINDOW)
        for page in self._api.pages(since, until, agent_id):
            self.report.listed += len(page)
            self._reconcile(page)
            if self.report.is_complete:
                self._reach(page)
                on_page(self.report)
                self.report.is_complete = has_time()
            if not self.report.is_complete:
                break
        return self.report

    def _is_due(self, listed: Listed) -> bool:
        """A final call without a time is due too, for nobody knows when else it would be."""
        return listed.is_final and (listed.ended_at is None or listed.ended_at <= self._clock() - self._grace)

    def _reach(self, page: list[Listed]) -> None:
        """Whether a list includes its last second nobody knows: the next one begins a second later."""
        starts = [each.started_at + timedelta(seconds=1) for each in page if each.started_at]
        self.report.reached = min([self.report.reached, *starts])

    def _reconcile(self, page: list[Listed]) -> None:
        due = [each for each in page if self._is_due(each)]
        calls = self._records.get_all(each.conversation_id for each in due)
        missing = []
        for listed in due:
            call = calls.get(listed.conversation_id, Call(listed.conversation_id))
            if call.erased_at or call.t_order:
                continue
            if self._is_left_out(listed, call):
                self.report.left_out += 1
            else:
                missing.append((listed, call))
        outcomes = self._fetch_all([call for _, call in missing])
        for (listed, _), outcome in zip(missing, outcomes, strict=True):
            self._hold(listed, outcome)
            if outcome not in _NOT_MISSING:
                self.report.missing_calls += 1
                ends = (self.report.oldest, listed.ended_at)
                self.report.oldest = min((end for end in ends if end), default=None)
        for listed in page:
            if not listed.is_final:
                self._hold(listed, "unfinished")

    def _hold(self, listed: Listed, outcome: str) -> None:
        """Let the next window begin before the call, unless nothing more is to be had of it.

        An unfinished call from before `_earliest` was unfinished in the window before too, and for 30 days.
        """
        start = max(listed.started_at or self._earliest, self._earliest)
        if outcome not in _SETTLED and not (outcome == "unfinished" and start == self._earliest):
            self.report.settled_until = min(self.report.settled_until, start)

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
        if not self._anew and (call.given_up_at or call.fetches >= FETCHES):
            return "unavailable" if call.given_up_at else "given_up"
        if call.fetched_at and datetime.fromisoformat(call.fetched_at) > now - self._grace:
            return "on_its_way"
        if not self._has_time():
            self.report.is_complete = False
            return "no_time"
        try:
            body, conversation = self._api.conversation(call.conversation_id)
        except ElevenLabsError as error:
            return self._miss(call, error, now)
        if conversation.status not in ("done", "failed"):
            return "unfinished"
        self._staging.stage_call(body, now)
        self._records.note_fetch(call, utc(now))
        return "fetched"

    def _miss(self, call: Call, error: ElevenLabsError, now: datetime) -> str:
        """Note why ElevenLabs did not give the call. A wrong key ends the pass: it is no call's fault."""
        if error.status == 401:
            raise error
        is_late = call.missing_since is not None and datetime.fromisoformat(call.missing_since) <= now - PATIENCE
        is_given_up = error.status != 404 and is_late
        self._records.note_missing(call.conversation_id, utc(now), error.reason, give_up=is_given_up)
        if error.status == 404:  # deleted since it was listed, or not there yet
            return "gone" if call.missing_reason == error.reason else "not_found"
        logger.warning("A call could not be fetched", conversation_id=call.conversation_id, reason=error.reason)
        return "unavailable" if is_given_up else "failed"
