"""The ledger: items `memory#factual` and `memory#semantic` of the ConversationTable. It prevents duplicate memories.

    absent or idle -> sending -> sent -> done

Only the holder of the lease may act. `sending` without a running lease means: it is not known whether Mem0 has the
memory. `sent` means: Mem0 accepted the memory, and the line has the id of the event that processes it.
"""

import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from shared.errors import LeaseError

OPEN = "open_state"


@dataclass(frozen=True)
class Entry:
    """A line's content. Times are ISO 8601 UTC; `failures` counts the events that ended with FAILED."""

    state: str | None = None
    owner: str | None = None
    lease_until: str | None = None
    started: str | None = None
    event_id: str | None = None
    failures: int | None = None


class Line:
    """One memory's line, used by one owner (an invocation). `client` is a table's client, which takes Python values.

    Each write has the condition that all fields are as last read. If the condition fails but the line has exactly the
    values to be written, an earlier try of the same request wrote them, and its answer was lost. Otherwise another
    worker changed the line: LeaseError.
    """

    def __init__(self, client: Any, table: str, key: tuple[str, str], owner: str, lease: timedelta) -> None:
        conversation_id, kind = key
        self._client, self._table, self._owner, self._lease = client, table, owner, lease
        self._key = {"conversation_id": conversation_id, "item": f"memory#{kind}"}
        self.entry = Entry()

    def read(self) -> Entry:
        self.entry = self._fetch()
        return self.entry

    def _fetch(self) -> Entry:
        item = self._client.get_item(TableName=self._table, Key=self._key, ConsistentRead=True).get("Item", {})
        return Entry(**{field.name: item[field.name] for field in fields(Entry) if field.name in item})

    def acquire(self, now: datetime) -> None:
        """Take the lease; an absent or idle line becomes `sending`. Raises LeaseError while another's lease runs."""
        if self.entry.lease_until and self.entry.lease_until > iso(now):
            raise LeaseError("another worker is writing this memory")
        values = {"owner": self._owner, "lease_until": iso(now + self._lease)}
        if self.entry.state in (None, "idle"):
            values |= {"state": "sending", "started": iso(now)}
        self.note(**values)

    def note(self, **values: Any) -> None:
        """Write, and keep the lease."""
        self._write(values)

    def release(self, **values: Any) -> None:
        """Write for the last time, and give the lease back."""
        self._write(values, give_back=("owner", "lease_until"))

    def _write(self, values: dict[str, Any], give_back: tuple[str, ...] = ()) -> None:
        seen = asdict(self.entry)
        conditions = [f"#{n} = :seen_{n}" if v is not None else f"attribute_not_exists(#{n})" for n, v in seen.items()]
        if values.get("state") == "done":  # the index `by-state` has only memories that are not done
            give_back = (*give_back, OPEN)
        elif "state" in values:
            values = values | {OPEN: values["state"]}
        sets = f"SET {', '.join(f'#{name} = :{name}' for name in values)}" if values else ""
        removes = f"REMOVE {', '.join(f'#{name}' for name in give_back)}" if give_back else ""
        expression, condition = f"{sets} {removes}".strip(), " AND ".join(conditions)
        known = {name: value for name, value in values.items() if name in seen}
        written = replace(self.entry, **known | {name: None for name in give_back if name in seen})
        try:
            self._client.update_item(
                TableName=self._table,
                Key=self._key,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in re.findall(r"#(\w+)", expression + condition)},
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()}
                | {f":seen_{name}": value for name, value in seen.items() if value is not None},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            if self._fetch() != written:
                raise LeaseError("another worker took this memory over") from None
        self.entry = written


def iso(moment: datetime) -> str:
    """ISO 8601 UTC in microseconds, so that sorting the texts sorts the times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
