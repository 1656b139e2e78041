"""What is wrong with a stack, and the commands that help: each trouble names the alarm that it belongs to."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from scripts.concurrency import nearly_used_up
from scripts.operations.alarms import Alarm
from scripts.operations.logs import failures, functions_of, reason
from scripts.operations.stack import Stack
from scripts.operations.view import several
from shared.times import utc

DELAY = timedelta(minutes=1)  # between the end of a visibility timeout and what the next attempt logs
MOST_ERRORS = 5
STANDING_ORDER = ("waiting", "messages", None, "past")  # so that what is over hides nothing that is not
Row = dict[str, Any]


@dataclass(frozen=True)
class Trouble:
    """What is wrong. `alarm` is the one that fires, or that fires if this lasts."""

    trouble: str
    alarm: str | None = None
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failures:
    """The failures of one function with the same reason. `retried_at` is the last one that SQS retries."""

    function: str
    error: str
    times: int
    last_at: datetime
    retried_at: datetime | None

    def row(self, standing: str | None) -> Row:
        return {"function": self.function, "error": self.error, "times": self.times, "last_at": utc(self.last_at),
                "standing": standing}  # fmt: skip


def find_failures(stack: Stack, since: datetime) -> list[Failures]:
    """The functions' failures since then, the most frequent first."""
    entries: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for function in functions_of(stack):
        for entry in failures(stack, function, since):
            entries[function, reason(entry)].append(entry)
    found = [_summarise(function, error, each) for (function, error), each in entries.items()]
    once = [each for each in found if not _is_told_by_another(each, found)]
    return sorted(once, key=lambda each: each.times, reverse=True)


def _is_told_by_another(mine: Failures, found: list[Failures]) -> bool:
    """Whether it is only the log line of a failure that was also raised: `Error saving to S3: X`, `StorageError: X`."""
    said = mine.error.partition(": ")[2]
    return mine.retried_at is None and any(
        said and each.retried_at and each.function == mine.function and each.error.partition(": ")[2] == said
        for each in found
    )


def _summarise(function: str, error: str, entries: list[Row]) -> Failures:
    retried = [entry["at"] for entry in entries if entry.get("exception")]
    return Failures(
        function, error, len(entries), max(entry["at"] for entry in entries), max(retried, default=None)
    )  # fmt: skip


def find_retries(found: list[Failures], queues: list[Row], now: datetime) -> list[Row]:
    """The queues with messages that failed and wait for the next attempt, and when it comes at the latest."""
    retries = []
    for queue in (each for each in queues if each["kind"] == "queue"):
        mine = [each for each in found if each.function == queue["name"] and each.retried_at]
        last = max(mine, key=lambda each: each.retried_at or now, default=None)
        if last and last.retried_at and _is_open(last.retried_at, queue, now):
            next_at = last.retried_at + timedelta(seconds=queue["visibility_seconds"])
            retries.append({
                "queue": queue["name"], "messages": queue["waiting"] + queue["at_work"], "error": last.error,
                "failed_at": utc(last.retried_at), "next_attempt_by": utc(next_at),
            })  # fmt: skip
    return retries


def _is_open(failed_at: datetime, queue: Row, now: datetime) -> bool:
    """Whether the retry is still to come: the queue has a message, and the visibility timeout has not ended."""
    until = failed_at + timedelta(seconds=queue["visibility_seconds"]) + DELAY
    return bool(queue["waiting"] + queue["at_work"]) and now < until


def error_rows(found: list[Failures], queues: list[Row], retries: list[Row]) -> list[Row]:
    """The most frequent failures, those that are over last, and what their queues tell about them."""
    waiting = {(each["queue"], each["error"]) for each in retries}
    rows = [each.row(_standing(each, queues, waiting)) for each in found]
    return sorted(rows, key=lambda row: STANDING_ORDER.index(row["standing"]))[:MOST_ERRORS]


def _standing(found: Failures, queues: list[Row], waiting: set[tuple[str, str]]) -> str | None:
    """waiting, messages or past; None if it failed no message of a queue.

    A queue does not say why a message waits. So only its last failure is known to wait.
    """
    mine = [queue for queue in queues if queue["name"] == found.function]
    if not mine or not found.retried_at:
        return None
    if (found.function, found.error) in waiting:
        return "waiting"
    return "messages" if any(queue["waiting"] + queue["at_work"] + queue["delayed"] for queue in mine) else "past"


def is_dead(queue: Row) -> bool:
    """Whether it has dead letters. Those that an operator is looking at are invisible."""
    return queue["kind"] == "dead letters" and bool(queue["waiting"] or queue["at_work"])


def find_troubles(found: Row, alarms: list[Alarm], firing: list[Alarm]) -> list[Row]:
    """What is wrong, the most urgent first; empty if all is well."""
    webhooks = found["webhooks_in_the_last_hour"]
    troubles = [_of_alarm(alarm, webhooks) for alarm in sorted(firing, key=_urgency)]
    troubles += _of_retries(found, alarms)
    troubles += _of_webhooks(webhooks, alarms, firing)
    troubles += [Trouble(text) for text in [nearly_used_up(found["concurrency"])] if text]
    troubles += _of_the_last_hourly_run(found["last_hourly_run"])
    troubles += _of_erasures(found["unfinished_erasures"])
    return [asdict(each) for each in troubles]


