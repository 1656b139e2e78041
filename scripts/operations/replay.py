"""`ops replay`: send staged bodies, or archived calls, through the pipeline again."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from reconciler.bookmarks import Bookmarks
from reconciler.staging import claim_check
from scripts.aws_session import OpsError
from scripts.operations.dead_letters import DeadLetterQueue
from scripts.operations.selection import Agent, Caller, CallId, Chosen, Since, Until, is_staged, received_at
from scripts.operations.staged import describe
from scripts.operations.view import View
from shared.call import Call
from shared.messages import Announcement
from shared.record import MEMORIES
from shared.times import utc
from shared.unnamed import Unnamed

LISTED = 24  # of a preview: what fits on a screen
COLUMNS = {
    "staged_bodies": {"key": "Staged key", "received_at": "Received", "calls": "Calls", "bytes": "Bytes"},
    "calls": {"call": "Call", "archived_at": "Archived"},
}


class Part(StrEnum):
    memory = "memory"


@dataclass(frozen=True)
class Plan:
    """What a replay sends, by names that begin with a time; and how many it leaves out, by the reason."""

    what: str
    work: dict[str, Any]
    left_out: dict[str, int] = field(default_factory=dict)


def replay(
    context: typer.Context,
    since: Since = "", until: Until = "", caller: Caller = "", agent: Agent = "", conversation: CallId = "",
    key: Annotated[str, typer.Option(help="One staged body, by its key.")] = "",
    unarchived: Annotated[bool, typer.Option("--unarchived", help="Only bodies that were never archived.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Also bodies whose messages were dropped.")] = False,
    only: Annotated[Part | None, typer.Option(help="memory: send calls to the memory writer alone.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also replace objects of the same version.")] = False,
    per_second: Annotated[float, typer.Option(min=0.1, help="Messages per second, at most.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only show what would be sent.")] = False,
) -> int:  # fmt: skip
    """Send staged bodies through the pipeline again, or with --only memory archived calls to the memory writer.

    It is safe: an object of the same or a newer version stays, unless --force is given, and no call is remembered
    twice. With --only memory --force, a memory that Mem0 no longer has is written again, at the earliest an hour after
    it was sent: until then Mem0 may not show it.
    Bodies that the archiver cannot process stay out while their message is in the dead-letter queue, and after it was
    dropped. If the replay is interrupted, the same command continues. After it has finished, the same command starts
    from the beginning.

    Example: ops replay --since 2026-11-21T08:00 --until 2026-11-21T12:00 --unarchived --yes
    """
    view: View = context.obj
    choice = (since, until, caller, agent, conversation)
    if only and (key or unarchived or dropped):
        raise OpsError("--only memory is about archived calls: --key, --unarchived and --dropped choose staged bodies.")
    if key and any(choice):
        raise OpsError("--key names one staged body: leave the other choices out.")
    if only:
        plan = plan_memories(view, Chosen(view.stack, *choice))
    else:
        plan = plan_key(view, key) if key else plan_bodies(view, Chosen(view.stack, *choice), unarchived, dropped)
    run = Run(view, [*choice, key, unarchived, dropped, only, force], plan.work)
    if not yes or not plan.work:
        advice = "the same command with --yes" if plan.work else why_nothing_matches(*choice[2:])
        show_preview(view, plan, run, "\n".join([advice, *left_out(plan)]))
        return 0
    run.send_all(remember(view, force) if only else hand_on(view, force), per_second)
    view.show(counts(plan, run) | {"sent": len(run.left)}, "Replayed", "\n".join(["ops status", *left_out(plan)]))
    return 0


def plan_memories(view: View, chosen: Chosen) -> Plan:
    with view.progress.status("Looking for the calls ..."):
        calls = [call for call in chosen.calls() if call.t_order and not call.erased_at]
    return Plan("calls", {f"{call.archived_at} {call.conversation_id}": call for call in calls})


def plan_key(view: View, key: str) -> Plan:
    if not is_staged(key):
        raise OpsError(f"{key!r} is not a staged key: staging/YYYY/MM/DD/HH/{{delivery_id}}.json")
    if not view.stack.bucket.exists(key):
        raise OpsError("There is no staged body under that key (any more).")
    return Plan("staged_bodies", {key: (key, received_at(key))})


def plan_bodies(view: View, chosen: Chosen, unarchived: bool, dropped: bool) -> Plan:
    """The chosen bodies, without those that were dropped, or that the archiver cannot process."""
    with view.progress.status("Looking for the staged bodies ..."):
        is_archived = view.stack.bucket.is_archived
        found = {key: at for key, at in chosen.staged() if not (unarchived and is_archived(key))}
        given_up = set() if dropped else Unnamed(view.stack.table).dropped() & found.keys()
        given_up = {key for key in given_up if unarchived or not is_archived(key)}
    poison = poison_keys(view) & found.keys() - given_up if found else set()
    work = {f"{utc(at)} {key}": (key, at) for key, at in found.items() if key not in given_up | poison}
    return Plan("staged_bodies", work, {"dropped": len(given_up), "poison": len(poison)})


def poison_keys(view: View) -> set[str]:
    """The staged bodies of the poison messages in the archiver's dead-letter queue."""
    with DeadLetterQueue(view.stack, "archive").letters(view) as letters:
        return {letter.staged_key for letter in letters if letter.is_poison}


