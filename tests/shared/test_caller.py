"""The caller's number: every place where it may be, and texts that are not numbers."""

import json

import pytest

from shared.caller import find_caller, normalise
from tests.conftest import fixture_body


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("+12025550123", "+12025550123"),
        ("12025550123", "12025550123"),
        (12025550123, "12025550123"),
        (" +1 (202) 555-01.23 ", "+12025550123"),
        ("+12025550123;ext=4", "+12025550123"),
        ("+12025550123,,77#", "+12025550123"),
        ("+12025550123x77", "+12025550123"),
        ("+1 (202) 555-0123 ext. 7", "+12025550123"),
        ("+1 202 555 0123 #7", "+12025550123"),
        ("\u202a+1\u00a0202\u2011555\u20110123\u202c", "+12025550123"),
        ("1234567", "1234567"),
        ("+123456789012345", "+123456789012345"),
    ],
)
def test_numbers_are_reduced_to_their_digits(raw, number):
    assert normalise(raw) == number


@pytest.mark.parametrize(
    "raw",
    [
        None, "", " ", "+", "anonymous", "unknown", "Restricted", "private", "unavailable", "withheld", "blocked",
        "sip:+12025550123@example.com", "client:12025550123", "12345", "123456", "+1234567890123456",
        "+266696687", "+7378742833", "+86282452253", "+2562533", "+8656696", "266696687",
        "١٢٠٢٥٥٥٠١٢٣", "../12025550123", "12025550123\n../x", "+1202555\u00002345", "9" * 10_000, True, 3.5, [], {},
    ],
    ids=repr,
)  # fmt: skip
def test_text_that_is_not_a_number_gives_none(raw):
    assert normalise(raw) is None


def call(**phone_call) -> dict:
    return {
        "metadata": {"phone_call": phone_call},
        "conversation_initiation_client_data": {
            "dynamic_variables": {"system__caller_id": "+12025550111", "system__called_number": "+12025550122"}
        },
    }


NAMED = {"elevenlabs.telephony.external_number": "+12025550188"}


def otel(*odd, **attributes) -> dict:
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    child = {"parentSpanId": "a1", "attributes": [{"key": "elevenlabs.telephony.external_number", "value": {}}]}
    return {
        "otlp_traces": {"resourceSpans": [{"scopeSpans": [{"spans": [*odd, child, {"attributes": [*odd, *listed]}]}]}]}
    }


@pytest.mark.parametrize(
    ("data", "number"),
    [
        pytest.param(call(external_number="+12025550123", direction="inbound"), "+12025550123", id="phone call first"),
        pytest.param(call(external_number="anonymous", direction="inbound"), "+12025550111", id="inbound variable"),
        pytest.param(call(direction="outbound"), "+12025550122", id="outbound variable"),
        pytest.param(call(external_number=None), None, id="a direction nobody knows"),
        pytest.param(call(), None, id="variables of a web client"),
        pytest.param({"metadata": {"sms": {"sms_user_phone_number": "+12025550144"}}}, "+12025550144", id="sms"),
        pytest.param({"metadata": {"whatsapp": {"whatsapp_user_id": "12025550155"}}}, "+12025550155", id="whatsapp"),
        pytest.param({"metadata": {"caller_id": "+12025550166"}}, "+12025550166", id="caller_id"),
        pytest.param({"external_number": "+12025550177"}, "+12025550177", id="root"),
        pytest.param({"metadata": {"body": {"To": "+12025550178"}}}, "+12025550178", id="twilio failure"),
        pytest.param({"metadata": {"body": {"to_number": "+12025550179"}}}, "+12025550179", id="sip failure"),
        pytest.param(otel(**NAMED), "+12025550188", id="otel root"),
        pytest.param(otel(other="+12025550188"), None, id="otel without"),
        pytest.param(otel(7, None, **NAMED), "+12025550188", id="otel among odd values"),
        pytest.param(
            {"metadata": [], "otlp_traces": {"resourceSpans": [7, {"scopeSpans": {}}]}}, None, id="odd shapes"
        ),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_the_number_is_found_wherever_elevenlabs_puts_it(data, number):
    caller = find_caller(json.dumps(data).encode())

    assert caller.number == number
    assert caller.folder == (number or "no-phone").lstrip("+")


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (call(external_number="sip:+12025550123@example.com;transport=tls"), ("12025550123",)),
        (call(external_number="tel:+1-202-555-0123;phone-context=x"), ("12025550123",)),
        (call(external_number='"Ann" <sip:%2B12025550123@example.com>;tag=1'), ("12025550123",)),
        (call(external_number="whatsapp:+12025550123"), ("12025550123",)),
        (call(external_number="0012025550123"), ("12025550123",)),
        (call(external_number="sip:01112025550123@example.com"), ("12025550123",)),
        (call(external_number="0112025550"), ("0112025550",)),  # a national number
        (call(external_number="+1 (202) 555-0123", direction="inbound"), ("12025550123", "12025550111")),
        ({"metadata": {"caller_id": "sips:reception@example.com"}}, ()),
        (otel(**{"elevenlabs.telephony.external_number": "sip:12025550188@10.0.0.1"}), ("12025550188",)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_call_is_found_by_every_number_of_its_caller(data, numbers):
    assert find_caller(json.dumps(data).encode()).numbers == numbers


@pytest.mark.parametrize(
    ("fixture", "folder"), [("02", "12025550123"), ("05", "no-phone"), ("07", "12025550167"), ("09", "12025550178")]
)
def test_the_fixtures_callers_are_found(fixture, folder):
    body = json.loads(fixture_body(fixture))

    assert find_caller(json.dumps(body.get("data", body)).encode()).folder == folder