def _of_alarm(alarm: Alarm, webhooks: Row) -> Trouble:
    if alarm.watches("SignatureRejected", "ingest") and webhooks["last_refused_at"]:
        return _of_refusals(alarm, webhooks)
    return Trouble(alarm.trouble, alarm.name, tuple(alarm.commands))


def _of_refusals(alarm: Alarm, webhooks: Row) -> Trouble:
    """A burst of refused webhooks. One that was accepted after it proves the secret: it must not be changed then."""
    accepted, refused = webhooks["last_accepted_at"], webhooks["last_refused_at"]
    refusals = f"{alarm.trouble.rstrip('.')}, the last at {refused}"
    if accepted and accepted > refused:
        window = timedelta(seconds=alarm.definition["Period"]) * int(alarm.definition["EvaluationPeriods"])
        over = utc(datetime.fromisoformat(refused) + window)
        return Trouble(
            f"{refusals}. One was accepted after them, at {accepted}, so the signing secret is right. This is over "
            f"by {over}, unless more are refused.",
            alarm.name,
            tuple(each for each in alarm.commands if not each.startswith("rotate-secret")),
        )
    return Trouble(
        f"{refusals}, and none was accepted since. {_whose_secret(accepted)}", alarm.name, tuple(alarm.commands)
    )


def _whose_secret(accepted: str | None) -> str:
    """How to tell a changed secret from forged webhooks; `accepted` is when the last webhook was accepted."""
    since = f"since the last accepted webhook ({accepted})" if accepted else "in the last hour"
    return (
        f"If a call has ended {since}, ElevenLabs signs with another secret: enter it, then wait for the next webhook. "
        "If no call has ended, somebody forges webhooks: do not change the secret."
    )


def _urgency(alarm: Alarm) -> tuple[bool, str]:
    """Dead letters first: they are gone after 14 days."""
    return not alarm.name.endswith("DlqAlarm"), alarm.name


def _of_retries(found: Row, alarms: list[Alarm]) -> Iterator[Trouble]:
    names = {queue["name"]: queue["queue"] for queue in found["queues"] if queue["kind"] == "queue"}
    for retry in found["retries"]:
        queue = names[retry["queue"]]
        alarm = next((each for each in alarms if each.watches("ApproximateAgeOfOldestMessage", queue)), None)
        messages = several(retry["messages"], "message waits", "messages wait")
        yield Trouble(
            f"{messages} in the {retry['queue']} queue. The last attempt failed at {retry['failed_at']}. The next "
            f"one starts by {retry['next_attempt_by']} at the latest: {retry['error'].rstrip('.')}.",
            alarm.name if alarm else None,
            ("verify --since 24h --problems",),
        )


def _of_webhooks(webhooks: Row, alarms: list[Alarm], firing: list[Alarm]) -> Iterator[Trouble]:
    """Refused webhooks that are fewer than an alarm needs, with none accepted since."""
    lost: dict[str, int] = webhooks["lost_by_reason"]
    for metric, is_mine in (("SignatureRejected", True), ("WebhookUnavailable", False)):
        mine = {reason: number for reason, number in lost.items() if reason.startswith("signature") == is_mine}
        alarm = next((each for each in alarms if each.watches(metric, "ingest")), None)
        if mine and alarm not in firing:
            yield _of_lost(mine, alarm, webhooks["last_accepted_at"])


def _of_lost(lost: dict[str, int], alarm: Alarm | None, accepted: str | None) -> Trouble:
    """Only webhooks with a wrong signature can be a matter of the secret."""
    is_mismatch = "signature mismatch" in lost
    refused = several(sum(lost.values()), "webhook was refused", "webhooks were refused")
    reasons = ", ".join(f"{reason} {number}" for reason, number in lost.items())
    advice = f" {_whose_secret(accepted)}" if is_mismatch else ""
    commands = alarm.commands if alarm else []
    return Trouble(
        f"{refused} in the last hour, and none was accepted since: {reasons}.{advice} This message disappears "
        "when a webhook of ElevenLabs is accepted (test calls do not count), or an hour after the last refusal.",
        alarm.name if alarm else None,
        tuple(each for each in commands if is_mismatch or not each.startswith("rotate-secret")),
    )


def _of_the_last_hourly_run(last: Row) -> Iterator[Trouble]:
    if last.get("error"):
        yield Trouble(f"The last hourly run failed: {last['error']}", "ReconcileFailedAlarm", ("reconcile",))
    missing = last.get("missing_calls", 0) - last.get("outcomes", {}).get("fetched", 0)
    if missing > 0:
        text = several(missing, "call is still missing.", "calls are still missing.")
        yield Trouble(text, "MissingCallsAlarm", ("reconcile",))


def _of_erasures(unfinished: list[Row]) -> Iterator[Trouble]:
    for each in unfinished:
        about = each.get("conversation") or each["caller"]
        words = f"--conversation {about}" if "conversation" in each else "NUMBER"
        number = (
            " Put the caller's full number in place of NUMBER; the stack does not keep it." if words == "NUMBER" else ""
        )
        yield Trouble(
            f"An erasure of {about} began at {each['began_at']} and did not finish. If nobody is running it now, "
            f"run it again. It continues.{number}",
            commands=(f"erase {words} --yes",),
        )
