"""The pass over ElevenLabs' list of calls: fetches and stages the calls that the archive does not have.

A fetched call is archived like a webhook's call. The next pass checks whether it was archived, and fetches it again, at
most three times. If ElevenLabs does not return a call, every pass retries it for a day.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconciler.elevenlabs import ElevenLabs, Listed
from reconciler.staging import Staging
from shared.call import Call
from shared.errors import ElevenLabsError
from shared.observability import logger
from shared.record import Records
from shared.selection import Selection
from shared.times import utc

WINDOW = timedelta(hours=48)
LONGEST = timedelta(days=30)  # to wait for an unfinished call
RETRY_FOR = timedelta(days=1)  # a call that ElevenLabs does not return
FETCHES = 3
_NOT_MISSING = ("gone", "not_found", "unfinished")
_FINISHED = ("gone", "given_up", "unavailable")
_AT_ONCE = 8


@dataclass
class Report:
    """The result of a pass, as numbers of calls.

    `missing_calls` were not in the archive when the pass looked; `oldest` is the end of the oldest one. `outcomes` says
    what the pass did with them: `fetched`, `on_its_way` (fetched recently), `given_up` (fetched three times), `failed`,
    `unavailable` (failed for a day), `no_time`. Calls that turned out not to be missing are `unfinished`, `not_found`
    or `gone` (not found twice). `left_out` calls are excluded by the stack's parameters.

    No later window needs the calls before `settled_until`. `reached` is how far back the pass has processed the list.
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
    """One pass. A webhook or a fetched call may take `grace` to be archived. A `preview` changes nothing.

    With `retry_all`, calls that are no longer retried are fetched again, and calls that the archiver left out are
    selected again by their listing, because the parameters may have changed.
    """

    def __init__(
        self, api: ElevenLabs, records: Records, staging: Staging, clock: Callable[[], datetime], grace: timedelta,
        selection: Selection, *, preview: bool = False, retry_all: bool = False,
    ) -> None:  # fmt: skip
        self._api, self._records, self._staging = api, records, staging
        self._clock, self._grace, self._preview = clock, grace, preview
        self._selection, self._retry_all = selection, retry_all

    def run(
        self, since: datetime, until: datetime, agent_id: str | None = None, *, settled_until: datetime | None = None,
        on_page: Callable[[Report], None] = lambda _: None, has_time: Callable[[], bool] = lambda: True,
    ) -> Report:  # fmt: skip
        """`settled_until` comes from earlier passes over the same window; `on_page` is called after each finished page.

        Raises KeyRefusedError, or another ElevenLabsError if the list cannot be read.
        """
        self.report, self._has_time = Report(settled_until or until, until), has_time
        self._earliest = min(self._clock() - LONGEST, since + WINDOW)
        for page in self._api.pages(since, until, agent_id):
            self.report.listed += len(page)
            self._reconcile(page)
            if self.report.is_complete:
                self._note_reached(page)
                on_page(self.report)
                self.report.is_complete = has_time()
            if not self.report.is_complete:
                break
        return self.report

    def _is_due(self, listed: Listed) -> bool:
        """Whether the archive should have the call by now. A final call without a time counts as due."""
        return listed.is_final and (listed.ended_at is None or listed.ended_at <= self._clock() - self._grace)

    def _note_reached(self, page: list[Listed]) -> None:
        """The next list begins a second later, because it may not include its last second."""
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
            self._keep_in_window(listed, outcome)
            if outcome not in _NOT_MISSING:
                self.report.missing_calls += 1
                ends = (self.report.oldest, listed.ended_at)
                self.report.oldest = min((end for end in ends if end), default=None)
        for listed in page:
            if not listed.is_final:
                self._keep_in_window(listed, "unfinished")

    def _keep_in_window(self, listed: Listed, outcome: str) -> None:
        """Start the next window before the call, unless the call needs no more work.

        An unfinished call from before `_earliest` is ignored: it has been unfinished for 30 days.
        """
        start = max(listed.started_at or self._earliest, self._earliest)
        if outcome not in _FINISHED and not (outcome == "unfinished" and start == self._earliest):
            self.report.settled_until = min(self.report.settled_until, start)

    def _is_left_out(self, listed: Listed, call: Call) -> bool:
        """Whether the call is not to be kept. With parked audio it is fetched, so that the archiver deletes both."""
        if call.left_out and not self._retry_all:
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
        """Fetch and stage one call. Only staging it counts as an attempt, so that an outage of the API uses up none."""
        now = self._clock()
        if not self._retry_all and (call.given_up_at or call.fetches >= FETCHES):
            return "unavailable" if call.given_up_at else "given_up"
        if call.fetched_at and datetime.fromisoformat(call.fetched_at) > now - self._grace:
            return "on_its_way"
        if not self._has_time():
            self.report.is_complete = False
            return "no_time"
        try:
            body, conversation = self._api.conversation(call.conversation_id)
        except ElevenLabsError as error:
            return self._note_missing(call, error, now)
        if conversation.status not in ("done", "failed"):
            return "unfinished"
        self._staging.stage_call(body, now)
        self._records.note_fetch(call, utc(now))
        return "fetched"

    def _note_missing(self, call: Call, error: ElevenLabsError, now: datetime) -> str:
        """Record why ElevenLabs did not return the call. A wrong key ends the pass instead."""
        if error.status == 401:
            raise error
        is_late = call.missing_since is not None and datetime.fromisoformat(call.missing_since) <= now - RETRY_FOR
        is_last_try = error.status != 404 and is_late
        self._records.note_missing(call.conversation_id, utc(now), error.reason, is_last_try=is_last_try)
        if error.status == 404:  # deleted after it was listed, or not available yet
            return "gone" if call.missing_reason == error.reason else "not_found"
        logger.warning("A call could not be fetched", conversation_id=call.conversation_id, reason=error.reason)
        return "unavailable" if is_last_try else "failed"
