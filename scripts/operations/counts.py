"""What the functions counted lately. Their logs hold each metric, on AWS and on the embedded AWS alike."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from scripts.operations.logs import read
from scripts.operations.rules import Json, Metric, Period, counted, watched
from scripts.operations.stack import Stack
from shared.times import utc

HOUR = timedelta(hours=1)
_METRICS = "{ $._aws.Timestamp > 0 }"  # lines in the embedded metric format
# A signed webhook, or any that could not be stored, may be one of ElevenLabs'. Those without a signature are not.
_UNSIGNED = ("missing", "malformed")


class Count(NamedTuple):
    at: datetime
    metric: Metric
    value: float

    @property
    def name(self) -> str:
        return self.metric[1]

    @property
    def reason(self) -> str | None:
        return dict(self.metric[2]).get("reason")


class Counts:
    """The metrics of a stack's functions; each log is read once, and as far back as any alarm about it looks."""

    def __init__(self, stack: Stack, now: datetime, alarms: list[Json]) -> None:
        self._stack, self._now, self._alarms = stack, now, alarms
        self._read: dict[str, list[Count]] = {}

    def of(self, function: str) -> list[Count]:
        if function not in self._read:
            windows = [_window(alarm) for alarm in self._alarms if service_of(alarm) == function]
            since = self._now - max([HOUR, *windows])
            lines = read(self._stack, function, since, _METRICS)
            self._read[function] = [
                Count(at, metric, sum(values)) for at, line in lines for metric, values in counted(line)
            ]
        return self._read[function]

    def periods(self, alarm: Json) -> list[Period]:
        """What was counted in each period that the alarm looks at, the latest last."""
        length, number = timedelta(seconds=alarm["Period"]), int(alarm["EvaluationPeriods"])
        found = [count for count in self.of(service_of(alarm)) if count.metric == watched(alarm)]
        ends = [self._now - length * back for back in reversed(range(number))]
        return [[count.value for count in found if end - length < count.at <= end] for end in ends]

    def webhooks(self) -> dict[str, Any]:
        """The webhooks of the last hour: accepted, and refused by reason; `tests` are those of `ops send` and canaries.

        `lost` are those that ElevenLabs may have sent, and that were refused after the last accepted one.
        """
        recent = [count for count in self.of("ingest") if count.at > self._now - HOUR]
        accepted = [count for count in recent if count.name == "WebhookStaged"]
        refused = list(_refused(recent))
        last = max((count.at for count in accepted), default=None)
        last_refused = max((count.at for count, _ in refused), default=None)
        lost = [(count, reason) for count, reason in refused if _may_be_lost(count) and (not last or count.at > last)]
        return {
            "accepted": _total(accepted),
            "tests": _total([count for count in recent if count.name == "TestWebhookStaged"]),
            "refused": _total([count for count, _ in refused]),
            "refused_by_reason": _by_reason(refused),
            "last_accepted_at": utc(last) if last else None,
            "last_refused_at": utc(last_refused) if last_refused else None,
            "lost": _total([count for count, _ in lost]),
            "lost_by_reason": _by_reason(lost),
        }


def service_of(alarm: Json) -> str:
    """The function that counts what the alarm watches; empty for a metric of AWS."""
    return dict(watched(alarm)[2]).get("service", "") if "MetricName" in alarm else ""


def _window(alarm: Json) -> timedelta:
    return timedelta(seconds=alarm["Period"]) * int(alarm["EvaluationPeriods"])


def _refused(counts: list[Count]) -> Iterator[tuple[Count, str]]:
    """Each refused webhook with its reason: of those that are counted by reason too, only that count."""
    for count in counts:
        if count.name == "SignatureRejected" and count.reason:
            yield count, f"signature {count.reason}"
        elif count.name == "WebhookUnavailable" and count.reason:
            yield count, f"{count.reason} unavailable"
        elif count.name == "BodyRejected":
            yield count, "no body"


def _may_be_lost(count: Count) -> bool:
    return bool(count.reason) and count.reason not in _UNSIGNED


def _total(counts: list[Count]) -> int:
    return int(sum(count.value for count in counts))


def _by_reason(refused: list[tuple[Count, str]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for count, reason in refused:
        totals[reason] += int(count.value)
    return dict(totals.most_common())
