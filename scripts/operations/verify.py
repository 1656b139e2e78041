"""`ops verify`: whether all data about a call agrees, and which payloads are not archived."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Annotated, Any

import typer

from memory_writer.memories import build_memories, find_user
from memory_writer.memory import KINDS, Memory, MemoryBackend
from scripts.aws_session import OpsError
from scripts.operations.erasure.journal import Journal
from scripts.operations.selection import Agent, Caller, Chosen, Since, Until
from scripts.operations.stack import Stack, memory_backend
from scripts.operations.unfinished import NOT_ERASED, PARKED, Unfinished, UnfinishedBodies
from scripts.operations.view import View, several
from shared import keys
from shared.call import Call
from shared.conversation import Conversation
from shared.errors import AgenticMemoryError
from shared.keys import staged_delivery_id
from shared.webhooks import read_archived

FIX_CALLS = (
    "Fix the cause. Then redrive the messages in the dead-letter queues: ops dlq list\n"
    "If a problem stays: ops replay --conversation ID --force --yes"
)
COLUMNS = {
    "call": "Call",
    "json": "JSON",
    "mp3": "MP3",
    "factual": "Factual",
    "semantic": "Semantic",
    "problems": "Problems",
}


def verify(
    context: typer.Context,
    conversation: Annotated[str, typer.Argument(help="One call, by its conversation id.")] = "",
    since: Since = "", until: Until = "", caller: Caller = "", agent: Agent = "",
    mem0: Annotated[bool, typer.Option(help="Ask Mem0 too, or only read the ledger.")] = True,
    problems: Annotated[bool, typer.Option("--problems", help="Show only calls with a problem.")] = False,
) -> int:  # fmt: skip
    """Check one call, or all calls of a time range or of a caller.

    For each call, compare payloads, JSON, MP3, record, memories and receipts, and show what does not agree. Payloads
    that are not archived are shown too, but not with --caller or --agent.

    Exit code 1 if there is a problem. Example: ops verify --since 24h
    """
    view: View = context.obj
    chosen = Chosen(view.stack, since, until, caller, agent, conversation)
    inspect = Inspection(view.stack, ask_mem0=mem0)
    with view.progress.status("Looking for the calls ..."):
        calls = list(chosen.calls())
    bodies = unfinished_bodies(view, chosen, calls)
    with view.bar() as bar:
        rows = [inspect.row(call) for call in bar.track(calls, description="Verifying")]
    not_erased = [[row["call"]] for row in rows if row["problems"] == [NOT_ERASED]]
    not_erased += [each.calls for each in bodies if each.problem == NOT_ERASED]
    bad_calls = [row for row in rows if row["problems"] not in ([], [NOT_ERASED])]
    bad_bodies = [each for each in bodies if each.cure]
    rows += map(body_row, bodies)
    wrong = [row for row in rows if row["problems"]]
    staged = several(len(bodies), "unfinished payload", "unfinished payloads")
    what = f"{several(len(calls), 'call', 'calls')}{f' and {staged}' if bodies else ''}"
    title = f"{what}, {len(wrong)} with a problem"
    finish = erasures(Journal(view.stack), sorted({call for calls in not_erased for call in calls}))
    advice = "\n".join([FIX_CALLS] * bool(bad_calls) + cures(bad_bodies) + finish)
    view.table(wrong if problems else rows, COLUMNS, title, advice, empty=f"{title}.")
    return 1 if wrong else 0


def unfinished_bodies(view: View, chosen: Chosen, calls: list[Call]) -> list[Unfinished]:
    """The payloads that are not archived, without those that the records of the calls name.

    Raises OpsError if a single call has neither a record nor a body.
    """
    if chosen.conversation and any(call.t_order or call.erased_at or call.left_out for call in calls):
        return []
    if not chosen.conversation and (chosen.caller or chosen.agent):
        return []
    bodies = UnfinishedBodies(view, datetime.now(timezone.utc))
    with view.progress.status("Looking for unfinished payloads ..."):
        found = bodies.of_call(chosen.conversation) if chosen.conversation else bodies.unfinished_of(chosen.staged())
    if chosen.conversation and not calls and not found:
        skipped = (
            f" Not checked: {several(bodies.skipped, 'payload', 'payloads')} of the last hours."
            if bodies.skipped
            else ""
        )
        raise OpsError(
            f"Nothing is known of {chosen.conversation}: "
            f"there is no record, no unfinished payload, and no message in ArchiveDlq.{skipped}",
            code=1,
        )
    named = {key for call in calls for key in call.staged_keys}
    return [each for each in found if each.key not in named]


def body_row(body: Unfinished) -> dict[str, Any]:
    delivery = f"(delivery {str(staged_delivery_id(body.key))[:12]})"
    return {"call": ", ".join(body.calls) or delivery, "json": body.state, "mp3": "-", "factual": "-", "semantic": "-",
            "problems": [body.problem] if body.problem else []}  # fmt: skip


def cures(bodies: list[Unfinished]) -> list[str]:
    """Each cure once. Several bodies are replayed by one command."""
    replays = [each.cure for each in bodies if each.cure.startswith("ops replay")]
    others = sorted({each.cure for each in bodies} - set(replays))
    return others + (replays if len(replays) < 2 else ["ops replay --since TIME --unarchived --yes"])


def erasures(journal: Journal, calls: list[str]) -> list[str]:
    """The commands that finish the erasures of these calls, each once: first those that were interrupted."""
    begun = journal.unfinished() if calls else []
    of_calls = [each["conversation"] for each in begun if each.get("conversation") in calls]
    callers = [each["caller"] for each in begun if "caller" in each]
    commands = [f"This erasure was interrupted: ops erase --conversation {each} --yes" for each in of_calls]
    commands += [f"The erasure of {each} was interrupted: ops erase NUMBER --yes" for each in callers]
    others = [] if callers else [each for each in calls if each not in of_calls]
    if len(others) > 1:
        return [*commands, "Erase the caller of these calls: ops erase NUMBER --yes"]
    return commands + [f"Finish this erasure: ops erase --conversation {each} --yes" for each in others]


class Inspection:
    """Reads all data about a call. Each problem is a sentence that says what does not agree."""

    def __init__(self, stack: Stack, *, ask_mem0: bool) -> None:
        self._stack, self._ask_mem0 = stack, ask_mem0

    def row(self, call: Call) -> dict[str, Any]:
        if call.erased_at:
            return {"call": call.conversation_id, "json": self._left(call, keys.call_json),
                    "mp3": self._left(call, keys.call_mp3), "factual": "-", "semantic": "-",
                    "problems": [NOT_ERASED] if call.is_known else []}  # fmt: skip
        if call.left_out:
            return {"call": call.conversation_id, "json": f"left out: {call.left_out}", "mp3": "left out",
                    "factual": "-", "semantic": "-", "problems": []}  # fmt: skip
        known, conversation, problems = self._json(call)
        problems += self._staged(call) + self._mp3(call) + self._transcription(call)
        states = {kind: self._entry(call, kind) for kind in KINDS}
        problems += [problem for kind in KINDS for problem in self._memory(known, kind, states[kind], conversation)]
        return {
            "call": call.conversation_id,
            "json": "archived" if conversation else "missing",
            "mp3": call.audio or ("parked" if call.parked else "-"),
            **{kind: _standing(entry) for kind, entry in states.items()},
            "problems": problems,
        }

    def _left(self, call: Call, key_of: Callable[[str, str], str]) -> str:
        """Whether an erasure has deleted an object. It clears the record, and with it the folder, afterwards."""
        is_there = call.folder and self._stack.metadata(key_of(call.folder, call.conversation_id)) is not None
        return "still there" if is_there else "erased"

    def _json(self, call: Call) -> tuple[Call, Conversation | None, list[str]]:
        """The call with the number and agent of its JSON, the conversation in it, and what does not agree."""
        if call.t_order is None:
            return call, None, [PARKED if call.parked else "no transcript came"]
        read = self._stack.bucket.read(keys.call_json(str(call.folder), call.conversation_id))
        if read is None:
            return call, None, ["the record has a transcript, but the archive has no JSON"]
        body, metadata = read
        known = replace(call, external_number=metadata.get("external_number"), agent_id=metadata.get("agent_id"))
        problems = [] if metadata.get("order") == call.t_order else ["the JSON is of another version than the record"]
        try:
            return known, read_archived(body), problems
        except AgenticMemoryError:
            return call, None, [*problems, "the JSON cannot be read"]

    def _mp3(self, call: Call) -> list[str]:
        mp3 = self._stack.metadata(keys.call_mp3(str(call.folder), call.conversation_id)) if call.folder else None
        if call.parked and call.t_order:
            return ["its audio is parked, but its folder is known"]
        if call.audio == "archived":
            if mp3 is None:
                return ["the record has a recording, but the archive has no MP3"]
            return [] if mp3.get("order") == call.mp3_order else ["the MP3 is of another version than the record"]
        return ["the archive has an MP3 that is not in the record"] if mp3 is not None else []

    def _transcription(self, call: Call) -> list[str]:
        """What Amazon Transcribe heard, if the stack has it transcribe recordings."""
        if call.transcription is None:
            return []
        if call.transcription.state == "failed":
            return [f"its recording could not be transcribed: {call.transcription.reason}"]
        is_done = call.transcription.state == "done"
        is_there = self._stack.metadata(keys.call_transcription(str(call.folder), call.conversation_id)) is not None
        return ["the record has a transcription, but the archive has none"] if is_done and not is_there else []

    def _staged(self, call: Call) -> list[str]:
        """Payloads expire after 30 days; those that exist must be archived."""
        waiting = {each.staged_key for each in call.waiting} if call.t_order is None else set()
        parked = {call.parked.staged_key} if call.parked else set()
        unfinished = [key for key in call.staged_keys - waiting - parked if not self._stack.bucket.is_archived(key)]
        return [f"payloads that are not archived: {len(unfinished)}"] if unfinished else []

    def _entry(self, call: Call, kind: str) -> dict[str, Any]:
        key = {"conversation_id": call.conversation_id, "item": f"memory#{kind}"}
        return dict(self._stack.table.get_item(Key=key, ConsistentRead=True).get("Item", {}))

    def _memory(self, call: Call, kind: str, entry: dict[str, Any], conversation: Conversation | None) -> Iterator[str]:
        if conversation is None:
            return
        memory = _memory_of(call, kind, conversation)
        if memory is None:
            return
        if entry.get("state") != "done":
            yield f"the {kind} memory is not written: {entry.get('state', 'not started')}"
        elif self._ask_mem0 and entry.get("memory_ids"):
            taken, there = set(entry["memory_ids"]), set(self._backend.find(memory))
            if lost := taken - there:
                yield f"{kind} memories that Mem0 accepted and does not have: {len(lost)} of {len(taken)}"
            if more := there - taken:
                yield f"{kind} memories in Mem0 without a receipt in the ledger: {len(more)}"

    @cached_property
    def _backend(self) -> MemoryBackend:
        return memory_backend(
            self._stack, "The stack has no Mem0. Deploy it with Mem0ApiKey or MemoryConfig, or add --no-mem0."
        )


def _standing(entry: dict[str, Any]) -> str:
    if entry.get("state") != "done":
        return str(entry.get("state", "-"))
    return str(entry.get("reason") or f"done, {entry.get('memories', 0)} in Mem0")


def _memory_of(call: Call, kind: str, conversation: Conversation) -> Memory | None:
    """The memory to look for; None if the call has no user id. With inference each part of it counts."""
    user_id = find_user(call, conversation)
    built = build_memories(call, conversation, user_id, infer=True) if user_id else []
    return next((replace(memory, infer=True) for memory in built if memory.type == kind), None)
