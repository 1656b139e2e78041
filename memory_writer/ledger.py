"""The ledger: items `memory#factual` and `memory#semantic` of the ConversationTable. Nothing is remembered twice.

state: absent or `idle` -> `sending` -> `done`. Whoever holds the lease may send. A lease that ran out in `sending`
means that nobody knows whether Mem0 got it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.errors import LeaseError


@dataclass(frozen=True)
class Entry:
    """One memory's line in the ledger. Times are ISO 8601 UTC."""

    state: str | None = None
    owner: str | None = None
    lease_until: str | None = None
    started: str | None = None


class Ledger:
    """Conditional updates of one table, for one owner: this execution environment's invocation."""

    def __init__(self, table: Any, owner: str, lease: timedelta) -> None:
        self._table, self._owner, self._lease = table, owner, lease

    def read(self, conversation_id: str, kind: str) -> Entry:
        answer = self._table.get_item(Key=_key(conversation_id, kind), ConsistentRead=True)
        return _entry(answer.get("Item", {}))

    def acquire(self, conversation_id: str, kind: str, seen: Entry, now: datetime) -> Entry:
        """Take the lease on an entry as it was `seen`, and begin `sending`. Raises LeaseError if another has it."""
        if seen.lease_until and seen.lease_until > iso(now):
            raise LeaseError("another worker is writing this memory")
        values = {"owner": self._owner, "lease_until": iso(now + self._lease), "state": "sending"}
        if seen.state in (None, "idle"):
            values["started"] = iso(now)
        self._update(conversation_id, kind, values, seen)
        return Entry(**(vars(seen) | values))

    def restart(self, conversation_id: str, kind: str, held: Entry, now: datetime) -> None:
        """Begin anew what turned out never to have been written."""
        self._update(conversation_id, kind, {"started": iso(now)}, held)

    def finish(self, conversation_id: str, kind: str, held: Entry, outcome: dict[str, Any]) -> None:
        """It is written: keep what Mem0 answered, for good."""
        self._update(conversation_id, kind, {"state": "done", **outcome}, held, give_up_lease=True)

    def release(self, conversation_id: str, kind: str, held: Entry, *, sent: bool) -> None:
        """An orderly failure gives the lease back. `sending` stays unless it is certain that nothing was sent."""
        self._update(conversation_id, kind, {} if sent else {"state": "idle"}, held, give_up_lease=True)

    def _update(
        self, conversation_id: str, kind: str, values: dict[str, Any], seen: Entry, *, give_up_lease: bool = False
    ) -> None:
        expected = {name: getattr(seen, name) for name in ("state", "owner", "lease_until")}
        conditions = [
            f"attribute_not_exists(#{name})" if value is None else f"#{name} = :seen_{name}"
            for name, value in expected.items()
        ]
        given_up = ["owner", "lease_until"] if give_up_lease else []
        sets = f"SET {', '.join(f'#{name} = :{name}' for name in values)}" if values else ""
        removes = f"REMOVE {', '.join(f'#{name}' for name in given_up)}" if given_up else ""
        try:
            self._table.update_item(
                Key=_key(conversation_id, kind),
                UpdateExpression=f"{sets} {removes}".strip(),
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames={f"#{name}": name for name in {*expected, *values, *given_up}},
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()}
                | {f":seen_{name}": value for name, value in expected.items() if value is not None},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise LeaseError("another worker took this memory over") from None
            raise


def _key(conversation_id: str, kind: str) -> dict[str, str]:
    return {"conversation_id": conversation_id, "item": f"memory#{kind}"}


def _entry(item: dict[str, Any]) -> Entry:
    return Entry(**{name: item[name] for name in Entry.__dataclass_fields__ if name in item})


def iso(moment: datetime) -> str:
    """ISO 8601 UTC to the microsecond, so that texts sort as times do."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
