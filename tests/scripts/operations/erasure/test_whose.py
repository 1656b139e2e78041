"""Whose data it is, however the number is written."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from tests.archiver.conftest import stage, staged_key
from tests.scripts.operations.conftest import (
    CALLER,
    archive_checks,
    note,
)
from tests.scripts.operations.erasure.conftest import (
    OTHER,
    WORDS,
    archive_rest,
    audio,
    call,
    failure,
    kept,
    notice,
    sip,
    traced,
    traces,
    unlock,
)

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


FORMS = ["+12025550123", "12025550123", "0012025550123", "+1 (202) 555-0123", "+1.202.555.0123", "sip:+12025550123@a.b",
         "tel:+1-202-555-0123", "+1\u00a0202\u2011555\u20110123"]  # fmt: skip


@pytest.mark.parametrize("written", FORMS)
def test_an_event_without_a_conversation_is_deleted_with_any_format_of_the_number(stack, keep, erase, written):
    keep(notice(written=written), notice(OTHER), notice(OTHER, written="912025550123"))

    code, certificate = erase(CALLER)

    assert (code, certificate["deleted"]["object_versions"], certificate["deleted"]["payloads"]) == (0, 1, 1)
    assert not [text for text in kept(stack) if WORDS[CALLER] in text]
    assert len(stack.object_keys("other-events/")) == 2


@pytest.mark.parametrize("written", FORMS)
def test_an_unreadable_body_is_deleted_if_it_contains_the_number(stack, keep, sweep, erase, written):
    keep(f"{written}: Kingfisher".encode(), b"no JSON either")
    sweep()

    code, _ = erase(CALLER)

    assert (code, traces(stack), len(stack.object_keys("staging/"))) == (0, [], 1)


def test_a_new_poison_body_is_found_by_its_message(stack, keep, erase):
    keep(f"{CALLER} is no JSON".encode(), call("conv_1"), audio("conv_1") | {"data": {"conversation_id": "conv_1"}})

    code, certificate = erase(CALLER)

    assert (code, certificate["deleted"]["messages"], traces(stack)) == (0, 2, [])
    assert stack.object_keys("staging/") == set()


def test_a_call_that_has_only_other_events_is_deleted(stack, keep, erase):
    (staged,) = keep(traced("conv_1"))
    stack.s3.delete_object(Bucket=stack.bucket, Key=staged)  # it has expired

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert certificate["deleted"]["object_versions"] == 1


@pytest.mark.parametrize("event", [traced, sip, failure], ids=["OpenTelemetry", "SIP", "a call that failed"])
def test_a_caller_is_deleted_with_any_source_of_the_number(stack, keep, erase, event):
    keep(event("conv_1"))

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


def test_a_call_whose_record_is_full_of_staged_bodies_is_deleted_too(stack, keep, erase, monkeypatch):
    monkeypatch.setattr("shared.record.MOST_STAGED", 12)  # more than are read at a time
    keep(call("conv_1"))
    gone = {f"staging/2026/11/21/10/{number:064x}.json" for number in range(11)}
    note(stack, "conv_1", staged_keys=gone | stack.call("conv_1")["staged_keys"])

    code, _ = erase(CALLER)

    assert (code, traces(stack)) == (0, [])


def test_another_callers_call_stays_although_an_event_about_it_named_the_number(stack, keep, erase):
    keep(failure("conv_1"), call("conv_1", OTHER))
    others = stack.versions(OTHER[1:])

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], certificate["shared_conversations"]) == (0, [], ["conv_1"])
    assert (traces(stack), stack.versions()) == ([], others)
    record = stack.call("conv_1")
    assert (record["external_number"], record["numbers"], len(record["staged_keys"])) == (OTHER, {OTHER[1:]}, 1)


def test_an_older_version_that_names_the_number_is_deleted_and_the_newer_stays(stack, keep, erase):
    third = "+12025550198"
    for at_second, number in enumerate((OTHER, CALLER, third), start=1):
        keep(call("conv_1", number) | {"event_timestamp": at_second})

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], certificate["shared_conversations"]) == (0, True, ["conv_1"])
    assert not [text for text in kept(stack) if CALLER[1:] in text]
    assert stack.json(f"{OTHER[1:]}/conv_1.json")["metadata"]["phone_call"]["external_number"] == third
    assert len(stack.versions(OTHER[1:])) == 2


def test_an_older_number_is_found_although_its_transcript_was_never_the_newest(stack, keep, erase):
    keep(call("conv_1", OTHER) | {"event_timestamp": 9}, call("conv_1") | {"event_timestamp": 8})

    code, _ = erase(CALLER)

    assert (code, traces(stack), stack.call("conv_1")["external_number"]) == (0, [], OTHER)


def test_a_current_object_of_another_that_names_the_number_is_for_a_person_to_look_at(stack, keep, erase):
    both = call("conv_1", OTHER)
    both["data"]["metadata"]["caller_id"] = CALLER
    keep(both)

    results = [erase(CALLER), erase(CALLER)]

    for code, certificate in results:
        (looked_at,) = (each for each in certificate["remains"] if "a person" in each["until"])
        assert (code, certificate["complete"]) == (1, False)
        assert looked_at["what"] == "120…199/conv_1.json"
        assert "another caller's call" in looked_at["why"]
    assert stack.object_keys() == {f"{OTHER[1:]}/conv_1.json"}


def test_the_callers_elements_of_a_split_array_are_deleted(stack, keep, erase):
    shared = [call("conv_1", OTHER), {"type": "post_call_audio", "data": {"conversation_id": "c", "full_audio": "!"}}]
    keep(b"\xef\xbb\xbf" + json.dumps([*shared, notice()]).encode())

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert stack.object_keys() == {f"{OTHER[1:]}/conv_1.json"}


def test_a_split_array_that_could_not_be_deleted_then_is_deleted_with_its_elements(stack, lock, keep, erase, context):
    check = stage(stack, [call("conv_1", OTHER), notice()])
    lock(staged_key(check), datetime.now(timezone.utc) + timedelta(days=1))
    archive_checks(context, check)
    archive_rest(stack, context)
    unlock(stack)
    assert staged_key(check) in stack.object_keys("staging/")

    code, _ = erase(CALLER)

    assert (code, traces(stack), stack.object_keys()) == (0, [], {f"{OTHER[1:]}/conv_1.json"})


ARRAYS = {
    "never split": [call("conv_1"), call("conv_2", OTHER)],
    "in an array": [[notice()], [notice(OTHER)]],
    "too long": [notice(), *([1] * 1000)],
    "no JSON": f"[{CALLER}, {OTHER}".encode(),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_may_contain_other_callers_is_for_a_person_to_look_at(stack, keep, sweep, erase, array):
    stage(stack, array)
    sweep()
    before = {key: stack.body(key) for key in stack.object_keys("staging/")}

    code, certificate = erase(CALLER)

    (looked_at,) = (each for each in certificate["remains"] if "a person" in each["until"])
    assert (code, certificate["complete"], looked_at["what"]) == (1, False, *before)
    assert {key: stack.body(key) for key in stack.object_keys("staging/")} == before


def test_an_array_of_the_caller_alone_that_was_never_split_is_deleted(stack, sweep, erase):
    stage(stack, [call("conv_1"), failure("conv_2"), notice()])
    sweep()

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1", "conv_2"], [])
