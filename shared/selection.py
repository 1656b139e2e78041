"""Which calls are kept. The archiver, the reconciler and `ops backfill` use the same rule."""

from dataclasses import dataclass
from typing import Literal

Reason = Literal["other_agent", "too_short"]


@dataclass(frozen=True)
class Selection:
    """Only calls of these agents (all if empty), and only calls of at least this duration."""

    agent_ids: frozenset[str] = frozenset()
    minimum_seconds: int = 0

    def refusal(self, agent_id: str | None, seconds: float | None = None) -> Reason | None:
        """Why a call is left out, or None. An unknown agent or duration is not a reason."""
        if self.agent_ids and agent_id and agent_id not in self.agent_ids:
            return "other_agent"
        return "too_short" if seconds is not None and seconds < self.minimum_seconds else None


def read_selection(agent_ids: str, minimum_seconds: int) -> Selection:
    """The selection in the stack's parameters AgentIds (comma-separated) and MinimumCallSeconds."""
    return Selection(frozenset(filter(None, map(str.strip, agent_ids.split(",")))), minimum_seconds)
