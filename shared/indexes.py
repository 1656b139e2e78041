"""The indexes of the ConversationTable: which attributes they have, and how their keys are spread over partitions.

A partition of DynamoDB takes 1,000 writes a second. So no index has one key for nearly every call, and the calls of a
day, and those of an agent in a month, are spread over BUCKETS keys: a million calls an hour are 280 a second, with
about four writes each, 140 a second for a key.
"""

import zlib

BUCKETS = 8
DAYS = "#days"  # not a conversation's id. Its items are the days that have calls, so that a search skips the others
# Hash and range attribute. The first two indexes have only open work: the attribute is removed when the work is done.
INDEXES = {
    "by-audio": ("open_audio", "archived_at"),
    "by-state": ("open_state", "started"),
    "by-caller": ("caller", "listed_at"),
    "by-agent": ("agent_month", "listed_at"),
    "by-day": ("day", "listed_at"),
}
# What these indexes have of a call besides their keys: what a list is filtered by, and what statistics need.
LISTS = ("by-caller", "by-agent", "by-day")
LISTED = (
    "agent_id", "external_number", "started_at", "archived_at", "duration_secs", "status", "call_successful", "audio",
    "cost", "erased_at",
)  # fmt: skip


def listing(conversation_id: str, agent_id: str | None, listed_at: str) -> dict[str, str]:
    """The attributes by which a call is listed; `listed_at` is ISO 8601 UTC, in seconds.

    A call without an agent has the agent "", so that a newer version of a call replaces all three attributes.
    """
    bucket = zlib.crc32(conversation_id.encode()) % BUCKETS
    agent_month = f"{agent_id or ''}#{listed_at[:7]}#{bucket}"
    return {"listed_at": listed_at, "day": f"{listed_at[:10]}#{bucket}", "agent_month": agent_month}


def day_partitions(day: str) -> list[str]:
    """The keys of the index `by-day` for a day such as 2026-11-22."""
    return [f"{day}#{bucket}" for bucket in range(BUCKETS)]


def agent_partitions(agent_id: str, month: str) -> list[str]:
    """The keys of the index `by-agent` for an agent and a month such as 2026-11."""
    return [f"{agent_id}#{month}#{bucket}" for bucket in range(BUCKETS)]
