"""`ops replay`: send payloads, or archived calls, through the pipeline again."""

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
from scripts.operations.view import WITH_YES, View, several
from shared.call import Call
from shared.messages import Announcement
from shared.record import MEMORIES
from shared.times import utc
from shared.unnamed import Unnamed

LISTED = 24  # of a preview: what fits on a screen
COLUMNS = {
    "payloads": {"key": "Key", "received_at": "Received", "calls": "Calls", "bytes": "Bytes"},
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
    key: Annotated[str, typer.Option(help="One payload, by its key in staging/.")] = "",
    unarchived: Annotated[bool, typer.Option("--unarchived", help="Only payloads that are not archived.")] = False,
    dropped: Annotated[bool, typer.Option("--dropped", help="Also payloads whose messages were dropped.")] = False,
    only: Annotated[Part | None, typer.Option(help="memory: send archived calls to the memory writer only.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also replace objects of the same version. With --only memory: see above.")
    ] = False,
    per_second: Annotated[float, typer.Option(min=0.1, help="At most this many messages in a second.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what would be sent.")] = False,
) -> int:  # fmt: skip
    """Send payloads from staging/ through the pipeline again.

    With --only memory, send archived calls to the memory writer again, and nothing else.

    A replay is safe. It does not replace an object of the same or a newer version. With --force, it replaces those of
    the same version. It never writes a memory twice. With --only memory --force, it writes a memory again if Mem0 no
    longer has it: at the earliest an hour after the memory was sent, because until then Mem0 may not show it.

    A replay leaves out poison messages that are still in the dead-letter queue. It also leaves out payloads whose
    messages were dropped: --dropped sends them.

    If the command is interrupted, run it again: it continues. After it has finished, it starts from the beginning.

    Example: ops replay --since 2026-11-21T08:00 --until 2026-11-21T12:00 --unarchived --yes
    """
    view: View = context.obj
    choice = (since, until, caller, agent, conversation)
    if only and (key or unarchived or dropped):
        raise OpsError(
            "--only memory sends archived calls. --key, --unarchived and --dropped select payloads: leave them out."
        )
    if key and any(choice):
        raise OpsError("--key selects one payload. Leave out the other options that select.")
    if only:
        plan = plan_memories(view, Chosen(view.stack, *choice))
    else:
        plan = plan_key(view, key) if key else plan_bodies(view, Chosen(view.stack, *choice), unarchived, dropped)
    run = Run(view, [*choice, key, unarchived, dropped, only, force], plan.work)
    if not yes or not plan.work:
        advice = WITH_YES if plan.work else why_nothing_matches(*choice[2:])
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
        raise OpsError(
            f"{key!r} is not the key of a payload. A key looks like this: staging/YYYY/MM/DD/HH/{{delivery_id}}.json"
        )
    if not view.stack.bucket.exists(key):
        raise OpsError("There is no payload with this key, or not any more.")
    return Plan("payloads", {key: (key, received_at(key))})


def plan_bodies(view: View, chosen: Chosen, unarchived: bool, dropped: bool) -> Plan:
    """The chosen bodies, without those that were dropped, or that the archiver cannot process."""
    with view.progress.status("Looking for the payloads ..."):
        is_archived = view.stack.bucket.is_archived
        found = {key: at for key, at in chosen.staged() if not (unarchived and is_archived(key))}
        given_up = set() if dropped else Unnamed(view.stack.table).dropped() & found.keys()
        given_up = {key for key in given_up if unarchived or not is_archived(key)}
    poison = poison_keys(view) & found.keys() - given_up if found else set()
    work = {f"{utc(at)} {key}": (key, at) for key, at in found.items() if key not in given_up | poison}
    return Plan("payloads", work, {"dropped": len(given_up), "poison": len(poison)})


def poison_keys(view: View) -> set[str]:
    """The payloads of the poison messages in the archiver's dead-letter queue."""
    with DeadLetterQueue(view.stack, "archive").letters(view) as letters:
        return {letter.staged_key for letter in letters if letter.is_poison}


def why_nothing_matches(caller: str, agent: str, conversation: str) -> str:
    by_record = "A payload that is not archived may have no record. Select it with --since and --unarchived"
    return f"There is nothing to do{f'. {by_record}' if caller or agent or conversation else ''}"


def left_out(plan: Plan) -> Iterator[str]:
    if count := plan.left_out.get("dropped"):
        yield f"Left out: {count} that an operator dropped. To send them too, add --dropped"
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
    title = f"{several(len(run.left), plan.what.removesuffix('s'), plan.what)} would be replayed"
    title += f": the first {LISTED}, and {more} more" if more else ""
    sent_before = several(len(plan.work) - len(run.left), "was", "were")
    title += f"; {sent_before} sent before" if len(run.left) < len(plan.work) else ""
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
                UpdateExpression="SET #state = :sending, open_state = :sending",
                ConditionExpression="#state = :done",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":sending": "sending", ":done": "done"},
            )
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            continue
