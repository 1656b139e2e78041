"""`ops status`: what is wrong, on one screen, and what to do next."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

import typer
from rich.table import Table

from reconciler.bookmarks import Bookmarks
from scripts.concurrency import concurrency, describe, low_limit
from scripts.operations.alarms import find_alarms, firing
from scripts.operations.counts import HOUR, Counts
from scripts.operations.dead_letters import QUEUES
from scripts.operations.erasure.journal import Journal
from scripts.operations.stack import AT_ONCE, Stack
from scripts.operations.troubles import error_rows, find_failures, find_retries, find_troubles, is_dead
from scripts.operations.view import View, shown
from shared.times import utc

MOST = 1000  # calls whose JSON is looked for
STANDINGS = {
    "waiting": "it is retried: the next attempt has not started yet",
    "messages": "its queue or its dead-letter queue still has messages; they may have failed for another reason",
    "past": "nothing waits in this queue any more",
}


def status(context: typer.Context) -> int:
    """Show what is wrong and what to do next.

    It shows webhooks, queues, calls, memories, alarms and the last errors.

    Exit code 1 if something is wrong. Example: ops status
    """
    view: View = context.obj
    with view.progress.status("Reading the stack's state ..."):
        found = examine(view.stack, datetime.now(timezone.utc))
    found["next"] = [
        trouble | {"commands": [view.command(each) for each in trouble["commands"]]} for trouble in found["next"]
    ]
    if view.as_json:
        view.print_json(found)
    else:
        render(view, found)
    return 1 if found["next"] else 0


def examine(stack: Stack, now: datetime) -> dict[str, Any]:
    """The state of the stack, and under `next` what is wrong with it."""
    alarms = find_alarms(stack)
    counts = Counts(stack, now, [alarm.definition for alarm in alarms])
    found: dict[str, Any] = {
        "stack": stack.name,
        "at": utc(now),
        "webhooks_in_the_last_hour": counts.webhooks(),
        "queues": list(queues(stack, now)),
        "memories": memories(stack),
        "concurrency": concurrency(stack.client, now),
        "last_hourly_run": last_hourly_run(stack),
        "unfinished_erasures": Journal(stack).unfinished(),
    }
    messages = {
        queue["queue"]: queue["waiting"] + (queue["at_work"] if is_dead(queue) else 0) for queue in found["queues"]
    }
    fire = firing(stack, alarms, messages, counts)
    failed = find_failures(stack, now - HOUR)
    retries = find_retries(failed, found["queues"], now)
    return found | {
        "calls": calls(stack, now, found["queues"]),
        "alarms": [{"alarm": alarm.name, "says": alarm.text} for alarm in fire],
        "retries": retries,
        "errors_in_the_last_hour": error_rows(failed, found["queues"], retries),
        "next": find_troubles(found | {"retries": retries}, alarms, fire),
        "good_to_know": [note for note in [low_limit(found["concurrency"])] if note],
    }


def queues(stack: Stack, now: datetime) -> Iterator[dict[str, Any]]:
    """Each queue and its dead-letter queue. The age of the oldest message is None if CloudWatch does not know it."""
    for name, (dead, source) in QUEUES.items():
        for kind, output in (("queue", source), ("dead letters", dead)):
            if output in stack.outputs:
                yield {"name": name, "kind": kind} | depth(stack, stack.outputs[output], now)


def depth(stack: Stack, url: str, now: datetime) -> dict[str, Any]:
    queue, counts = url.rsplit("/", 1)[-1], stack.queue(url)
    is_empty = not (counts["waiting"] or counts["at_work"] or counts["delayed"])
    return counts | {"oldest_seconds": 0 if is_empty else oldest(stack, queue, now), "queue": queue}


def oldest(stack: Stack, queue: str, now: datetime) -> int | None:
    points = stack.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS", MetricName="ApproximateAgeOfOldestMessage", Statistics=["Maximum"], Period=60,
        Dimensions=[{"Name": "QueueName", "Value": queue}], StartTime=now - timedelta(minutes=10), EndTime=now,
    )["Datapoints"]  # fmt: skip
    return int(max(points, key=lambda point: point["Timestamp"])["Maximum"]) if points else None


def calls(stack: Stack, now: datetime, queues: list[dict[str, Any]]) -> dict[str, int]:
    """Calls that were archived lately, and those whose JSON or audio is missing, or whose audio is parked.

    Calls that began more than two days ago are not among those archived lately: they were fetched, or replayed.
    """
    hour, day = utc(now - HOUR), utc(now - 24 * HOUR)
    recorded = [each["archived_at"] for page in stack.records.list_all(two_days_before(now)) for each in page]
    unwritten = find_unwritten(stack, now) if any(is_busy(queue) for queue in queues) else []
    return {
        "archived_in_the_last_hour": sum(at >= hour for at in recorded) - sum(at >= hour for at in unwritten),
        "archived_in_the_last_day": sum(at >= day for at in recorded) - len(unwritten),
        "json_not_written": len(unwritten),
        "audio_missing": stack.records.count("by-audio", "pending", until=utc(now - HOUR)),
        "audio_parked": stack.records.count("by-state", "parked"),
    }


def two_days_before(now: datetime) -> str:
    return utc(now - 48 * HOUR)[:10]


def is_busy(queue: dict[str, Any]) -> bool:
    """Whether claim checks are in it. A call whose JSON could not be written still has its claim check."""
    return queue["name"] == "archive" and bool(queue["waiting"] + queue["at_work"] + queue["delayed"])


def find_unwritten(stack: Stack, now: datetime) -> list[str]:
    """`archived_at` of the calls of the last day whose JSON is not in the bucket; MOST calls are looked for."""
    day = utc(now - 24 * HOUR)
    found = stack.records.find_all(lambda listed: listed["archived_at"] >= day, two_days_before(now))
    recent = sorted(islice(found, MOST), key=lambda call: str(call.archived_at), reverse=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        there = pool.map(lambda call: bool(call.json_key) and stack.bucket.exists(str(call.json_key)), recent)
        return [str(call.archived_at) for call, is_there in zip(recent, there, strict=True) if not is_there]


def memories(stack: Stack) -> dict[str, int]:
    """Memories that are not written yet: unknown (sending), Mem0 is working on it (sent), to be sent again (idle)."""
    return {state: stack.records.count("by-state", state) for state in ("sending", "sent", "idle")}


def last_hourly_run(stack: Stack) -> dict[str, Any]:
    """What the last hourly run found."""
    return dict(json.loads(Bookmarks(stack.table).read("report") or "{}"))


def render(view: View, found: dict[str, Any]) -> None:
    view.console.print(queue_table(found))
    view.console.print()
    facts = {name: listed(found[name]) for name in ("calls", "memories", "last_hourly_run")}
    facts = {"webhooks_in_the_last_hour": describe_webhooks(found["webhooks_in_the_last_hour"])} | facts
    for name, text in (facts | {"concurrency": describe(found["concurrency"])}).items():
        view.paragraph(text, first=f"{name.replace('_', ' ').capitalize()}: ")
    render_errors(view, found["errors_in_the_last_hour"])
    for note in found["good_to_know"]:
        view.paragraph(note, first="Good to know: ")
    view.console.print()
    if not found["next"]:
        view.console.print("All is well.", style="green")
    for trouble in found["next"]:
        render_trouble(view, trouble)


def queue_table(found: dict[str, Any]) -> Table:
    title = f"Stack {found['stack']}, {found['at']}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim")
    for column in ("Queue", "", "Waiting", "At work", "Delayed", "Oldest"):
        table.add_column(column)
    for queue in found["queues"]:
        cells = (queue[name] for name in ("name", "kind", "waiting", "at_work", "delayed"))
        table.add_row(*map(str, cells), age(queue["oldest_seconds"]), style="red" if is_dead(queue) else "")
    return table


def describe_webhooks(webhooks: dict[str, Any]) -> str:
    tests = f" (and {webhooks['tests']} tests)" if webhooks["tests"] else ""
    reasons = f" ({listed(webhooks['refused_by_reason'])})" if webhooks["refused"] else ""
    return f"{webhooks['accepted']} accepted{tests}, {webhooks['refused']} refused{reasons}"


def render_errors(view: View, errors: list[dict[str, Any]]) -> None:
    for error in errors:
        standing = f" ({STANDINGS[error['standing']]})" if error["standing"] else ""
        view.paragraph(f"{error['times']} x {error['function']}: {error['error']}")
        view.paragraph(f"the last at {error['last_at']}{standing}", first="  ")


def render_trouble(view: View, trouble: dict[str, Any]) -> None:
    """What is wrong, then each command on a line of its own, so that it can be copied."""
    alarm = f" See {trouble['alarm']} in docs/operate.md." if trouble["alarm"] else ""
    view.paragraph(f"{trouble['trouble']}{alarm}", first="Next: ", style="red")
    for command in trouble["commands"]:
        view.console.print(f"      {command}", soft_wrap=True)


def listed(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in facts.items()) or "none yet"


def age(seconds: int | None) -> str:
    return "?" if seconds is None else "-" if seconds == 0 else str(timedelta(seconds=seconds))
