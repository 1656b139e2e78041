"""The numbers of a report, from the facts of its calls. The page shows these numbers and no others."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from statistics import median
from typing import Any

from scripts.operations.reports.month import Facts, Month

Json = dict[str, Any]
OUTCOMES = ("success", "failure", "unknown")
AUDIO = ("archived", "pending", "unavailable", "none")
MEMORIES = ("factual", "semantic")
# Lower bounds of the histogram, in seconds.
BOUNDS = (0, 30, 60, 120, 180, 300, 600, 1200)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PERIOD = 7  # days of a month that count together where a day has too few calls: 1 to 7, 8 to 14, …


def numbers(month: Month, calls: Sequence[Facts], before: Sequence[Facts], known_callers: set[str]) -> Json:
    """All that can be counted from the calls of the month, and from those of the month before."""
    return {
        "headline": headline(calls, before),
        "days": days(month, calls, known_callers),
        "durations": durations(calls),
        "outcomes": outcomes(calls),
        "criteria": criteria(month, calls),
        "callers": callers(calls, known_callers),
        "tools": tools(calls),
        "hours": hours(calls),
        "agents": agents(calls),
        "languages": ranked((each.language for each in calls), "language"),
        "termination_reasons": ranked((each.reason for each in calls), "reason"),
    }


def headline(calls: Sequence[Facts], before: Sequence[Facts]) -> Json:
    """The main numbers with those of the month before, and the change: of a share in points, else in percent."""
    now, earlier = sums(calls), sums(before)
    changes = {name: points if name.endswith("_share") else change for name in now}
    return {
        name: {"value": value, "before": earlier[name] if before else None,
               "change": changes[name](value, earlier[name])}
        for name, value in now.items()
    }  # fmt: skip


def sums(calls: Sequence[Facts]) -> Json:
    timed = [each.seconds for each in calls if each.seconds is not None]
    return {
        "calls": len(calls),
        "minutes": round(sum(timed) / 60, 1),
        "success_share": share(sum(each.outcome == "success" for each in calls), judged(calls)),
        "median_seconds": median(timed) if timed else None,
        "callers": len({each.caller for each in calls if each.caller}),
        "credits": sum(each.cost or 0 for each in calls),
    }


def judged(calls: Sequence[Facts]) -> int:
    """How many calls ElevenLabs called a success or a failure."""
    return sum(each.outcome != "unknown" for each in calls)


def change(now: float | None, before: float | None) -> float | None:
    return round((now / before - 1) * 100, 1) if now is not None and before else None


def points(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else round(now - before, 1)


def share(part: int, whole: int) -> float | None:
    """In percent."""
    return round(100 * part / whole, 1) if whole else None


def days(month: Month, calls: Sequence[Facts], known_callers: set[str]) -> list[Json]:
    by_day = grouped(calls, lambda each: each.at.date())
    return [day_of(day, by_day.get(day, []), known_callers) for day in month.days]


def day_of(day: date, calls: Sequence[Facts], known_callers: set[str]) -> Json:
    results = Counter(each.outcome for each in calls)
    returning = sum(each.caller in known_callers for each in calls)
    anonymous = sum(each.caller is None for each in calls)
    return {
        "day": day.isoformat(), "calls": len(calls),
        "minutes": round(sum(each.seconds or 0 for each in calls) / 60, 1),
        **{name: results[name] for name in OUTCOMES},
        "of_new_callers": len(calls) - returning - anonymous, "of_returning_callers": returning,
        "without_number": anonymous, "credits": sum(each.cost or 0 for each in calls),
    }  # fmt: skip


def durations(calls: Sequence[Facts]) -> Json:
    timed = sorted(each.seconds for each in calls if each.seconds is not None)
    bins = [
        {"from": low, "to": high, "calls": sum(low <= each and (high is None or each < high) for each in timed)}
        for low, high in zip(BOUNDS, (*BOUNDS[1:], None), strict=True)
    ]
    return {
        "median": median(timed) if timed else None,
        "percentile_90": percentile(timed, 90),
        "average": round(sum(timed) / len(timed), 1) if timed else None,
        "longest": timed[-1] if timed else None,
        "unknown": len(calls) - len(timed),
        "histogram": bins,
    }


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The least value that so many percent of the values do not exceed."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None


def outcomes(calls: Sequence[Facts]) -> Json:
    found = Counter(each.outcome for each in calls)
    return {name: found[name] for name in OUTCOMES} | {"success_share": share(found["success"], judged(calls))}


def criteria(month: Month, calls: Sequence[Facts]) -> list[Json]:
    """Each criterion, by name: how many calls met it, in the month and in each of its periods."""
    results: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for each in calls:
        for name, result in each.criteria:
            results[name].append((period_of(each.at.date()), result))
    count = period_of(month.days[-1]) + 1
    return [
        {"criterion": name, **judgement([result for _, result in found]),
         "periods": [{"days": period_name(month, period),
                      **judgement([result for at, result in found if at == period])} for period in range(count)]}
        for name, found in sorted(results.items(), key=lambda item: (-len(item[1]), item[0]))
    ]  # fmt: skip


def judgement(results: Sequence[str | None]) -> Json:
    met, failed = results.count("success"), results.count("failure")
    unknown = len(results) - met - failed
    return {"success": met, "failure": failed, "unknown": unknown, "success_share": share(met, met + failed)}


def period_of(day: date) -> int:
    return (day.day - 1) // PERIOD


def period_name(month: Month, period: int) -> str:
    first = period * PERIOD + 1
    return f"{first}–{min(first + PERIOD - 1, len(month.days))}"


def callers(calls: Sequence[Facts], known_callers: set[str]) -> Json:
    """Callers with a number. New: without an archived call before this month."""
    found = Counter(each.caller for each in calls if each.caller)
    new = {caller: count for caller, count in found.items() if caller not in known_callers}
    return {
        "callers": len(found),
        "new": len(new),
        "returning": len(found) - len(new),
        "new_share": share(len(new), len(found)),
        "called_more_than_once": sum(count > 1 for count in found.values()),
        "most_calls_of_one_caller": max(found.values(), default=0),
        "calls_of_new": sum(new.values()),
        "calls_of_returning": sum(found.values()) - sum(new.values()),
        "calls_without_number": sum(each.caller is None for each in calls),
    }


def tools(calls: Sequence[Facts]) -> list[Json]:
    """Each tool, the most used first. Latencies are those that ElevenLabs measured."""
    used: dict[str, list[tuple[bool | None, float | None]]] = defaultdict(list)
    for each in calls:
        for name, is_error, seconds in each.tools:
            used[name].append((is_error, seconds))
    return [tool(name, found) for name, found in sorted(used.items(), key=lambda item: (-len(item[1]), item[0]))]


def tool(name: str, found: Sequence[tuple[bool | None, float | None]]) -> Json:
    errors, unanswered = (sum(is_error is which for is_error, _ in found) for which in (True, None))
    timed = sorted(seconds for _, seconds in found if seconds is not None)
    return {
        "tool": name, "calls": len(found), "errors": errors, "unanswered": unanswered,
        "error_share": share(errors, len(found) - unanswered),
        "median_secs": round(median(timed), 3) if timed else None, "percentile_90_secs": percentile(timed, 90),
    }  # fmt: skip


def hours(calls: Sequence[Facts]) -> Json:
    """Calls by weekday and hour in which they began, Monday first."""
    found = Counter((each.at.weekday(), each.at.hour) for each in calls)
    busiest = max(found, key=lambda at: (found[at], -at[0], -at[1]), default=None)
    return {
        "calls": [[found[day, hour] for hour in range(24)] for day in range(7)],
        "busiest": busiest and {"weekday": WEEKDAYS[busiest[0]], "hour": busiest[1], "calls": found[busiest]},
    }


def agents(calls: Sequence[Facts]) -> list[Json]:
    """Each agent with its last known name, the one with most calls first."""
    found = grouped(calls, lambda each: each.agent_id)
    named = {each.agent_id: each.agent_name for each in sorted(calls, key=lambda each: each.at) if each.agent_name}
    rows = [{"agent_id": agent, "name": named.get(agent), **sums(of)} for agent, of in found.items()]
    return sorted(rows, key=lambda row: (-row["calls"], row["agent_id"] or ""))


def ranked(values: Iterable[str | None], name: str) -> list[Json]:
    """How often each value occurs, the most frequent first; None where a call has none."""
    found = Counter(values).items()
    return [{name: value, "calls": n} for value, n in sorted(found, key=lambda item: (-item[1], item[0] or ""))]


def completeness(calls: Sequence[Facts], missing: int, *, is_compared: bool) -> Json:
    """`missing` calls are known and not archived: `is_compared` with ElevenLabs' list, or by their recordings alone."""
    memories = {
        kind: Counter(memory_state(each.memories[place]) for each in calls) for place, kind in enumerate(MEMORIES)
    }
    recordings = Counter(each.audio for each in calls)
    return {
        "expected": len(calls) + missing, "archived": len(calls), "missing": missing,
        "archived_share": share(len(calls), len(calls) + missing), "compared_with_elevenlabs": is_compared,
        "by_webhook": sum(each.origin == "webhook" for each in calls),
        "recovered": sum(each.origin == "api" for each in calls),
        "without_readable_json": sum(not each.has_json for each in calls),
        "audio": {name: recordings[name] for name in AUDIO},
        "memories": {kind: {state: found[state] for state in ("done", "open", "none")}
                     for kind, found in memories.items()}
        | {"neither": sum(not any(each.memories) for each in calls)},
    }  # fmt: skip


def memory_state(state: str | None) -> str:
    """A line of the ledger that is not done is still open."""
    return "none" if not state else "done" if state == "done" else "open"


def grouped(calls: Iterable[Facts], key: Callable[[Facts], Any]) -> dict[Any, list[Facts]]:
    found: dict[Any, list[Facts]] = defaultdict(list)
    for each in calls:
        found[key(each)].append(each)
    return found
