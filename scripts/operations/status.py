"""`ops status`: what is wrong, on one screen, and what to do next."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, get_args

import typer
from rich.table import Table

from reconciler.bookmarks import Bookmarks
from scripts.concurrency import concurrency, describe, low_limit, nearly_used_up
from scripts.operations.dead_letters import SOURCES
from scripts.operations.logs import FUNCTIONS, ONLY_WITH, failures, reason
from scripts.operations.stack import Stack
from scripts.operations.view import View, shown
from shared.messages import Audio
from shared.times import utc

HOUR = timedelta(hours=1)
MOST = 1000  # counted of what has no quick count


def status(context: typer.Context) -> int:
    """Show queues, calls, memories, Lambda's concurrency, alarms and the last errors, and what to do next.

    Exit code 1 if something needs somebody. Example: ops status
    """
    view: View = context.obj
    now = datetime.now(timezone.utc)
    with view.progress.status("Asking ..."):
        found: dict[str, Any] = {
            "stack": view.stack.name,
            "queues": list(queues(view.stack, now)),
            "calls": calls(view.stack, now),
            "memories": memories(view.stack),
            "concurrency": concurrency(view.stack.client, now),
            "last_pass": last_pass(view.stack),
            "alarms": alarms(view.stack),
            "errors_in_the_last_hour": errors(view.stack, now),
        }
    found["next"] = advise(found)
    found["good_to_know"] = [note for note in [low_limit(found["concurrency"])] if note]
    if view.as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        render(view, found)
    return 1 if found["next"] else 0


def queues(stack: Stack, now: datetime) -> Iterator[dict[str, Any]]:
    """Each queue and its dead-letter queue; the age of the oldest message in seconds, where CloudWatch knows it."""
    for name, (dead, source) in SOURCES.items():
        for kind, output in (("queue", source), ("dead letters", dead)):
            if output in stack.outputs:
                yield {"name": name, "kind": kind} | depth(stack, stack.outputs[output], now)


def depth(stack: Stack, url: str, now: datetime) -> dict[str, Any]:
    states = {"waiting": "", "at_work": "NotVisible", "delayed": "Delayed"}
    names = {state: f"ApproximateNumberOfMessages{suffix}" for state, suffix in states.items()}
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(names.values()))["Attributes"]
    counts = {state: int(answer[name]) for state, name in names.items()}
    return counts | {"oldest_seconds": oldest(stack, url.rsplit("/", 1)[-1], now) if sum(counts.values()) else 0}


def oldest(stack: Stack, queue: str, now: datetime) -> int | None:
    points = stack.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SQS", MetricName="ApproximateAgeOfOldestMessage", Statistics=["Maximum"], Period=60,
        Dimensions=[{"Name": "QueueName", "Value": queue}], StartTime=now - timedelta(minutes=10), EndTime=now,
    )["Datapoints"]  # fmt: skip
    return int(max(points, key=lambda point: point["Timestamp"])["Maximum"]) if points else None


def calls(stack: Stack, now: datetime) -> dict[str, int]:
    """Calls that were archived lately, and those whose audio is missing, parked or not to be had."""

    def archived_since(since: datetime) -> int:
        return sum(stack.records.count("by-audio", audio, utc(since)) for audio in get_args(Audio))

    return {
        "archived_in_the_last_hour": archived_since(now - HOUR),
        "archived_in_the_last_day": archived_since(now - 24 * HOUR),
        "audio_missing": stack.records.count("by-audio", "pending", until=utc(now - HOUR)),
        "audio_parked": stack.records.count("by-state", "parked"),
    }


def memories(stack: Stack) -> dict[str, int]:
    """Memories that are not written yet: nobody knows (sending), Mem0 works on it (sent), to be sent again (idle)."""
    return {state: stack.records.count("by-state", state) for state in ("sending", "sent", "idle")}


def last_pass(stack: Stack) -> dict[str, Any]:
    """What the reconciler found when it last ran."""
    return dict(json.loads(Bookmarks(stack.table).read("report") or "{}"))


def alarms(stack: Stack) -> list[dict[str, str]]:
    pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
    ours = re.compile(rf"{re.escape(stack.name)}-\w+-\w+")  # not those of a stack whose name begins with this one's
    alarms = (alarm for page in pages for alarm in page["MetricAlarms"] if ours.fullmatch(alarm["AlarmName"]))
    found = [alarm for alarm in alarms if alarm["StateValue"] == "ALARM"]
    return [{"alarm": alarm["AlarmName"], "says": alarm.get("AlarmDescription", "")} for alarm in found]


def errors(stack: Stack, now: datetime) -> list[dict[str, Any]]:
    """The functions' failures of the last hour, the most frequent first."""
    seen: Counter[tuple[str, str]] = Counter()
    for function in FUNCTIONS:
        if function not in ONLY_WITH or ONLY_WITH[function] in stack.outputs:
            for entry in islice(failures(stack, function, now - HOUR), MOST):
                seen[function, reason(entry)] += 1
    return [{"function": f, "error": error, "times": times} for (f, error), times in seen.most_common(5)]


