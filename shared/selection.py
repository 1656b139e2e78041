"""Which calls are kept: what the archiver, the reconciler and `ops backfill` must agree on."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["other_agent", "too_short"]


@dataclass(frozen=True)
class Selection:
    """Calls of these agents, or of all if none is named, that took at least so long."""

    agent_ids: frozenset[str] = frozenset()
    minimum_seconds: int = 0

    def refusal(self, agent_id: str | None, seconds: float | None = None) -> Reason | None:
        """Why a call is left out, or None. What is not known of a call is no reason to."""
        if self.agent_ids and agent_id and agent_id not in self.agent_ids:
            return "other_agent"
        return "too_short" if seconds is not None and seconds < self.minimum_seconds else None


def read_selection(agent_ids: str, minimum_seconds: int) -> Selection:
    """As the stack's parameters AgentIds, with commas between them, and MinimumCallSeconds say it."""
    return Selection(frozenset(filter(None, map(str.strip, agent_ids.split(",")))), minimum_seconds)
