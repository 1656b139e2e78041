"""The calls' records: items `call` of the ConversationTable. A record joins its call's transcript and audio."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any, Literal

from botocore.exceptions import ClientError

from shared.aws_errors import error_code
from shared.call import Call, Parked, Transcription
from shared.errors import RetryError
from shared.indexes import DAYS, INDEXES, day_partitions
from shared.times import utc

ITEM = "call"
MEMORIES = ("memory#factual", "memory#semantic")
MOST_STAGED = 1000  # staged bodies of one call, because an item holds at most 400 KB
DISCARDED_FOR = timedelta(days=30)  # longer than a claim check exists: 4 days in its queue, 14 in the DLQ
_SETS = ("staged_keys", "event_keys", "numbers", "users", "text_days")
_DISCARDED = "#discarded"  # not a conversation's id: those contain no #
_MOST_READ = 100  # items of one request: DynamoDB's maximum
_THROTTLED_TRIES = 8  # 12 s in all
_HAS_ROOM = "(attribute_not_exists(#staged_keys) OR size(#staged_keys) < :most OR contains(#staged_keys, :key))"


class Records:
    """The protocol of the join. Each write is one conditional update; it returns None if its condition failed."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._noted_days: set[str] = set()

    def get(self, conversation_id: str) -> Call | None:
        answer = self._table.get_item(Key=_key(conversation_id), ConsistentRead=True)
        return _call(answer["Item"]) if "Item" in answer else None

    def get_all(self, conversation_ids: Iterable[str]) -> dict[str, Call]:
        """The calls that have a record, by id. Raises RetryError as `read_items` does."""
        items = self.read_items([_key(each) for each in dict.fromkeys(conversation_ids)])
        return {item["conversation_id"]: _call(item) for item in items}

    def read_items(self, keys: list[dict[str, str]]) -> list[dict[str, Any]]:
        """The items that exist. Raises RetryError if DynamoDB throttles all tries."""
        batches = (keys[start : start + _MOST_READ] for start in range(0, len(keys), _MOST_READ))
        return [item for batch in batches for item in self._read_batch(batch)]

    def _read_batch(self, keys: list[dict[str, str]]) -> list[dict[str, Any]]:
        table, client = self._table.name, self._table.meta.client
        asked = {table: {"Keys": keys, "ConsistentRead": True}}
        items: list[dict[str, Any]] = []
        for attempt in range(_THROTTLED_TRIES):
            if not asked:
                break
            time.sleep(0.05 * (2**attempt - 1))
            answer = client.batch_get_item(RequestItems=asked)
            items += answer["Responses"].get(table, [])
            asked = answer.get("UnprocessedKeys") or {}
        if asked:
            raise RetryError("DynamoDB is throttled: not all records could be read")
        return items

    def ledger(self, conversation_id: str) -> dict[str, dict[str, Any]]:
        """The call's lines in the ledger, by item; only memories that were begun have one."""
        keys = [{"conversation_id": conversation_id, "item": item} for item in MEMORIES]
        answers = [self._table.get_item(Key=key, ConsistentRead=True) for key in keys]
        return {answer["Item"]["item"]: answer["Item"] for answer in answers if "Item" in answer}

    def find_missing_audio(self) -> Iterator[Call]:
        """Calls whose recording is expected or parked, in the order in which they were archived."""
        for page in self._query("by-audio", "pending"):
            calls = self.get_all(key["conversation_id"] for key in page)
            yield from (calls[each["conversation_id"]] for each in page if each["conversation_id"] in calls)

    def find_all(self, fits: Callable[[dict[str, Any]], bool], since: str = "0") -> Iterator[Call]:
        """Archived calls whose entry in the index `by-day` fits (`indexes.LISTED` is what it has), by day."""
        for page in self.list_all(since):
            yield from self.get_all(each["conversation_id"] for each in page if fits(each)).values()

    def count(self, index: Literal["by-audio", "by-state"], value: str, until: str = "9") -> int:
        """The number of calls whose recording is missing, by archival time, or of open work, by its start time.

        Calls with parked audio have the state `parked`; lines of the ledger have the memory's state, if it is not done.
        """
        return sum(len(page) for page in self._query(index, value, until))

    def find_by_caller(self, digits: str) -> Iterator[Call]:
        """Calls that have an event with this number, each once."""
        seen: set[str] = set()
        for page in self._query("by-caller", digits):
            new = {key["conversation_id"] for key in page} - seen
            seen |= new
            yield from self.get_all(new).values()

    def list_all(self, since: str = "0") -> Iterator[list[dict[str, Any]]]:
        """What the index `by-day` has of all calls that began on a day such as 2026-11-22 or later, in pages."""
        for day in self.days(since):
            for partition in day_partitions(day):
                yield from self._query("by-day", partition)

    def days(self, since: str = "0") -> list[str]:
        """The days on which archived calls began, from this day on."""
        query = {
            "KeyConditionExpression": "conversation_id = :days AND #item BETWEEN :since AND :last",
            "ExpressionAttributeNames": {"#item": "item"},
            "ExpressionAttributeValues": {":days": DAYS, ":since": since, ":last": "9"}, "ConsistentRead": True,
        }  # fmt: skip
        return [item["item"] for page in query_pages(self._table, query) for item in page]

    def note_day(self, listed_at: str) -> None:
        """Note that a call of this day is about to be listed. A process notes each day once."""
        day = listed_at[:10]
        if day not in self._noted_days:
            self._table.put_item(Item={"conversation_id": DAYS, "item": day})
            self._noted_days.add(day)

    def _query(self, index: str, value: str, until: str = "9") -> Iterator[list[dict[str, Any]]]:
        """What an index has, at most 100 items per page. An index lags slightly behind its table."""
        hash_key, range_key = INDEXES[index]
        query = {
            "IndexName": index, "Limit": 100,
            "KeyConditionExpression": "#hash = :value AND #range BETWEEN :since AND :until",
            "ExpressionAttributeNames": {"#hash": hash_key, "#range": range_key},
            "ExpressionAttributeValues": {":value": value, ":since": "0", ":until": until},
        }  # fmt: skip
        yield from query_pages(self._table, query)

    def save_transcript(
        self, conversation_id: str, fields: dict[str, Any], defaults: dict[str, Any], order: str,
        staged_key: str | None, numbers: Iterable[str], now: str,
    ) -> Call | None:  # fmt: skip
        """Write `fields` (None removes a field), and `defaults` for fields that are absent; one of them is `listed_at`.

        `staged_key` is None if the staged body has expired.

        None: a newer transcript is archived, the call is erased, or its record is full.
        """
        self.note_day(fields.get("listed_at") or defaults["listed_at"])  # before the call is listed on it
        later = {name: value for name, value in defaults.items() if name != "open_audio"}
        # Only the first version opens the work. A request that takes effect late must not open it once more.
        for version, values in (("attribute_not_exists(#t_order)", defaults), ("#t_order <= :t_order", later)):
            call = self._save(conversation_id, fields, values, order, staged_key, numbers, version)
            if call:
                return self.note_numbers(call, now)
        return None

    def _save(
        self, conversation_id: str, fields: dict[str, Any], defaults: dict[str, Any], order: str,
        staged_key: str | None, numbers: Iterable[str], version: str,
    ) -> Call | None:  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None} | {"t_order": order}
        sets = [f"#{name} = :{name}" for name in given]
        sets += [f"#{name} = if_not_exists(#{name}, :{name})" for name in defaults]
        removes = [f"#{name}" for name, value in fields.items() if value is None]
        remove = f" REMOVE {', '.join(removes)}" if removes else ""
        add, added = _adding(staged_keys=_any(staged_key), numbers=set(numbers))
        has_room, room = _room(staged_key)
        return self._update(
            conversation_id,
            f"SET {', '.join(sets)}{remove} {add}",
            f"{version} AND attribute_not_exists(#erased_at){has_room}",
            {f":{name}": value for name, value in (defaults | given).items()} | added | room,
        )

    def add_staged(
        self, conversation_id: str, staged_key: str | None, now: str, numbers: Iterable[str] = (),
        event_key: str | None = None,
    ) -> Call | None:  # fmt: skip
        """Add a staged body, and the object about to be written from it, so that an erasure finds both.

        None: the call is erased, or its record is full (MOST_STAGED bodies or 400 KB).
        """
        add, added = _adding(staged_keys=_any(staged_key), numbers=set(numbers), event_keys=_any(event_key))
        has_room, room = _room(staged_key)
        condition = f"attribute_not_exists(#erased_at){has_room}"
        return self.note_numbers(self._update(conversation_id, add, condition, added | room), now)

    def leave_out(self, conversation_id: str, reason: str) -> Call | None:
        """Mark a call as not kept. None: it is already archived, or erased.

        The mark has no personal data. A later transcript that the selection keeps removes it.
        """
        return self._update(
            conversation_id,
            "SET #left_out = :reason",
            "attribute_not_exists(#t_order) AND attribute_not_exists(#erased_at)",
            {":reason": reason},
        )

    def park_audio(self, conversation_id: str, parked: Parked, now: str, *, force: bool = False) -> Call | None:
        """Park audio until the call's folder is known.

        None: the same or newer audio is archived, newer audio is parked, the call is left out or erased, or its record
        is full. `force` also parks audio that is already archived.
        """
        add, added = _adding(staged_keys={parked.staged_key}, waiting={parked.ticket})
        has_room, room = _room(parked.staged_key)
        return self._update(
            conversation_id,
            f"SET #parked = :parked, #open_state = :state, #started = if_not_exists(#started, :now) {add}",
            f"(attribute_not_exists(#mp3_order) OR #mp3_order {'<=' if force else '<'} :order) AND "
            "(attribute_not_exists(#parked) OR #parked.#order <= :order) AND "
            f"attribute_not_exists(#left_out) AND attribute_not_exists(#erased_at){has_room}",
            {":parked": asdict(parked), ":order": parked.order, ":state": "parked", ":now": now}
            | added | room,
        )  # fmt: skip

    def finish_audio(self, conversation_id: str, mp3_key: str, done: Parked, tagged: Set[Parked]) -> Call | None:
        """Parked audio is archived; the `tagged` audio no longer waits. None: newer audio is archived."""
        archived, is_newest, values = _archived_audio(mp3_key, done.order)
        ends, is_parked, ended = _unpark_update(done.staged_key, tagged, "#open_audio")
        both = self._update(
            conversation_id, f"{archived} {ends}", f"{is_newest} AND {is_parked}", values | ended
        )  # usually one request does both
        if both:
            return both
        call = self.save_audio(conversation_id, mp3_key, done.order)
        return self.unpark(conversation_id, done.staged_key, tagged) or call

    def save_audio(self, conversation_id: str, mp3_key: str, order: str) -> Call | None:
        """Note that audio is archived. None: newer audio is archived."""
        archived, is_newest, values = _archived_audio(mp3_key, order)
        return self._update(conversation_id, f"{archived} REMOVE #open_audio", is_newest, values)

    def unpark(self, conversation_id: str, staged_key: str, tagged: Set[Parked]) -> Call | None:
        """Remove the parked audio with this key, and the `tagged` or discarded audio from `waiting`."""
        parked = self._update(conversation_id, *_unpark_update(staged_key, tagged))
        if parked or not tagged:
            return parked
        condition = "attribute_exists(#waiting) AND attribute_not_exists(#erased_at)"
        return self._update(conversation_id, "DELETE #waiting :tagged", condition, {":tagged": _tickets(tagged)})

    def expect_audio(self, conversation_id: str) -> Call | None:
        """A newer transcript says that the call has audio."""
        return self._update(
            conversation_id, "SET #audio = :pending, #open_audio = :pending", "#audio IN (:none, :pending)",
            {":pending": "pending", ":none": "none"},
        )  # fmt: skip

    def note_asked(self, conversation_id: str, now: str) -> Call | None:
        """Note that the recording is about to be requested through AudioQueue. None: it is no longer missing."""
        return self._update(
            conversation_id,
            "SET #audio_asked_at = :now",
            "#audio = :pending AND attribute_not_exists(#parked) AND attribute_not_exists(#erased_at)",
            {":now": now, ":pending": "pending"},
        )

    def note_asked_again(self, conversation_id: str, now: str) -> Call | None:
        """Like `note_asked`, on an operator's request: also an unavailable recording is retried for another day."""
        return self._update(
            conversation_id,
            "SET #audio_asked_at = :now, #audio = :pending, #open_audio = :pending "
            "REMOVE #audio_missing_since, #audio_missing_reason",
            "#audio IN (:pending, :unavailable) AND attribute_not_exists(#parked) AND attribute_not_exists(#erased_at)",
            {":now": now, ":pending": "pending", ":unavailable": "unavailable"},
        )

    def note_no_audio(self, conversation_id: str, now: str, reason: str) -> Call | None:
        """Note why the recording could not be fetched; it may be requested again. None: it is no longer missing."""
        return self._update(
            conversation_id,
            "SET #audio_missing_since = if_not_exists(#audio_missing_since, :now), #audio_missing_reason = :reason "
            "REMOVE #audio_asked_at",
            "#audio = :pending AND attribute_not_exists(#erased_at)",
            {":now": now, ":reason": reason, ":pending": "pending"},
        )

    def mark_audio_unavailable(self, conversation_id: str, missing_since: str | None = None) -> Call | None:
        """Stop retrying the recording.

        None: one is archived or parked, the call is erased, or the recording is missing only since after
        `missing_since`.
        """
        late = {":since": missing_since} if missing_since else {}
        return self._update(
            conversation_id,
            "SET #audio = :unavailable REMOVE #open_audio",
            "#audio IN (:pending, :unavailable) AND attribute_not_exists(#parked) AND attribute_not_exists(#erased_at)"
            + (" AND #audio_missing_since <= :since" if late else ""),
            {":unavailable": "unavailable", ":pending": "pending"} | late,
        )

    def note_fetch(self, call: Call, fetched_at: str) -> Call | None:
        """Count a fetch of this call. None: it is archived or erased, or another pass has counted more fetches."""
        return self._update(
            call.conversation_id,
            "SET #fetched_at = :at, #fetches = :fetches REMOVE #missing_since, #missing_reason, #given_up_at",
            "attribute_not_exists(#t_order) AND attribute_not_exists(#erased_at) AND "
            "(attribute_not_exists(#fetches) OR #fetches <= :fetches)",
            {":at": fetched_at, ":fetches": call.fetches + 1},
        )

    def note_missing(self, conversation_id: str, now: str, reason: str, *, is_last_try: bool) -> Call | None:
        """Note why the call could not be fetched. None: it is archived or erased."""
        return self._update(
            conversation_id,
            "SET #missing_since = if_not_exists(#missing_since, :now), #missing_reason = :reason"
            + (", #given_up_at = if_not_exists(#given_up_at, :now)" if is_last_try else ""),
            "attribute_not_exists(#t_order) AND attribute_not_exists(#erased_at)",
            {":now": now, ":reason": reason},
        )

    def erase(self, conversation_id: str, now: str, users: Iterable[str] = ()) -> Call:
        """Mark the call as erased: nothing more is archived, fetched or remembered.

        Its other fields, and `users`, stay until `write_tombstone`. A full record is marked without `users`.
        """
        add, added = _adding(users=set(users)) if users else ("", {})
        expression = "SET #erased_at = if_not_exists(#erased_at, :now)"
        call = self._update(conversation_id, f"{expression} {add}".strip(), "", {":now": now} | added)
        call = call or self._update(conversation_id, expression, "", {":now": now})
        if call is None:
            raise RetryError("the record is too full to be marked as erased")
        return call

    def write_tombstone(self, call: Call, expires: datetime | None = None) -> None:
        """Replace an erased call's record by a tombstone without personal data, kept until `expires`."""
        for item in (*MEMORIES, *(f"number#{digits}" for digits in call.numbers)):
            self._table.delete_item(Key={"conversation_id": call.conversation_id, "item": item})
        kept = {"erased_at": call.erased_at} | ({"expires": int(expires.timestamp())} if expires else {})
        self._table.put_item(Item=_key(call.conversation_id) | kept)

    def leave_out_number(
        self, conversation_id: str, digits: str, staged_keys: Iterable[str], event_keys: Iterable[str]
    ) -> None:
        """Remove one number and its events from the record. The index still finds the call until `remove_number`."""
        gone = {"numbers": {digits}, "staged_keys": set(staged_keys), "event_keys": set(event_keys)}
        gone = {name: values for name, values in gone.items() if values}
        self._update(
            conversation_id,
            f"DELETE {', '.join(f'#{name} :{name}' for name in gone)}",
            "attribute_exists(#item)",
            {f":{name}": values for name, values in gone.items()},
        )

    def remove_number(self, conversation_id: str, digits: str) -> None:
        """Remove the index item of this number."""
        self._table.delete_item(Key={"conversation_id": conversation_id, "item": f"number#{digits}"})

    def note_text(self, conversation_id: str, day: str, order: str) -> Call | None:
        """Note that a file of this day will have the call's rows; None if the call is erased or newer rows exist.

        An erasure finds the rows by it, so it comes before the file.
        """
        return self._update(
            conversation_id,
            "SET #text_order = :order ADD #text_days :days",
            "attribute_exists(#item) AND attribute_not_exists(#erased_at) AND attribute_not_exists(#left_out)"
            " AND (attribute_not_exists(#text_order) OR #text_order <= :order)",
            {":order": order, ":days": {day}},
        )

    def note_text_day(self, conversation_id: str, day: str) -> Call | None:
        """Note that a file of this day has rows of the call, of whatever version."""
        return self._update(
            conversation_id,
            "ADD #text_days :days",
            "attribute_exists(#item) AND attribute_not_exists(#erased_at)",
            {":days": {day}},
        )

    def note_transcription(
        self, conversation_id: str, new: Transcription, before: Transcription | None, event_keys: Iterable[str] = ()
    ) -> Call | None:
        """Replace what the record says of the transcription, and add the objects that are about to be written.

        None: the call is erased, or the record does not say `before` any more.
        """
        add, added = _adding(event_keys=set(event_keys))
        return self._update(
            conversation_id,
            f"SET #transcription = :new {add}".strip(),
            "attribute_exists(#item) AND attribute_not_exists(#erased_at) AND attribute_not_exists(#left_out) AND "
            f"{'#transcription = :before' if before else 'attribute_not_exists(#transcription)'}",
            {":new": _filled(new)} | ({":before": _filled(before)} if before else {}) | added,
        )

    def note_discarded(self, delivery_id: str, now: datetime) -> None:
        """Note that a staged body is about to be deleted, because its claim check may arrive once more."""
        self._table.update_item(
            Key={"conversation_id": _DISCARDED, "item": delivery_id},
            UpdateExpression="SET erased_at = :now, expires = :expires",
            ExpressionAttributeValues={":now": utc(now), ":expires": int((now + DISCARDED_FOR).timestamp())},
        )

    def is_discarded(self, delivery_id: str) -> bool:
        return "Item" in self._table.get_item(
            Key={"conversation_id": _DISCARDED, "item": delivery_id}, ConsistentRead=True
        )

    def note_numbers(self, call: Call | None, now: str) -> Call | None:
        """Write an index item for each further number of the call, so that each number finds it."""
        if call is None:
            return None
        listed_at = ":at" if call.listed_at else "if_not_exists(listed_at, :at)"  # as soon as it is known
        for digits in call.numbers - {call.caller}:
            key = {"conversation_id": call.conversation_id, "item": f"number#{digits}"}
            self._table.update_item(
                Key=key,
                UpdateExpression=f"SET caller = :digits, listed_at = {listed_at}",
                ExpressionAttributeValues={":digits": digits, ":at": call.listed_at or now},
            )
        return call

    def _update(self, conversation_id: str, expression: str, condition: str, values: dict[str, Any]) -> Call | None:
        try:
            answer = self._table.update_item(
                Key=_key(conversation_id),
                UpdateExpression=expression,
                **({"ConditionExpression": condition} if condition else {}),
                ExpressionAttributeNames={
                    f"#{name}": name for name in re.findall(r"#(\w+)", f"{expression} {condition}")
                },
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error_code(error) == "ConditionalCheckFailedException" or _is_too_large(error):
                return None
            raise
        return _call(answer["Attributes"])


def query_pages(table: Any, query: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The items that a query finds, page by page."""
    start: dict[str, Any] = {}
    while True:
        answer = table.query(**query | start)
        yield answer["Items"]
        if "LastEvaluatedKey" not in answer:
            return
        start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _key(conversation_id: str) -> dict[str, str]:
    return {"conversation_id": conversation_id, "item": ITEM}


def _call(item: dict[str, Any]) -> Call:
    known = {field.name: item[field.name] for field in fields(Call) if field.name in item}
    known |= {"parked": Parked(**item["parked"])} if "parked" in item else {}
    known |= {"transcription": Transcription(**item["transcription"])} if "transcription" in item else {}
    known |= {name: frozenset(item.get(name, ())) for name in _SETS}
    return Call(**known | {"waiting": frozenset(map(Parked.of_ticket, item.get("waiting", ())))})


def _filled(transcription: Transcription) -> dict[str, Any]:
    return {name: value for name, value in asdict(transcription).items() if value is not None}


def _adding(**sets: set[str]) -> tuple[str, dict[str, Any]]:
    """An update expression that adds to sets, and its values. DynamoDB allows no empty sets."""
    filled = {name: values for name, values in sets.items() if values}
    add = f"ADD {', '.join(f'#{name} :{name}' for name in filled)}" if filled else ""
    return add, {f":{name}": values for name, values in filled.items()}


def _is_too_large(error: ClientError) -> bool:
    """Whether DynamoDB refused the update because the item would exceed 400 KB."""
    return error_code(error) == "ValidationException" and "maximum allowed size" in str(error)


def _any(value: str | None) -> set[str]:
    return {value} if value else set()


def _room(staged_key: str | None) -> tuple[str, dict[str, Any]]:
    """The condition that the record has room for a staged body, to be added to others, and its values."""
    return (f" AND {_HAS_ROOM}", {":most": MOST_STAGED, ":key": staged_key}) if staged_key else ("", {})


def _archived_audio(mp3_key: str, order: str) -> tuple[str, str, dict[str, Any]]:
    return (
        "SET #mp3_key = :mp3_key, #mp3_order = :order, #audio = :archived",
        "(attribute_not_exists(#mp3_order) OR #mp3_order <= :order) AND attribute_not_exists(#erased_at)",
        {":mp3_key": mp3_key, ":order": order, ":archived": "archived"},
    )


def _tickets(parked: Iterable[Parked]) -> set[str]:
    return {each.ticket for each in parked}


def _unpark_update(staged_key: str, tagged: Set[Parked], *removed: str) -> tuple[str, str, dict[str, Any]]:
    delete = " DELETE #waiting :tagged" if tagged else ""
    values: dict[str, Any] = {":key": staged_key} | ({":tagged": _tickets(tagged)} if tagged else {})
    return (
        f"REMOVE {', '.join(('#parked', '#open_state', '#started', *removed))}{delete}",
        "#parked.#staged_key = :key",
        values,
    )
