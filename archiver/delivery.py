"""A staged body with its claim check."""

from dataclasses import dataclass
from datetime import datetime, timezone

from archiver.staged import Staged
from shared.conversation import Conversation
from shared.messages import ClaimCheck
from shared.webhooks import WebhookEvent


@dataclass(frozen=True)
class Delivery:
    check: ClaimCheck
    staged: Staged

    def order(self, event: WebhookEvent, conversation: Conversation | None = None) -> str:
        """Sorts an object's versions as text: webhooks above the API, then the later event.

        A fetched recording has no time. Its length is used instead, so that the longer one wins.
        """
        ended_ms = conversation.ended_ms if conversation else None
        times = self.staged.length, event.time_ms, ended_ms, 0
        time_ms = next(time for time in times if time is not None)
        return f"{0 if self.staged.origin == 'api' else 1}-{time_ms:013d}-{self.check.delivery_id}"

    def started_at(self, event: WebhookEvent, conversation: Conversation | None = None) -> datetime:
        """The call's start; if unknown, the event's time, or else the time of receipt."""
        if conversation and conversation.started_at:
            return conversation.started_at
        if event.time_ms is not None:
            return datetime.fromtimestamp(event.time_ms / 1000, timezone.utc)
        return datetime.fromisoformat(self.check.received_at).astimezone(timezone.utc)
