"""Builds a call's two memories: its facts, and its transcript."""

import re
from typing import Literal
from urllib.parse import quote

from memory_writer.memory import Kind, Memory, Message
from shared.call import Call
from shared.conversation import Conversation, Criterion
from shared.messages import Announcement
from shared.times import utc

_SPACE = re.compile(r"\s")
_ROLES: dict[str, Literal["user", "assistant"]] = {"agent": "assistant", "user": "user"}


def find_user(call: Announcement | Call, conversation: Conversation) -> str | None:
    """The Mem0 user: the caller's number, or else an id that the client gave, or None.

    A client's id gets a prefix, so that a web client cannot use a phone number and write into that caller's memories.
    Mem0 refuses white space in ids, so it is percent-encoded.
    """
    if call.external_number:
        return call.external_number
    given = conversation.client_user_id
    return f"user:{_SPACE.sub(lambda space: quote(space[0]), _to_utf8(given))}" if given else None


def build_memories(call: Announcement | Call, conversation: Conversation, user_id: str, infer: bool) -> list[Memory]:
    """The factual memory, always verbatim, and the semantic one. Without messages, a memory has nothing to say."""

    def build(kind: Kind, messages: list[Message], infer: bool) -> Memory:
        started_at = conversation.started_at
        metadata: dict[str, str | int | None] = {
            "type": kind,
            "agent_id": call.agent_id,
            "conversation_id": call.conversation_id,
            "call_duration": conversation.duration_secs,
            "timestamp": utc(started_at) if started_at else None,
        }
        return Memory(user_id, kind, messages, metadata, infer)

    return [build("factual", facts(conversation), infer=False), build("semantic", turns(conversation), infer)]


def facts(conversation: Conversation) -> list[Message]:
    """One message: the summary, then a line per evaluation criterion."""
    lines = [conversation.summary or "", *map(_criterion, conversation.criteria())]
    text = _to_utf8("\n".join(line for line in lines if line.strip()))
    return [{"role": "assistant", "content": text}] if text else []


def turns(conversation: Conversation) -> list[Message]:
    """The transcript, without the turns that have no words ("...")."""
    said = ((_ROLES.get(turn.role or ""), _to_utf8((turn.message or "").strip())) for turn in conversation.turns())
    return [{"role": role, "content": text} for role, text in said if role and text.strip(".… ")]


def _criterion(criterion: Criterion) -> str:
    said = ". ".join(part.strip().rstrip(".") for part in (criterion.result, criterion.rationale) if part)
    return f"{criterion.name}: {said}." if said else ""


def _to_utf8(text: str) -> str:
    """Replace half an emoji, which JSON allows and UTF-8 does not, by a question mark."""
    return text.encode(errors="replace").decode()
