"""The caller's phone number: where ElevenLabs puts it, and which values count as a number."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from shared.errors import PoisonError
from shared.keys import NO_PHONE
from shared.parts import MISSING, Json, Part, fields, objects, scalar, text

MOST_NUMBERS = 20
# Carriers send these keypad spellings of "anonymous", "restricted", "unavailable", "blocked" and "unknown".
_WITHHELD = {"266696687", "7378742833", "86282452253", "2562533", "8656696"}
_BLANKS = re.compile(r"[\u00a0\u2000-\u200f\u202a-\u202f]")
_HYPHENS = re.compile(r"[\u2010-\u2015\u2212]")
_EXTENSION = re.compile(r"[;,xX#]|\bext", re.IGNORECASE)
_NUMBER = re.compile(r"\+?[0-9(][0-9 ().-]*")
_URI = re.compile(r"\b(?:sips?|tel|whatsapp):(?://)?([^@;?:>]*)", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:00(?=[1-9]\d{7})|011(?=[1-9]\d{9}))")
Raw = msgspec.Raw


class _Data(Part):
    metadata: Raw = MISSING
    conversation_initiation_client_data: Raw = MISSING
    external_number: Raw = MISSING
    otlp_traces: Raw = MISSING


class _Metadata(Part):
    phone_call: Raw = MISSING
    sms: Raw = MISSING
    whatsapp: Raw = MISSING
    caller_id: Raw = MISSING
    body: Raw = MISSING


class _PhoneCall(Part):
    direction: Raw = MISSING
    external_number: Raw = MISSING


class _Sms(Part):
    sms_user_phone_number: Raw = MISSING


class _WhatsApp(Part):
    whatsapp_user_id: Raw = MISSING


class _Failure(Part):
    To: Raw = MISSING
    to_number: Raw = MISSING


class _ClientData(Part):
    dynamic_variables: Raw = MISSING


class _Variables(Part):
    system__caller_id: Raw = MISSING
    system__called_number: Raw = MISSING


class _Traces(Part):
    resourceSpans: Raw = MISSING


class _Resource(Part):
    scopeSpans: Raw = MISSING


class _Scope(Part):
    spans: Raw = MISSING


class _Span(Part):
    parentSpanId: Raw = MISSING
    attributes: Raw = MISSING


class _Attribute(Part):
    key: Raw = MISSING
    value: Raw = MISSING


class _Text(Part):
    stringValue: Raw = MISSING


@dataclass(frozen=True)
class Caller:
    """`number` is digits, with a leading + if it came in international form; None if there is no usable number.

    `numbers` has the digits of every number of the caller in an event, also from SIP and tel URIs. Each of them finds
    and erases the call. The most reliable one comes first.
    """

    number: str | None
    numbers: tuple[str, ...] = ()

    @property
    def digits(self) -> str | None:
        """The number that the call is listed under."""
        return self.numbers[0] if self.numbers else None

    @property
    def folder(self) -> str:
        return self.number.lstrip("+") if self.number else NO_PHONE


def find_caller(part: Json) -> Caller:
    """The caller in an event's `data`. The first usable number counts; the most reliable places are read first.

    Raises PoisonError if there are more than MOST_NUMBERS, because each costs a lookup and a line in the index.
    """
    candidates = [each if isinstance(each, str) else scalar(each) for each in _candidates(part)]
    numbers = [number for each in candidates if (number := normalise(each))]
    found = [*numbers, *(number for each in candidates if (number := _in_uri(each)))]
    found = [found_by(number) for number in found]
    if len(set(found)) > MOST_NUMBERS:  # an erasure would miss the ones left out
        raise PoisonError("webhook", f"The event names more than {MOST_NUMBERS} numbers of its caller.")
    return Caller(numbers[0] if numbers else None, tuple(dict.fromkeys(found)))


def found_by(number: str) -> str:
    """The digits that the index uses for a number. The prefixes 00 and 011 mean the same as +."""
    digits = number.lstrip("+")
    return digits if number.startswith("+") else _PREFIX.sub("", digits)


def normalise(raw: Any) -> str | None:
    """`+1 (202) 555-0123;ext=7` as `+12025550123`; None for withheld numbers, SIP URIs, short codes and other text."""
    if not isinstance(raw, str | int) or isinstance(raw, bool):
        return None
    text = _HYPHENS.sub("-", _BLANKS.sub(" ", str(raw)))
    text = _EXTENSION.split(text.strip(), maxsplit=1)[0].strip()
    if not _NUMBER.fullmatch(text):
        return None
    digits = re.sub(r"[^0-9]", "", text)
    if not 7 <= len(digits) <= 15 or digits in _WITHHELD:
        return None
    return f"+{digits}" if text.startswith("+") else digits


def _in_uri(raw: Any) -> str | None:
    """The number in a SIP or tel URI, or None."""
    uri = _URI.search(raw) if isinstance(raw, str) else None
    return normalise(unquote(uri[1])) if uri else None


def _candidates(part: Json) -> Iterator[Json | str]:
    """Possible numbers, the most reliable first: JSON parts, or texts that are already decoded."""
    data = fields(_Data, part)
    metadata = fields(_Metadata, data.metadata)
    phone_call = fields(_PhoneCall, metadata.phone_call)
    yield phone_call.external_number
    yield fields(_Sms, metadata.sms).sms_user_phone_number
    if user_id := text(fields(_WhatsApp, metadata.whatsapp).whatsapp_user_id):
        yield f"+{user_id.lstrip('+')}"  # an international number without its +
    yield from _dynamic_number(data, phone_call)
    yield metadata.caller_id
    yield data.external_number
    failure = fields(_Failure, metadata.body)
    yield failure.To
    yield failure.to_number
    yield from _otel_numbers(data.otlp_traces)


def _dynamic_number(data: _Data, phone_call: _PhoneCall) -> Iterator[Json]:
    """The number in the dynamic variables. Web clients can set these to anything, so only phone calls are trusted."""
    variables = fields(_Variables, fields(_ClientData, data.conversation_initiation_client_data).dynamic_variables)
    match text(phone_call.direction):
        case "inbound":
            yield variables.system__caller_id
        case "outbound":
            yield variables.system__called_number


def _otel_numbers(part: Json) -> Iterator[Json]:
    """The number in the attributes of an OpenTelemetry trace's root span."""
    for resource in objects(_Resource, fields(_Traces, part).resourceSpans):
        for scope in objects(_Scope, resource.scopeSpans):
            for span in objects(_Span, scope.spans):
                if text(span.parentSpanId):
                    continue
                for attribute in objects(_Attribute, span.attributes):
                    if text(attribute.key) == "elevenlabs.telephony.external_number":
                        yield fields(_Text, attribute.value).stringValue
