"""What the API says of a call, from its record."""

from typing import Any

from api.access import CALLS, NUMBERS, Reader
from shared.call import Call

_OUTCOMES = ("success", "failure", "unknown")
_KINDS = ("factual", "semantic")


def row(call: Call, reader: Reader) -> dict[str, Any]:
    """A call in a list."""
    return {
        "conversation_id": call.conversation_id,
        "agent_id": call.agent_id,
        "caller": reader.number(call),
        "started_at": call.started_at,
        "duration_secs": _whole(call.duration_secs),
        "status": reader.hide(call.status),
        "outcome": call.call_successful if call.call_successful in _OUTCOMES else None,
        "title": reader.hide(call.title),
        "summary": reader.hide(call.summary),
        "audio": call.audio,
        "cost": _whole(call.cost),
        "archived_at": call.archived_at,
    }


def detail(
    call: Call, found: dict[str, Any] | None, ledger: dict[str, dict[str, Any]], reader: Reader, *, is_cold: bool
) -> dict[str, Any]:
    """A call by itself. `found` is what its JSON says; None if there is no JSON that can be read, or it `is_cold`."""
    nothing: dict[str, Any] = {
        "direction": None,
        "language": None,
        "termination_reason": None,
        "evaluation": [],
        "collected": [],
    }
    return {
        **row(call, reader),
        "origin": _origin(call),
        **(nothing if found is None else found),
        "memories": [_receipt(kind, ledger.get(f"memory#{kind}")) for kind in _KINDS],
        "files": list(files(call)),
        "completeness": completeness(call, reader, has_json=found is not None, is_cold=is_cold),
        "may": {"hear": reader.may_hear(call), "numbers": reader.has(NUMBERS, CALLS)},
    }


def files(call: Call) -> list[dict[str, Any]]:
    """The call's objects, by name: their folder is the caller's number."""
    others = [(_kind(key), key) for key in sorted(call.event_keys)]
    listed = [("json", call.json_key), ("mp3", call.mp3_key), *others]
    return [
        {"kind": kind, "name": name, "event": name.split(".")[1] if kind == "event" else None}
        for kind, name in ((kind, key.rpartition("/")[2]) for kind, key in listed if key)
    ]


def _kind(key: str) -> str:
    return "transcription" if key.endswith(".transcribe.json") else "subtitles" if key.endswith(".vtt") else "event"


def completeness(call: Call, reader: Reader, *, has_json: bool, is_cold: bool) -> dict[str, Any]:
    """Whether all of the call is here."""
    origin = _origin(call)
    transcript = "missing" if origin is None else "webhook" if origin == "webhook" else "fetched"
    return {
        "transcript": transcript,
        "audio": call.audio,
        "audio_reason": reader.hide(call.audio_missing_reason) if call.audio != "archived" else None,
        "missing_reason": reader.hide(call.missing_reason),
        "is_complete": (has_json or is_cold) and call.audio in ("archived", "none"),
        "explanation": _explain(call, has_json, is_cold),
    }


def _explain(call: Call, has_json: bool, is_cold: bool) -> str:
    if not call.t_order:
        return "The transcript has not arrived. " + (
            "ElevenLabs could not give it for a day, so it is no longer asked for."
            if call.given_up_at
            else "It is fetched from ElevenLabs within hours, if the stack has a key."
        )
    if is_cold:
        return "The transcript is in cold storage: restore its JSON in S3 first."
    if not has_json:
        return "The transcript has arrived, but its JSON is not in the archive or cannot be read."
    return {
        "archived": "The transcript and the recording are here.",
        "none": "The transcript is here, and the call has no recording.",
        "pending": "The transcript is here. The recording has not arrived; it is asked for until it does, for a day.",
        "unavailable": "The transcript is here. There is no recording: ElevenLabs does not have it, or none is kept.",
    }.get(call.audio or "pending", "The transcript is here.")


def _origin(call: Call) -> str | None:
    """Where the transcript came from: the first digit of its `order` says it."""
    return None if not call.t_order else "webhook" if call.t_order.startswith("1") else "api"


def _receipt(kind: str, line: dict[str, Any] | None) -> dict[str, Any]:
    """A line of the ledger, as a receipt."""
    line = line or {}
    ids = sorted(map(str, line.get("memory_ids", ())))
    return {
        "type": kind,
        "state": line.get("state", "none"),
        "reason": line.get("reason"),
        "count": _whole(line.get("memories")) or len(ids),
        "memory_ids": ids,
        "at": line.get("done_at") or line.get("started"),
    }


def _whole(number: Any) -> int | None:
    """DynamoDB's numbers are decimals."""
    return None if number is None else int(number)
