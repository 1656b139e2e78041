"""The demo's sample calls are what they promise to be, and its checks see what is wrong."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from scripts.demo.calls import SampleCall, long_call, sample_calls
from scripts.demo.checks import check, expected_objects, expected_record
from scripts.demo.report import conclude, open_console, show
from scripts.demo.scenes import Answer, Found, Kept, Outcome, Webhook, fetches, new_calls, questions, repeats
from scripts.demo.stack import QUEUES
from tests.processes import LONGEST

ROOT = Path(__file__).parents[3]
NOW = 1_795_375_000
CALLS = sample_calls(NOW)
WEBHOOKS = [*new_calls(CALLS), *repeats(CALLS.harbour)]
FETCHES = fetches(CALLS)
LARGEST_BODY = 6 * 1024 * 1024  # that Lambda takes
HASH_BODIES = f"""
import hashlib
from scripts.demo.calls import sample_calls
bodies = [body for call in sample_calls({NOW}) for body in (call.transcript_body(), call.audio_body())]
print(hashlib.sha256(b"".join(bodies)).hexdigest())
"""


def frames(mp3: bytes) -> Iterator[tuple[int, int]]:
    """Bytes and samples of each frame, as a decoder would find them: from header to header."""
    at = 0
    while at < len(mp3):
        first, second, third, _ = mp3[at : at + 4]
        assert (first, second & 0b11111110) == (0xFF, 0b11110010), f"no MPEG-2 Layer III header at {at}"
        kbps = (None, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, None)[third >> 4]
        hertz = (22050, 24000, 16000, None)[third >> 2 & 0b11]
        assert kbps is not None, f"no bit rate at {at}"
        assert hertz is not None, f"no sample rate at {at}"
        length = 72000 * kbps // hertz + (third >> 1 & 1)
        yield length, 576
        at += length
    assert at == len(mp3)


def test_the_long_call_has_the_size_of_a_real_one() -> None:
    call = long_call()

    assert 95_000 < len(call.transcript_body()) < 110_000
    assert call.data["metadata"]["call_duration_secs"] == 20 * 60
    assert 19 * 60 < call.data["transcript"][-1]["time_in_call_secs"] < 20 * 60
    assert len(call.spoken) > 100
    assert len(set(call.spoken)) == len(call.spoken)
    assert len(call.recording or b"") == pytest.approx(3_600_000, rel=0.01)
    assert 4_700_000 < len(call.audio_body()) < 6_000_000


def test_the_charter_calls_recording_is_too_large_for_a_webhook_and_the_others_are_not() -> None:
    sizes = {call.conversation_id: len(call.audio_body()) for call in CALLS}

    assert [each for each, size in sizes.items() if size > LARGEST_BODY] == [CALLS.charter.conversation_id]


@pytest.mark.parametrize("call", [CALLS.charter, CALLS.lighthouse], ids=["charter", "lighthouse"])
def test_a_call_to_be_fetched_ended_five_minutes_ago_at_each_of_its_times(call: SampleCall) -> None:
    metadata, started = call.data["metadata"], call.data["metadata"]["start_time_unix_secs"]
    variables = call.data["conversation_initiation_client_data"]["dynamic_variables"]

    assert started + metadata["call_duration_secs"] == NOW - 300
    assert metadata["accepted_time_unix_secs"] == started
    assert datetime.fromisoformat(variables["system__time_utc"]).timestamp() == started


@pytest.mark.parametrize("call", CALLS, ids=CALLS._fields)
def test_a_sample_call_has_every_field_of_its_fixture(call: SampleCall) -> None:
    name = "02_transcription_full_twilio_inbound" if call.number else "05_transcription_web_no_phone"
    fixture = json.loads((ROOT / "tests" / "fixtures" / f"{name}.json").read_text())

    data = json.loads(call.transcript_body())["data"]

    assert data.keys() == fixture["data"].keys()
    assert {frozenset(turn) for turn in data["transcript"]} == {frozenset(fixture["data"]["transcript"][0])}
    assert data["metadata"].keys() == fixture["data"]["metadata"].keys()


def test_the_times_in_a_call_never_run_backwards() -> None:
    for call in CALLS:
        times = [turn["time_in_call_secs"] for turn in call.data["transcript"]]

        assert times == sorted(times)


def test_every_process_makes_the_same_calls() -> None:
    run = [sys.executable, "-c", HASH_BODIES]
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]

    made = {subprocess.check_output(run, cwd=ROOT, env=seed, timeout=LONGEST) for seed in seeds}

    bodies = b"".join(body for call in CALLS for body in (call.transcript_body(), call.audio_body()))
    assert made == {f"{hashlib.sha256(bodies).hexdigest()}\n".encode()}


RECORDED = {"harbour": 48, "charter": 720, "lighthouse": 32}


@pytest.mark.parametrize(("name", "seconds"), RECORDED.items(), ids=RECORDED)
def test_a_recording_is_a_whole_mp3_without_two_equal_frames(name: str, seconds: int) -> None:
    recording = getattr(CALLS, name).recording

    found = list(frames(recording))

    assert sum(samples for _, samples in found) / 16000 == pytest.approx(seconds, abs=0.04)
    assert {length for length, _ in found} == {576}
    assert len({recording[at : at + 576] for at in range(0, len(recording), 576)}) == len(found)


def test_in_the_long_call_the_question_about_the_dog_is_heard_at_its_turn() -> None:
    call = long_call()
    recording = call.recording or b""
    (asked,) = (turn for turn in call.data["transcript"] if "dog no longer climbs" in (turn["message"] or ""))
    question = (ROOT / "scripts/demo/sound/ask.mp3").read_bytes()

    heard = recording.find(question) / 108 * 0.036

    assert sum(samples for _, samples in frames(recording)) / 16000 == pytest.approx(1200, abs=0.04)
    assert {length for length, _ in frames(recording)} == {108}
    assert heard == pytest.approx(asked["time_in_call_secs"], abs=0.04)
    assert "dog" in call.data["analysis"]["transcript_summary"]


def good_outcome() -> Outcome:
    """What the demo looks at, all of it as it should be until a test spoils it."""
    return Outcome(
        [answer(webhook) for webhook in WEBHOOKS],
        before=kept(CALLS[:4]),
        after=kept(CALLS),
        reconciled={"swept": 0, "listed": 2, "missing_calls": 1, "outcomes": {"fetched": 1}},
        found=[Found(question, f"... {question.expected} ...", 0.4) for question in questions(CALLS)],
    )


def answer(webhook: Webhook) -> Answer:
    if webhook.forged:
        return Answer(webhook, 401, {"error": "The signature is not valid."})
    return Answer(webhook, 200, {"status": "ok", "delivery_id": webhook.delivery_id})


def kept(calls: Sequence[SampleCall]) -> Kept:
    finals = expected_objects(calls)
    staged = [f"{webhook.delivery_id}.json" for webhook in WEBHOOKS[:6]] + [fetch.staged for fetch in FETCHES]
    return Kept(
        finals,
        versions={key: ["1"] for key in finals},
        staged={f"staging/2026/11/22/10/{name}": True for name in staged},
        records={key: item for call in calls for key, item in records(call)},
        messages=dict.fromkeys(QUEUES, 0),
        memories={call.user_id: 1 + len(call.spoken) for call in calls},
    )


def records(call: SampleCall) -> Iterator[tuple[tuple[str, str], dict[str, object]]]:
    yield (call.conversation_id, "call"), expected_record(call) | {"staged_keys": {"staging/1"}}
    for kind, number in (("factual", 1), ("semantic", len(call.spoken))):
        yield (call.conversation_id, f"memory#{kind}"), {"state": "done", "memory_ids": ["id"] * number}


JSON, MP3 = "12025550123/conv_demo_mooring.json", "12025550142/conv_demo_winter.mp3"
LONG_MP3, MISSED_JSON = "12025550164/conv_demo_charter.mp3", "12025550187/conv_demo_lighthouse.json"
MISSED, MISSED_LEDGER = ("conv_demo_lighthouse", "call"), ("conv_demo_lighthouse", "memory#factual")
RECORD, LEDGER = ("conv_demo_mooring", "call"), ("conv_demo_winter", "memory#semantic")


def spoil_json(outcome: Outcome) -> None:
    outcome.after.finals[JSON] = outcome.after.finals[JSON].replace(b'"visits": 3', b'"visits": 3.0')


def spoil_audio(outcome: Outcome) -> None:
    outcome.after.finals[MP3] = outcome.after.finals[MP3][576:]


def spoil_long_audio(outcome: Outcome) -> None:
    outcome.after.finals[LONG_MP3] = outcome.after.finals[LONG_MP3][:-576]


def spoil_missed_call(outcome: Outcome) -> None:
    outcome.after.finals[MISSED_JSON] = json.dumps(CALLS.lighthouse.data | {"status": "failed"}).encode()


def lose_fetch(outcome: Outcome) -> None:
    del outcome.after.staged[f"staging/2026/11/22/10/{FETCHES[0].staged}"]


def miss_nothing(outcome: Outcome) -> None:
    outcome.reconciled = {**outcome.reconciled, "missing_calls": 0, "outcomes": {}}


def fail_pass(outcome: Outcome) -> None:
    outcome.reconciled = {"swept": 0, "error": "ElevenLabs refused the key"}


def answer_forgery(outcome: Outcome) -> None:
    outcome.answers[-1] = Answer(WEBHOOKS[-1], 200, {"status": "ok", "delivery_id": WEBHOOKS[-1].delivery_id})


def stage_forgery(outcome: Outcome) -> None:
    outcome.after.staged[f"staging/2026/11/22/10/{WEBHOOKS[-1].delivery_id}.json"] = True


def untag(outcome: Outcome) -> None:
    outcome.after.staged |= dict.fromkeys(list(outcome.after.staged)[:1], False)


def refuse_first(outcome: Outcome) -> None:
    outcome.answers[0] = Answer(WEBHOOKS[0], 503, {"error": "Storage could not be reached."})


def write_again(outcome: Outcome) -> None:
    outcome.after.versions[JSON] = ["2"]


def find_nothing(outcome: Outcome) -> None:
    outcome.found[0] = Found(outcome.found[0].question, "", 0.0)


SPOILED: dict[str, tuple[Callable[[Outcome], object], str]] = {
    "json missing": (lambda outcome: outcome.after.finals.pop(JSON), "is missing"),
    "object too many": (lambda outcome: outcome.after.finals.update({"1/x.json": b"{}"}), "should not be there"),
    "json changed": (spoil_json, "does not hold what ElevenLabs has"),
    "audio shorter": (spoil_audio, "does not hold what ElevenLabs has"),
    "long audio missing": (lambda outcome: outcome.after.finals.pop(LONG_MP3), f"{LONG_MP3} is missing"),
    "long audio shorter": (spoil_long_audio, f"{LONG_MP3} does not hold"),
    "missed call changed": (spoil_missed_call, f"{MISSED_JSON} does not hold"),
    "not fetched": (lose_fetch, "the 3 that were fetched"),
    "fetched by the pass only": (lambda outcome: outcome.before.finals.pop(LONG_MP3), "before the hourly run"),
    "no call missed": (miss_nothing, "hourly run reported"),
    "pass failed": (fail_pass, "refused the key"),
    "missed audio pending": (lambda outcome: outcome.after.records[MISSED].update(audio="pending"), "has audio"),
    "missed call forgotten": (lambda outcome: outcome.after.records[MISSED_LEDGER].clear(), "is not done"),
    "two versions": (lambda outcome: outcome.after.versions[JSON].append("2"), "was written 2 times"),
    "duplicate written": (write_again, "wrote an object again"),
    "body not tagged": (untag, "is not tagged"),
    "forgery staged": (stage_forgery, "has 10 bodies"),
    "forgery accepted": (answer_forgery, "was answered with 200"),
    "webhook refused": (refuse_first, "was answered with 503"),
    "audio parked": (lambda outcome: outcome.after.records[RECORD].update(parked={}), "has parked"),
    "other folder": (lambda outcome: outcome.after.records[RECORD].update(folder="no-phone"), "has folder 'no-phone'"),
    "record missing": (lambda outcome: outcome.after.records.pop(RECORD), "14 items instead of 15"),
    "record changed": (lambda outcome: outcome.after.records[RECORD].update(status="x"), "changed a record"),
    "not remembered": (lambda outcome: outcome.after.records[LEDGER].update(state="sending"), "is not done"),
    "remembered twice": (lambda outcome: outcome.after.memories.update({"+12025550123": 9}), "remembered again"),
    "nothing found": (find_nothing, "without 'Thursday at nine'"),
    "dead letter": (lambda outcome: outcome.after.messages.update(ArchiveDlq=1), "ArchiveDlq holds 1"),
    "audio waits": (lambda outcome: outcome.after.messages.update(AudioQueue=1), "AudioQueue holds 1"),
    "audio's dead letter": (lambda outcome: outcome.after.messages.update(AudioDlq=1), "AudioDlq holds 1"),
    "queue unknown": (lambda outcome: outcome.after.messages.pop("AudioQueue"), "7 queues instead of 8"),
}


def test_the_checks_have_nothing_to_say_when_all_is_as_it_should_be() -> None:
    assert check(CALLS, good_outcome()) == []


def test_a_repeat_after_the_full_hour_may_stage_its_body_once_more() -> None:
    outcome = good_outcome()
    outcome.after.staged[f"staging/2026/11/22/11/{WEBHOOKS[0].delivery_id}.json"] = True
    outcome.after.records[RECORD]["staged_keys"] = {"staging/1", "staging/2"}

    assert check(CALLS, outcome) == []


@pytest.mark.parametrize(("spoil", "complaint"), SPOILED.values(), ids=SPOILED)
def test_the_checks_see_what_is_wrong(spoil: Callable[[Outcome], object], complaint: str) -> None:
    outcome = good_outcome()

    spoil(outcome)

    assert any(complaint in failure for failure in check(CALLS, outcome))


def test_the_report_fits_a_hundred_columns_and_about_two_screens(capsys: pytest.CaptureFixture[str]) -> None:
    console, outcome = open_console(), good_outcome()

    show(console, "a-bucket", CALLS, outcome)
    conclude(console, check(CALLS, outcome), 12)

    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert len(lines) < 80


def test_the_report_shows_what_is_there_even_if_nothing_is(capsys: pytest.CaptureFixture[str]) -> None:
    console, outcome = open_console(), Outcome([], Kept(), Kept(), {}, [])

    show(console, "a-bucket", CALLS, outcome)
    conclude(console, check(CALLS, outcome), 12)

    shown = capsys.readouterr().out
    assert "The demo failed" in shown
    assert shown.count("✗") == len(FETCHES)
    assert "✓" not in shown
