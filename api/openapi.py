"""`python -m api.openapi` prints the OpenAPI document of the API, which is kept as docs/openapi.json."""

import json
import sys
from typing import Any

from api.cursor import MOST_CHARACTERS
from api.parameters import MOST_AGENTS, MOST_HITS, MOST_WORDS

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}
_DIGITS = {"type": "string", "pattern": r"^\+?[1-9][0-9]{6,14}$"}
_TIME = {
    "type": "string",
    "pattern": r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])(T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)?$",
}
_CURSOR = {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{2,{MOST_CHARACTERS}}}$"}
# No control characters, and none that change the direction of text.
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]*$"
_WORDS = {"type": "string", "maxLength": MOST_WORDS, "pattern": _PLAIN}
_SECONDS = {"type": "integer", "minimum": 0, "maximum": 999_999_999}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(*names: str) -> Schema:
    return {"type": "string", "enum": list(names)}


def many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def fields(**schemas: Schema) -> Schema:
    return {"type": "object", "properties": schemas, "required": list(schemas), "additionalProperties": False}


def optional(schema: Schema, **schemas: Schema) -> Schema:
    """The same object, with fields that it need not have."""
    return schema | {"properties": schema["properties"] | schemas}


def named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_AUDIO = ("archived", "pending", "unavailable", "none")
_ROW = {
    "conversation_id": _ID, "agent_id": maybe(_TEXT),
    "caller": maybe(_TEXT | {"description": "Masked, as +120…123, without the scope numbers:read."}),
    "started_at": maybe(_TEXT), "duration_secs": maybe(_WHOLE), "status": maybe(_TEXT),
    "outcome": maybe(one_of("success", "failure", "unknown")), "title": maybe(_TEXT), "summary": maybe(_TEXT),
    "audio": maybe(one_of(*_AUDIO)), "cost": maybe(_WHOLE | {"description": "In ElevenLabs' credits."}),
    "archived_at": maybe(_TEXT),
}  # fmt: skip
_SCHEMAS = {
    "Row": fields(**_ROW),
    "Calls": fields(calls=many(named("Row")), next=maybe(_TEXT)),
    "Call": fields(
        **_ROW, origin=maybe(one_of("webhook", "api")), direction=maybe(_TEXT), language=maybe(_TEXT),
        termination_reason=maybe(_TEXT), evaluation=many(named("Evaluation")), collected=many(named("Collected")),
        memories=many(named("Receipt")), files=many(named("File")), completeness=named("Completeness"),
        may=fields(hear=_FLAG, numbers=_FLAG),
    ),
    "Evaluation": fields(id=_TEXT, name=_TEXT, result=maybe(_TEXT), rationale=maybe(_TEXT)),
    "Collected": fields(id=_TEXT, name=_TEXT, value={}, rationale=maybe(_TEXT)),
    "Receipt": fields(
        type=one_of("factual", "semantic"), state=one_of("done", "sent", "sending", "idle", "none"),
        reason=maybe(_TEXT), count=_WHOLE, memory_ids=many(_TEXT), at=maybe(_TEXT),
    ),
    "File": fields(kind=one_of("json", "mp3", "transcription", "subtitles", "event"), name=_TEXT, event=maybe(_TEXT)),
    "Completeness": fields(
        transcript=one_of("webhook", "fetched", "missing"), audio=maybe(one_of(*_AUDIO)), audio_reason=maybe(_TEXT),
        missing_reason=maybe(_TEXT), is_complete=_FLAG, explanation=_TEXT,
    ),
    "Transcript": optional(
        fields(turns=many(named("Turn"))),
        source=one_of("transcribe") | {"description": "Who wrote the words down, if it was Amazon Transcribe."},
    ),
    "Turn": fields(
        index=_WHOLE, role=maybe(_TEXT), message=maybe(_TEXT), original_message=maybe(_TEXT), interrupted=_FLAG,
        at_secs=maybe(_NUMBER), tool_calls=many(named("ToolCall")), tool_results=many(named("ToolResult")),
    ),
    "ToolCall": fields(id=maybe(_TEXT), name=maybe(_TEXT), type=maybe(_TEXT), arguments={}),
    "ToolResult": fields(
        id=maybe(_TEXT), name=maybe(_TEXT), result={}, is_error=_FLAG, latency_secs=maybe(_NUMBER),
        error_type=maybe(_TEXT),
    ),
    "Address": fields(url=_TEXT, expires_at=_TEXT, content_type=_TEXT),
    "Caller": fields(
        caller=_TEXT, calls=many(named("Row")), next=maybe(_TEXT), memories=maybe(many(named("Memory"))),
        memories_note=_TEXT | {"description": "Why there are no memories."},
    ),
    "Memory": fields(text=_TEXT, type=maybe(_TEXT), at=maybe(_TEXT), conversation_id=_TEXT),
    "Hits": fields(
        hits=many(named("Hit")), next=maybe(_TEXT),
        searched=fields(**{"from": _TEXT, "to": _TEXT, "bytes": _WHOLE}) | {
            "description": "The time of which all hits are in this answer, and the compressed bytes read for it."
        },
    ),
    "Hit": fields(
        conversation_id=_ID, caller=maybe(_TEXT), agent_id=maybe(_TEXT), started_at=maybe(_TEXT), title=maybe(_TEXT),
        index=_WHOLE | {"description": "That of the turn in the transcript."}, at_secs=maybe(_NUMBER),
        role=maybe(_TEXT), message=maybe(_TEXT), reason=maybe(_TEXT | {"description": "Why there is no message."}),
    ),
    "Statistics": fields(rows=many(named("Sums")), next=maybe(_TEXT), bytes=_WHOLE),
    "Sums": fields(
        day=_TEXT, agent_id=maybe(_TEXT), calls=_WHOLE, minutes=_NUMBER, success=_WHOLE, failure=_WHOLE,
        unknown=_WHOLE, timed=_WHOLE | {"description": "Calls of known duration: the average is of these."},
        average_secs=maybe(_NUMBER), cost=_WHOLE | {"description": "In ElevenLabs' credits."},
        with_audio=_WHOLE | {"description": "Calls whose recording is in the archive, or was expected."},
    ),
    "Problem": fields(type=_TEXT, title=_TEXT, status=_WHOLE, detail=_TEXT) | {"additionalProperties": _TEXT},
    "Refusal": {"type": "object", "description": "What the API's gateway says.", "properties": {"message": _TEXT}},
}  # fmt: skip
_STATUSES = {
    400: "A parameter is wrong; the detail says which and why.",
    401: "The request is not signed, or has no valid token.",
    403: "The signature is wrong, the policy does not allow this, or a scope is missing.",
    404: "There is no such call, or the reader may not see it.",
    405: "Only GET is answered.",
    409: "The file is in cold storage, and must first be restored.",
    413: "The answer is larger than Lambda can send.",
    429: "Too many requests.",
    500: "The request failed.",
    503: "The archive cannot be read at the moment.",
}


