"""A few hundred inputs break no rule, and each rule is broken by a fault that is planted for it."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import archiver.archive
import archiver.finals
import archiver.staged
import ingest.handler
import shared.batch
import shared.webhooks
from shared.errors import PoisonError, SignatureError
from shared.messages import Announcement
from tests.conftest import close_clients
from tests.faults.fuzzing.aws import FuzzAws, fuzz_aws
from tests.faults.fuzzing.edge import refuses_what_is_not_signed
from tests.faults.fuzzing.inputs import Delivery, Request
from tests.faults.fuzzing.rules import RULES, needs_bounded_memory
from tests.faults.fuzzing.run import broken_rules, fuzz, make_input, minimise

verify, stage, read_event, restore = (
    ingest.handler.verify, ingest.handler.stage, shared.webhooks.read_event, archiver.archive.restore
)  # fmt: skip
find_caller, attributes, read_json = (
    archiver.archive.find_caller,
    shared.batch.string_attributes,
    shared.webhooks.read_json,
)


@pytest.fixture(scope="module")
def services() -> Iterator[FuzzAws]:
    with fuzz_aws() as services:
        yield services
        close_clients()


@pytest.mark.parametrize(("kind", "inputs"), [("requests", 300), ("deliveries", 40), ("messages", 20)])
def test_no_input_breaks_a_rule(services, kind, inputs):
    told: list[str] = []

    result = fuzz(services, kind, seed=1, numbers=range(inputs), show=told.append)

    assert told == []
    assert result.inputs == inputs


def accept_an_empty_signature(body: bytes, header: str | None, *others: Any) -> None:
    if "v0=" not in (header or "").split(","):
        verify(body, header, *others)


def expect_the_time_first(body: bytes, header: str | None, *others: Any) -> None:
    if not (header or "").startswith("t="):
        raise SignatureError("malformed")
    verify(body, header, *others)


def refuse_a_bom(body: bytes) -> Any:
    if body.startswith(b"\xef\xbb\xbf"):
        raise PoisonError("webhook", "The body is not JSON.")
    return read_event(body)


def work_long(part: Any) -> Any:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    return find_caller(part)


# The rule that must find the fault; the inputs; what is replaced, and by what.
PLANTED: dict[str, tuple[str, str, Any, str, Callable[..., Any]]] = {
    "a header that must be there": (
        "answers_without_error", "requests", ingest.handler, "read_header", lambda event, name: event["headers"][name]),
    "an empty signature is accepted": (
        "refuses_what_is_not_signed", "requests", ingest.handler, "verify", accept_an_empty_signature),
    "the time must come first": (
        "accepts_what_is_signed", "requests", ingest.handler, "verify", expect_the_time_first),
    "the body is stripped": (
        "stages_byte_for_byte", "requests", ingest.handler, "stage", lambda body, now: stage(body.strip(), now)),
    "a body that is not JSON is retried": (
        "retries_nothing", "deliveries", shared.webhooks, "_read_json", read_json),
    "poison without its error": (
        "says_why_it_is_poison", "deliveries", shared.batch, "string_attributes",
        lambda texts: attributes({"step": texts["step"]})),
    "poison is dropped": (
        "loses_nothing", "deliveries", shared.batch, "send_to_dlq", lambda *_: None),
    "a body with a BOM is poison": (
        "judges_like_the_reference", "deliveries", archiver.staged, "read_event", refuse_a_bom),
    "numbers are written anew": (
        "keeps_what_was_sent", "deliveries", archiver.archive, "restore",
        lambda part: json.dumps(json.loads(restore(part))).encode()),
    "an id that is not checked": (
        "names_keys_by_the_layout", "deliveries", shared.webhooks, "is_id", lambda text: isinstance(text, str)),
    "an announcement without fields": (
        "announces_readably", "deliveries", Announcement, "to_json", lambda _: "{}"),
    "a number that is logged": (
        "tells_nothing_private", "deliveries", archiver.finals, "mask_key", lambda key: key),
    "too much work": (
        "costs_what_it_weighs", "deliveries", archiver.archive, "find_caller", work_long),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_breaks_its_rule(services, monkeypatch, planted):
    rule, kind, place, name, replacement = PLANTED[planted]
    make = make_input(services, kind, seed=1)
    monkeypatch.setattr(place, name, replacement)

    broken = (found.__name__ for number in range(400) for found, _ in broken_rules(services, make(number)))

    assert rule in broken


def test_a_reader_that_needs_too_much_memory_breaks_its_rule(services, monkeypatch):
    body = b'{"type":"future","data":{"x":"%s"}}' % (b"y" * 1_100_000)
    given = Delivery((body,))
    assert needs_bounded_memory(given, services.run(given)) is None

    monkeypatch.setattr(shared.webhooks, "read_json", lambda text: bytes(50 * len(text)) and read_json(text))

    assert "MB for a body of" in str(needs_bounded_memory(given, services.run(given)))


def test_every_rule_has_a_planted_fault():
    rules = {rule.__name__ for rules in RULES.values() for rule in rules} - {needs_bounded_memory.__name__}

    assert {rule for rule, *_ in PLANTED.values()} == rules


def test_an_input_that_breaks_a_rule_is_made_smaller(services, monkeypatch):
    monkeypatch.setattr(ingest.handler, "verify", accept_an_empty_signature)
    given = Request(b"x" * 1000, "t={t},v0=,v1=7", late=60, form="base64")

    assert minimise(services, given, refuses_what_is_not_signed) == Request(b"x", "t={t},v0=,v1=7")


def test_the_same_seed_gives_the_same_inputs(services):
    for kind in ("requests", "deliveries", "messages"):
        first, second = (make_input(services, kind, seed=7) for _ in range(2))

        assert [first(number) for number in range(50)] == [second(number) for number in range(50)]
        assert first(0) != make_input(services, kind, seed=8)(0)