def advise(found: dict[str, Any]) -> list[str]:
    """What to do, the most urgent first; nothing if all is well."""
    dead = [queue["name"] for queue in found["queues"] if is_dead(queue)]
    late = [
        queue["name"] for queue in found["queues"] if queue["kind"] == "queue" and (queue["oldest_seconds"] or 0) > 900
    ]
    advice = [f"ops dlq show {name}: messages could not be handled" for name in dead]
    advice += [f"read the alarm {each['alarm']}, and its entry in docs/operate.md" for each in found["alarms"]]
    advice += [f"the {name} queue is late: look at the errors below" for name in late]
    advice += [note for note in [nearly_used_up(found["concurrency"])] if note]
    if found["last_pass"].get("error"):
        advice.append(f"the last pass failed: {found['last_pass']['error']}")
    missing = found["last_pass"].get("missing_calls", 0) - found["last_pass"].get("outcomes", {}).get("fetched", 0)
    if missing > 0:
        advice.append(f"ops reconcile: {missing} calls are still missing")
    return advice


def is_dead(queue: dict[str, Any]) -> bool:
    """Whether there are dead letters in it; somebody may look at them just now."""
    return queue["kind"] == "dead letters" and bool(queue["waiting"] or queue["at_work"])


def render(view: View, found: dict[str, Any]) -> None:
    table = Table(
        title=f"Stack {found['stack']}", title_justify="left", title_style="bold", box=None, header_style="dim"
    )
    for column in ("Queue", "", "Waiting", "At work", "Delayed", "Oldest"):
        table.add_column(column)
    for queue in found["queues"]:
        colour = "red" if is_dead(queue) else ""
        cells = (queue[name] for name in ("name", "kind", "waiting", "at_work", "delayed"))
        table.add_row(*map(str, cells), age(queue["oldest_seconds"]), style=colour)
    view.console.print(table)
    view.console.print()
    facts = {name: listed(found[name]) for name in ("calls", "memories", "last_pass")}
    for name, text in (facts | {"concurrency": describe(found["concurrency"])}).items():
        view.console.print(name.replace("_", " ").capitalize(), style="bold", end=": ")
        view.console.print(text)
    for alarm in found["alarms"]:
        view.console.print("ALARM", style="red", end=" ")
        view.console.print(f"{alarm['alarm']}: {alarm['says']}")
    for error in found["errors_in_the_last_hour"]:
        view.console.print(f"{error['times']} x {error['function']}: {error['error']}")
    if not found["next"]:
        view.console.print()
        view.console.print("All is well.", style="green")
    for title, notes in (("Good to know", found["good_to_know"]), ("Next", found["next"])):
        for note in notes:
            view.console.print(f"{title}: {note}", soft_wrap=True)  # so that a command in it can be copied


def listed(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in facts.items()) or "none yet"


def age(seconds: int | None) -> str:
    return "?" if seconds is None else "-" if seconds == 0 else str(timedelta(seconds=seconds))
