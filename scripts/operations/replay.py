"""`ops replay`: through the pipeline again, whatever was staged or archived."""

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from reconciler.bookmarks import Bookmarks
from reconciler.staging import claim_check
from scripts.aws_session import OpsError
from scripts.operations.selection import Agent, Caller, CallId, Chosen, Since, Until, is_staged, received_at
from scripts.operations.view import View
from shared.messages import Announcement
from shared.record import Call
from shared.times import utc


class Part(StrEnum):
    memory = "memory"


def replay(
    context: typer.Context,
    since: Since = "", until: Until = "", caller: Caller = "", agent: Agent = "", conversation: CallId = "",
    key: Annotated[str, typer.Option(help="One staged body, by its key.")] = "",
    unarchived: Annotated[bool, typer.Option("--unarchived", help="Only what was never finished.")] = False,
    only: Annotated[Part | None, typer.Option(help="memory: leave the archive alone, and remember its calls.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write anew what is there in the same version.")] = False,
    per_second: Annotated[float, typer.Option(min=0.1, help="Messages in a second, at most.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say how many.")] = False,
) -> int:  # fmt: skip
    """Send staged bodies through the pipeline again, or with --only memory archived calls to the memory writer.

    It is safe: what is archived in the same or a newer version stays, unless --force; what is remembered is not
    remembered twice. With --only memory --force, a memory that Mem0 does not have (any more) is written again: an hour
    after it was sent at the earliest, because Mem0 may not show it before.
    Interrupted, the same command goes on where it was; once it is through, it begins anew.

    Example: ops replay --since 2026-11-21T08:00 --until 2026-11-21T12:00 --unarchived --yes
    """
    view: View = context.obj
    choice = (since, until, caller, agent, conversation)
    if only and (key or unarchived):
        raise OpsError("--only memory is about archived calls: --key and --unarchived choose staged bodies.")
    if key and any(choice):
        raise OpsError("--key names one staged body: leave the other choices out.")
    with view.progress.status("Looking for them ..."):
        if only:
            work: dict[str, Any] = {
                f"{call.archived_at} {call.conversation_id}": call
                for call in Chosen(view.stack, *choice).calls()
                if call.t_order and not call.erased_at
            }
        else:
            staged = one_key(view, key) if key else Chosen(view.stack, *choice).staged()
            work = {
                f"{utc(at)} {name}": (name, at)
                for name, at in staged
                if not (unarchived and view.stack.bucket.is_archived(name))
            }
    what = "calls" if only else "staged_bodies"
    run = Run(view, [*choice, key, unarchived, only, force], work)
    found = {what: len(work), "sent_before": len(work) - len(run.left)}
    if not yes or not work:
        view.show(found, "To be replayed", "the same command with --yes" if work else nothing(*choice[2:]))
        return 0
    run.go(remember(view, force) if only else hand_on(view, force), per_second)
    view.show(found | {"sent": len(run.left)}, "Replayed", "ops status")
    return 0


def nothing(caller: str, agent: str, conversation: str) -> str:
    by_record = " What was never archived has no record: choose it with --since and --unarchived."
    return f"There is nothing to do.{by_record if caller or agent or conversation else ''}"


def one_key(view: View, key: str) -> Iterable[tuple[str, datetime]]:
    if not is_staged(key):
        raise OpsError(f"{key!r} is no staged key: staging/YYYY/MM/DD/HH/{{delivery_id}}.json")
    if not view.stack.bucket.exists(key):
        raise OpsError("There is no staged body under that key (any more).")
    return [(key, received_at(key))]


class Run:
    """Named work in the order of the names, which begin with a time: what comes meanwhile comes last.

    How far a run came is kept in the table until it is through, under the options as they were written.
    """

    def __init__(self, view: View, options: list[Any], work: dict[str, Any]) -> None:
        self._view, self._work, self._bookmarks = view, work, Bookmarks(view.stack.table)
        self._name = f"replay-{hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]}"
        reached = self._bookmarks.read(self._name) or ""
        self.left = [name for name in sorted(work) if name > reached]

    def go(self, act: Callable[[Any], None], per_second: float) -> None:
        def step(name: str) -> None:
            act(self._work[name])
            self._bookmarks.write(self._name, name)

        self._view.each(self.left, step, per_second, "Replaying")
        self._bookmarks.remove(self._name)


def hand_on(view: View, force: bool) -> Callable[[tuple[str, datetime]], None]:
    """A sender of claim checks to the archiver."""
    sqs, queue = view.stack.client("sqs"), view.stack.output("ArchiveQueueUrl")

    def act(staged: tuple[str, datetime]) -> None:
        check = claim_check(*staged, "replay", force=force)
        if check:
            sqs.send_message(QueueUrl=queue, MessageBody=check.to_json())

    return act


def remember(view: View, force: bool) -> Callable[[Call], None]:
    """A sender of announcements to the memory writer alone."""
    sqs, queue = view.stack.client("sqs"), view.stack.output("MemoryQueueUrl")

    def act(call: Call) -> None:
        if force:
            doubt(view.stack.table, call.conversation_id)
        sqs.send_message(QueueUrl=queue, MessageBody=Announcement.of(call).to_json())

    return act


def doubt(table: Any, conversation_id: str) -> None:
    """Let the ledger say of what is done that nobody knows: the memory writer looks in Mem0 before it writes.

    `started` stays: Mem0 may not show yet what it took a moment ago, and not found counts only an hour after that.
    """
    for kind in ("factual", "semantic"):
        try:
            table.update_item(
                Key={"conversation_id": conversation_id, "item": f"memory#{kind}"},
                UpdateExpression="SET #state = :sending",
                ConditionExpression="#state = :done",
                ExpressionAttributeNames={"#state": "state"},
                ExpressionAttributeValues={":sending": "sending", ":done": "done"},
            )
        except table.meta.client.exceptions.ConditionalCheckFailedException:
            continue
