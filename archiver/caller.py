"""The other party's number: where ElevenLabs puts it, and what counts as one."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.keys import NO_PHONE

# Words on a keypad that carriers send for "anonymous", "restricted", "unavailable", "blocked" and "unknown".
_WITHHELD = {"266696687", "7378742833", "86282452253", "2562533", "8656696"}
_EXTENSION = re.compile(r"[;,xX]")
_NUMBER = re.compile(r"\+?[0-9(][0-9 ().-]*")


@dataclass(frozen=True)
class Caller:
    """`number` is the digits, with a + in front if it came in international form; None if there is none to be had."""

    number: str | None

    @property
    def folder(self) -> str:
        return self.number.lstrip("+") if self.number else NO_PHONE


def find_caller(data: dict[str, Any]) -> Caller:
    """The first usable number in an event's `data`, the surest place first."""
    numbers = (normalise(candidate) for candidate in _candidates(data))
    return Caller(next((number for number in numbers if number), None))


def normalise(raw: Any) -> str | None:
    """`+1 (202) 555-0123;ext=7` as `+12025550123`; None for withheld numbers, SIP URIs, short codes and other words."""
    if not isinstance(raw, str | int) or isinstance(raw, bool):
        return None
    text = _EXTENSION.split(str(raw).strip(), maxsplit=1)[0].strip()
    if not _NUMBER.fullmatch(text):
        return None
    digits = re.sub(r"[^0-9]", "", text)
    if not 7 <= len(digits) <= 15 or digits in _WITHHELD:
        return None
    return f"+{digits}" if text.startswith("+") else digits


def _candidates(data: dict[str, Any]) -> Iterator[Any]:
    metadata = _object(data, "metadata")
    phone_call = _object(metadata, "phone_call")
    yield phone_call.get("external_number")
    yield _object(metadata, "sms").get("sms_user_phone_number")
    yield _whatsapp_number(_object(metadata, "whatsapp").get("whatsapp_user_id"))
    yield _dynamic_number(data, phone_call)
    yield metadata.get("caller_id")
    yield data.get("external_number")
    failure = _object(metadata, "body")
    yield failure.get("To")
    yield failure.get("to_number")
    yield _otel_number(data)


def _whatsapp_number(user_id: Any) -> str | None:
    """WhatsApp's ids are international numbers without their +."""
    return f"+{user_id.lstrip('+')}" if isinstance(user_id, str) else None


def _dynamic_number(data: dict[str, Any], phone_call: dict[str, Any]) -> Any:
    """What telephony wrote into the dynamic variables. Web clients set them freely, so only calls are believed."""
    variables = _object(_object(data, "conversation_initiation_client_data"), "dynamic_variables")
    match phone_call.get("direction"):
        case "inbound":
            return variables.get("system__caller_id")
        case "outbound":
            return variables.get("system__called_number")
    return None


def _otel_number(data: dict[str, Any]) -> Any:
    """The number among the attributes of an OpenTelemetry trace's root span."""
    for resource in _objects(_object(data, "otlp_traces").get("resourceSpans")):
        for scope in _objects(resource.get("scopeSpans")):
            for span in _objects(scope.get("spans")):
                if span.get("parentSpanId"):
                    continue
                for attribute in _objects(span.get("attributes")):
                    if attribute.get("key") == "elevenlabs.telephony.external_number":
                        return _object(attribute, "value").get("stringValue")
    return None


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    child = parent.get(name)
    return child if isinstance(child, dict) else {}


def _objects(children: Any) -> list[dict[str, Any]]:
    return [child for child in children if isinstance(child, dict)] if isinstance(children, list) else []
