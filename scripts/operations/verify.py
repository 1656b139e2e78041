"""`ops verify`: whether everything that is kept of a call agrees."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any

import typer

from memory_writer.memories import build_memories, find_user
from memory_writer.memory import Memory, MemoryBackend
from scripts.aws_session import OpsError
from scripts.operations.selection import Agent, Caller, Chosen, Since, Until
from scripts.operations.stack import Stack, memory_backend
from scripts.operations.view import View
from shared import keys
from shared.conversation import Conversation
from shared.errors import AgenticMemoryError
from shared.record import Call
from shared.webhooks import read_archived

KINDS = ("factual", "semantic")
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
    mem0: Annotated[bool, typer.Option(help="Ask Mem0 too, or believe the ledger.")] = True,
    problems: Annotated[bool, typer.Option("--problems", help="Show only calls with a problem.")] = False,
) -> int:  # fmt: skip
    """Check for each call whether staged body, JSON, MP3, record, memories and their receipts agree, and if not, why.

    Exit code 1 if any call has a problem. Example: ops verify --since 24h
    """
    view: View = context.obj
    chosen = Chosen(view.stack, since, until, caller, agent, conversation)
    inspect = Inspection(view.stack, ask_mem0=mem0)
    with view.progress.status("Looking for the calls ..."):
        calls = list(chosen.calls())
    if conversation and not calls:
        raise OpsError(f"Nothing is known of {conversation}: no webhook brought it, and no pass fetched it.", code=1)
    with view.bar() as bar:
        rows = [inspect.row(call) for call in bar.track(calls, description="Verifying")]
    wrong = [row for row in rows if row["problems"]]
    advice = (
        "ops dlq list: heal and redrive what is there; what stays wrong: ops replay --conversation ID --force --yes"
        if wrong
        else ""
    )
    title = f"{len(calls)} calls, {len(wrong)} with a problem"
    view.table(wrong if problems else rows, COLUMNS, title, advice, empty=f"{title}.")
    return 1 if wrong else 0


class Inspection:
    """Reads what is kept of a call. Each finding is a sentence that says what does not agree."""

    def __init__(self, stack: Stack, *, ask_mem0: bool) -> None:
        self._stack, self._ask_mem0 = stack, ask_mem0

    def row(self, call: Call) -> dict[str, Any]:
        if call.erased_at:
            again = f"its erasure is not through: ops erase --conversation {call.conversation_id} --yes"
            return {"call": call.conversation_id, "json": "erased", "mp3": "erased", "factual": "-", "semantic": "-",
                    "problems": [again] if call.is_known else []}  # fmt: skip
        if call.left_out:
            return {"call": call.conversation_id, "json": f"left out: {call.left_out}", "mp3": "left out",
                    "factual": "-", "semantic": "-", "problems": []}  # fmt: skip
        told, conversation, problems = self._json(call)
        problems += self._staged(call) + self._mp3(call)
        states = {kind: self._entry(call, kind) for kind in KINDS}
        problems += [problem for kind in KINDS for problem in self._memory(told, kind, states[kind], conversation)]
        return {
            "call": call.conversation_id,
            "json": "archived" if conversation else "missing",
            "mp3": call.audio or ("parked" if call.parked else "-"),
            **{kind: _standing(entry) for kind, entry in states.items()},
            "problems": problems,
        }

    def _json(self, call: Call) -> tuple[Call, Conversation | None, list[str]]:
        """The call as its JSON tells it, which says whose memories they are; what it holds; what does not agree."""
        if call.t_order is None:
            return call, None, ["its audio is parked, and no transcript came" if call.parked else "no transcript came"]
        read = self._stack.bucket.read(keys.call_json(str(call.folder), call.conversation_id))
        if read is None:
            return call, None, ["the record has a transcript, and the archive no JSON"]
        body, metadata = read
        told = replace(call, external_number=metadata.get("external_number"), agent_id=metadata.get("agent_id"))
        problems = [] if metadata.get("order") == call.t_order else ["the JSON is of another version than the record"]
        try:
            return told, read_archived(body), problems
        except AgenticMemoryError:
            return call, None, [*problems, "the JSON cannot be read"]

    def _mp3(self, call: Call) -> list[str]:
        mp3 = self._stack.metadata(keys.call_mp3(str(call.folder), call.conversation_id)) if call.folder else None
        if call.parked and call.t_order:
            return ["its audio is parked, although its folder is known"]
        if call.audio == "archived":
            if mp3 is None:
                return ["the record has a recording, and the archive no MP3"]
            return [] if mp3.get("order") == call.mp3_order else ["the MP3 is of another version than the record"]
        return ["the archive has an MP3 that the record does not know"] if mp3 is not None else []

    def _staged(self, call: Call) -> list[str]:
        """Staged bodies may be gone after their 30 days; what is there must be finished."""
        waiting = {each.staged_key for each in call.waiting} if call.t_order is None else set()
        parked = {call.parked.staged_key} if call.parked else set()
        unfinished = [key for key in call.staged_keys - waiting - parked if not self._stack.bucket.is_archived(key)]
        return [f"staged bodies that are not finished: {len(unfinished)}"] if unfinished else []

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
            yield f"the {kind} memory is not written: {entry.get('state', 'nobody began')}"
        elif self._ask_mem0 and entry.get("memory_ids"):
            taken, there = set(entry["memory_ids"]), set(self._backend.find(memory))
            if lost := taken - there:
                yield f"Mem0 does not have {len(lost)} of the {len(taken)} {kind} memories that it took"
            if more := there - taken:
                yield f"Mem0 has {kind} memories that the ledger has no receipt for: {len(more)}"

    @cached_property
    def _backend(self) -> MemoryBackend:
        return memory_backend(
            self._stack, "The stack does not remember: give it Mem0ApiKey or MemoryConfig, or verify with --no-mem0."
        )


def _standing(entry: dict[str, Any]) -> str:
    if entry.get("state") != "done":
        return str(entry.get("state", "-"))
    return str(entry.get("reason") or f"done, {entry.get('memories', 0)} in Mem0")


def _memory_of(call: Call, kind: str, conversation: Conversation) -> Memory | None:
    """The memory to look for; None if there is nobody to remember it for. With inference any part of it counts."""
    user_id = find_user(call, conversation)
    built = build_memories(call, conversation, user_id, infer=True) if user_id else []
    return next((replace(memory, infer=True) for memory in built if memory.type == kind), None)
