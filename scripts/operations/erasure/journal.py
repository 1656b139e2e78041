"""The erasures that began and did not finish, for `ops status`. A line contains no number: a hash and a masked one."""

from typing import Any
from uuid import uuid4

from boto3.dynamodb.conditions import Key

from scripts.operations.erasure.reading import Subject
from scripts.operations.stack import Stack
from shared.observability import mask
from shared.record import query_pages
from shared.times import utc

_KEY = "#erasures"  # not a conversation's id: those contain no #


class Journal:
    """Lines in the ConversationTable, one for each caller or call."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._table = stack, stack.table

    def begin(self, subject: Subject) -> list[str]:
        """Note a run before it deletes anything. Returns when each earlier run began that has no certificate.

        If the answer of DynamoDB is lost, boto3 sends the request again, and finds this run among the earlier ones.
        """
        name = "conversation" if subject.conversation else "caller"
        about, run = subject.conversation or mask(f"+{subject.caller}"), f"{utc(subject.at)} {uuid4()}"
        before = self._table.update_item(
            Key=self._line(subject),
            UpdateExpression="SET began_at = :at, #about = :about ADD runs :run",
            ExpressionAttributeNames={"#about": name},
            ExpressionAttributeValues={":run": {run}, ":at": utc(subject.at), ":about": about},
            ReturnValues="ALL_OLD",
        )  # fmt: skip
        return sorted(each.split()[0] for each in before.get("Attributes", {}).get("runs", set()) - {run})

    def end(self, subject: Subject) -> None:
        """Remove the line, once the certificate is written."""
        self._table.delete_item(Key=self._line(subject))

    def unfinished(self) -> list[dict[str, Any]]:
        """`began_at`, and `conversation` or the masked `caller`. An erasure that is running now is one of them."""
        query = {"KeyConditionExpression": Key("conversation_id").eq(_KEY), "ConsistentRead": True}
        names = ("began_at", "caller", "conversation")
        lines = (line for page in query_pages(self._table, query) for line in page)
        return [{name: line[name] for name in names if name in line} for line in lines]

    def _line(self, subject: Subject) -> dict[str, str]:
        item = subject.conversation or self._stack.tombstones.hash_of(subject.caller)
        return {"conversation_id": _KEY, "item": item}