def why_nothing_matches(caller: str, agent: str, conversation: str) -> str:
    by_record = "A body that was never archived has no record: choose it with --since and --unarchived"
    return f"There is nothing to do{f'. {by_record}' if caller or agent or conversation else ''}"


def left_out(plan: Plan) -> Iterator[str]:
    if count := plan.left_out.get("dropped"):
        yield f"Left out: {count} that an operator dropped (--dropped sends them too)"
    if count := plan.left_out.get("poison"):
        yield f"Left out: {count} that the archiver cannot process: ops dlq show archive"


def show_preview(view: View, plan: Plan, run: "Run", advice: str) -> None:
    """List the oldest of what would be sent."""
    with view.progress.status("Reading them ..."):
        rows = [listed(view, plan.work[name]) for name in run.left[:LISTED]]
    more = len(run.left) - len(rows)
    if view.as_json:
        view.show(counts(plan, run) | {"listed": rows, "more": more}, "To be replayed", advice)
        return
    title = f"{len(run.left)} {plan.what.replace('_', ' ')} would be replayed"
    title += f": the first {LISTED}, and {more} more" if more else ""
    title += f"; {len(plan.work) - len(run.left)} were sent before" if len(run.left) < len(plan.work) else ""
    view.table(rows, COLUMNS[plan.what], title, advice, empty=f"{title}.")


def listed(view: View, work: Any) -> dict[str, Any]:
    if isinstance(work, Call):
        return {"call": work.conversation_id, "archived_at": work.archived_at}
    key, at = work
    return {"key": key, "received_at": utc(at)} | describe(view.stack, key)


def counts(plan: Plan, run: "Run") -> dict[str, int]:
    return {plan.what: len(plan.work), "sent_before": len(plan.work) - len(run.left)} | plan.left_out


class Run:
    """Sends work in the order of its names, which begin with a time: what arrives during the run comes last.

    The last name that was sent is kept in the table until all is sent, under the command's options.
    """

    def __init__(self, view: View, options: list[Any], work: dict[str, Any]) -> None:
        self._view, self._work, self._bookmarks = view, work, Bookmarks(view.stack.table)
        self._name = f"replay-{hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]}"
        reached = self._bookmarks.read(self._name) or ""
        self.left = [name for name in sorted(work) if name > reached]

    def send_all(self, send: Callable[[Any], None], per_second: float) -> None:
        def step(name: str) -> None:
            send(self._work[name])
            self._bookmarks.write(self._name, name)

        self._view.each(self.left, step, per_second, "Replaying")
        self._bookmarks.remove(self._name)


def hand_on(view: View, force: bool) -> Callable[[tuple[str, datetime]], None]:
    """A function that sends a claim check to the archiver."""
    sqs, queue = view.stack.client("sqs"), view.stack.output("ArchiveQueueUrl")

    def send(staged: tuple[str, datetime]) -> None:
        check = claim_check(*staged, "replay", force=force)
        if check:
            sqs.send_message(QueueUrl=queue, MessageBody=check.to_json())

    return send


def remember(view: View, force: bool) -> Callable[[Call], None]:
    """A function that sends an announcement to the memory writer alone."""
    sqs, queue = view.stack.client("sqs"), view.stack.output("MemoryQueueUrl")

    def send(call: Call) -> None:
        if force:
            mark_unknown(view.stack.table, call.conversation_id)
        sqs.send_message(QueueUrl=queue, MessageBody=Announcement.of(call).to_json())

    return send


def mark_unknown(table: Any, conversation_id: str) -> None:
    """Change `done` memories to `sending` in the ledger: the memory writer then looks in Mem0 before it writes.

    `started` stays, because Mem0 may show a memory only an hour after it was sent.
    """
    for item in MEMORIES:
        try:
            table.update_item(
                Key={"conversation_id": conversation_id, "item": item},
                UpdateExpression="SET #state = :sending",
                ConditionExpression="#state = :done",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":sending": "sending", ":done": "done"},
            )
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            continue