def parameter(name: str, schema: Schema, description: str) -> Schema:
    place = "path" if name in ("id", "number") else "query"
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "schema": schema, "description": description} | required


_BY_ID = parameter("id", _ID, "The id of the conversation.")
_NEXT = parameter("cursor", _CURSOR, "`next` of the page before, with the same filters.")
_SIZE = parameter("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}, "Calls of a page.")
_SAVE = parameter("download", one_of("0", "1"), "1: a browser saves the file.")
_SPAN = [
    parameter("from", _TIME, "Calls from this time on: ISO 8601, in UTC without an offset."),
    parameter("to", _TIME, "Calls until this time, which is included; a day is included as a whole."),
    parameter("agent", {"type": "array", "items": _ID, "maxItems": MOST_AGENTS}, "Calls of these agents."),
    _NEXT,
]
_AGAIN = parameter("cursor", _CURSOR, "`next` of the answer before, with the same filters.")
_QUERY = [
    parameter(
        "q", _WORDS | {"minLength": 1},
        "Words that a turn must have; case and accents do not matter, and the beginning of a word is enough. Words in "
        "double quotes must follow each other.",
    )
    | {"required": True},
    parameter("role", one_of("user", "agent"), "Only what was said by this side."),
    *_SPAN[:-1], _AGAIN,
    parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": 20}, "Turns of a page."),
]  # fmt: skip
_FILTERS = [
    parameter("caller", _DIGITS, "Calls with this number, with or without +."),
    *_SPAN,
    parameter("min_seconds", _SECONDS, "Calls of at least this duration."),
    parameter("max_seconds", _SECONDS, "Calls of at most this duration."),
    parameter("outcome", one_of("success", "failure", "unknown"), "Calls that ElevenLabs judged so."),
    parameter("audio", one_of(*_AUDIO), "Calls whose recording is in this state."),
    parameter("text", _WORDS, "Calls with all these words in title and summary; case and accents do not matter."),
    _SIZE,
]


def operation(
    name: str, summary: str, answer: str, parameters: list[Schema], *scopes: str, may_wait: bool = False
) -> Schema:
    problem = {
        "application/problem+json": {"schema": named("Problem")},
        "application/json": {"schema": named("Refusal")},
    }
    content = {"application/json": {"schema": named(answer)}}
    said: Schema = {"200": {"description": "OK", "content": content}}
    if may_wait:
        said["202"] = {"description": "It takes longer: ask again, with `next` as the cursor.", "content": content}
    said |= {str(status): {"description": text, "content": problem} for status, text in _STATUSES.items()}
    allowed = [{"iam": []}, {"jwt": ["calls:read", *scopes]}]
    return {
        "get": {
            "operationId": name, "summary": summary, "parameters": parameters, "responses": said, "security": allowed,
        }
    }  # fmt: skip


def document() -> Schema:
    paths = {
        "/calls": operation("list_calls", "List calls, newest first.", "Calls", _FILTERS),
        "/calls/{id}": operation("show_call", "Read a call, without its transcript.", "Call", [_BY_ID]),
        "/calls/{id}/transcript": operation("show_transcript", "Read what was said.", "Transcript", [_BY_ID]),
        "/calls/{id}/audio": operation(
            "address_audio", "A signed address of the recording, for 15 minutes.", "Address", [_BY_ID, _SAVE],
            "recordings:read", "numbers:read",
        ),
        "/calls/{id}/json": operation(
            "address_json", "A signed address of the call's JSON, for 15 minutes.", "Address", [_BY_ID, _SAVE],
            "numbers:read",
        ),
        "/callers/{number}": operation(
            "show_caller", "A caller's calls, and what Mem0 remembers of them.", "Caller",
            [parameter("number", _DIGITS, "The number, with or without +."), _SIZE, _NEXT], "numbers:read",
        ),
        "/search": operation("search_calls", "Find what was said, newest first.", "Hits", _QUERY, may_wait=True),
        "/stats": operation(
            "show_statistics", "Sums for each day and agent, newest day first.", "Statistics", [*_SPAN[:-1], _AGAIN],
            may_wait=True,
        ),
    }  # fmt: skip
    paths["/calls"]["get"]["responses"]["200"]["links"] = {
        name: {"operationId": name, "parameters": {"id": "$response.body#/calls/0/conversation_id"}}
        for name in ("show_call", "show_transcript", "address_audio", "address_json")
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "AgenticMemory: reading", "version": "1", "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": _SECURITY},
    }


_SECURITY = {
    "iam": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "Signed with SigV4 (execute-api).",
    },
    "jwt": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=1, ensure_ascii=False) + "\n")
