"""Reads the call that an announcement speaks of, for the functions that subscribe to CallArchivedTopic."""

from dataclasses import dataclass, replace

from shared.bucket import Bucket
from shared.call import Call
from shared.conversation import Conversation, read_conversation
from shared.errors import PoisonError
from shared.messages import Announcement
from shared.record import Records
from shared.webhooks import TRANSCRIPTION, read_archived, read_event


@dataclass(frozen=True)
class Source:
    """A call as it was read. The announcement has the caller, the agent and the order of the object that was read.

    `call` is the record, which was read after the object; None if there is none.
    """

    announcement: Announcement
    conversation: Conversation
    call: Call | None


def read_source(announcement: Announcement, bucket: Bucket, records: Records) -> Source | None:
    """The announced call; None if it is erased. Raises PoisonError if it is gone, or is not what was announced."""
    read = bucket.read(announcement.source_key)
    call = records.get(announcement.conversation_id)  # after the object, because an erasure deletes the object
    if call and call.erased_at:
        return None
    if read is None and call and call.json_key:  # the staged body expired; the JSON was archived later
        announcement = replace(announcement, source_key=call.json_key, json_key=call.json_key)
        read = bucket.read(call.json_key)
    if read is None:
        raise PoisonError("source", "The object under the announcement's source_key no longer exists.")
    return Source(*_parse(announcement, *read), call)


def _parse(announcement: Announcement, body: bytes, metadata: dict[str, str]) -> tuple[Announcement, Conversation]:
    """A final JSON may be a later version than announced, with another caller. A staged body never changes."""
    if announcement.json_key:
        named = {name: metadata.get(name) for name in ("external_number", "agent_id")}
        order = metadata.get("order", announcement.order)
        return replace(announcement, **named, order=order), read_archived(body)  # type: ignore[arg-type]
    event = read_event(body)
    if (event.type, event.conversation_id) != (TRANSCRIPTION, announcement.conversation_id):
        raise PoisonError("source", "The staged body under the announcement's source_key does not contain the call.")
    return announcement, read_conversation(event.data)
