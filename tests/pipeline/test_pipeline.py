"""What becomes of each fixture, from the POST to the memory, and of pairs, duplicates, forgeries and faults."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from shared.indexes import listing
from tests.conftest import fixture_body
from tests.pipeline.conftest import Pipeline, wait_until

AGENT = "agent_7001fixture0agent0alpha0001"

# Fixture by fixture: the objects, the record, the announcements (event, audio) and the memories (user, type, how many).
# 02 and 08 are one call.
EXPECTED: dict[str, dict[str, Any]] = {
    "01": {
        "keys": {"no-phone/conv_fixture00000000000000minimal.json"},
        "record": {
            "conversation_id": "conv_fixture00000000000000minimal", "folder": "no-phone", "audio": "pending",
            "started_at": "2026-03-03T15:04:05Z", "duration_secs": 4, "status": "done", "call_successful": "unknown",
            "summary": "The agent greeted and nobody answered.",
        },
        "announcements": [("transcript_archived", "pending")],
        "memories": None,
    },
    "02": {
        "keys": {
            "12025550123/conv_fixture00000000000000000full.json",
            "12025550123/conv_fixture00000000000000000full.mp3",
        },
        "record": {
            "conversation_id": "conv_fixture00000000000000000full", "folder": "12025550123", "audio": "archived",
            "external_number": "+12025550123", "started_at": "2026-03-03T15:04:05Z", "duration_secs": 21,
            "status": "done", "call_successful": "success", "summary": "The caller moved a mooring to Thursday.",
            "mp3_key": "12025550123/conv_fixture00000000000000000full.mp3",
        },
        "announcements": [("audio_archived", "archived"), ("transcript_archived", "pending")],
        "memories": ("+12025550123", 1, 6),
    },
    "05": {
        "keys": {"no-phone/conv_fixture0000000000000000web05.json"},
        "record": {
            "conversation_id": "conv_fixture0000000000000000web05", "folder": "no-phone", "audio": "pending",
            "started_at": "2026-03-03T17:34:05Z", "duration_secs": 8, "status": "done", "call_successful": "success",
            "summary": "Shipping question.",
        },
        "announcements": [("transcript_archived", "pending")],
        "memories": ("user:web-visitor-5521", 1, 3),
    },
    "07": {
        "keys": {
            "12025550167/conv_fixture00000000000000legacy7.json",
            "12025550167/conv_fixture00000000000000legacy7.mp3",
        },
        "record": {
            "conversation_id": "conv_fixture00000000000000legacy7", "folder": "12025550167", "audio": "archived",
            "external_number": "+12025550167", "duration_secs": 12, "summary": "Sam from the garden club called.",
            "mp3_key": "12025550167/conv_fixture00000000000000legacy7.mp3",
        },
        "announcements": [("audio_archived", "archived"), ("transcript_archived", "archived")],
        "memories": ("+12025550167", 1, 2),
    },
    "09": {
        "keys": {"12025550178/conv_fixture000000000000failtwil9.call_initiation_failure.json"},
        "record": None,
        "announcements": [],
        "memories": None,
    },
    "11": {
        "keys": {"no-phone/conv_fixture00000000000000future1.post_call_sentiment_digest.json"},
        "record": None,
        "announcements": [],
        "memories": None,
    },
    "12": {
        "keys": {"12025550190/conv_fixture00000000000000nonasci.json"},
        "record": {
            "conversation_id": "conv_fixture00000000000000nonasci", "folder": "12025550190", "audio": "pending",
            "external_number": "+12025550190", "started_at": "2026-03-03T15:07:25Z", "duration_secs": 18,
            "status": "done", "call_successful": "success", "summary": "Rozmowa o terminie naprawy — «czwartek».",
        },
        "announcements": [("transcript_archived", "pending")],
        "memories": ("+12025550190", 1, 6),
    },
}  # fmt: skip


def data_of(fixture: str) -> dict:
    body = json.loads(fixture_body(fixture))
    return body.get("data", body)


def snapshot(pipeline: Pipeline) -> tuple:
    """All that a duplicate must not change."""
    users = [each["memories"][0] for each in EXPECTED.values() if each["memories"]]
    memories = {user: sorted(memory["id"] for memory in pipeline.memories(user)) for user in users}
    return pipeline.object_keys(), pipeline.versions(), pipeline.items(), memories


def is_all_tagged(pipeline: Pipeline) -> bool:
    """Whether the work of each payload is done: its tag comes last, after the announcement."""
    staged = pipeline.object_keys("staging/")
    return len(staged) == len(EXPECTED) and all(pipeline.tags(key) == {"archived": "true"} for key in staged)


@pytest.fixture(scope="module")
def archived(pipeline: Pipeline) -> Pipeline:
    """All fixtures over HTTP, the audio of 02 once it is archived itself."""
    answers = [pipeline.post(fixture_body(fixture)) for fixture in EXPECTED]
    pipeline.settle()
    wait_until(lambda: is_all_tagged(pipeline))  # on a busy machine, a queue can look empty before its work is done
    answers.append(pipeline.post(fixture_body("08")))
    pipeline.settle()
    assert [answer.status_code for answer in answers] == [200] * (len(EXPECTED) + 1)
    pipeline.said = pipeline.announcements()
    return pipeline


def test_the_bucket_holds_exactly_what_the_fixtures_become(archived):
    assert archived.object_keys() == set().union(*(each["keys"] for each in EXPECTED.values()))
    assert len(archived.object_keys("staging/")) == len(EXPECTED) + 1
    assert {str(archived.tags(key)) for key in archived.object_keys("staging/")} == {"{'archived': 'true'}"}
    assert {str(archived.tags(key)) for key in archived.object_keys()} == {"{'tier': 'archive'}"}
    assert len(archived.versions()) == len(archived.object_keys())


@pytest.mark.parametrize("fixture", EXPECTED)
def test_each_json_is_the_data_that_was_sent(archived, fixture):
    (key,) = (key for key in EXPECTED[fixture]["keys"] if key.endswith(".json"))
    sent = data_of(fixture)
    sent.pop("full_audio", None)

    assert archived.json(key) == sent
    assert archived.head(key)["ContentType"] == "application/json"


@pytest.mark.parametrize(("fixture", "source"), [("02", "08"), ("07", "07")])
def test_each_mp3_is_the_audio_that_was_sent(archived, fixture, source):
    (key,) = (key for key in EXPECTED[fixture]["keys"] if key.endswith(".mp3"))

    assert archived.body(key) == base64.b64decode(data_of(source)["full_audio"])
    assert archived.head(key)["ContentType"] == "audio/mpeg"


@pytest.mark.parametrize("fixture", EXPECTED)
def test_each_record_is_whole(archived, fixture):
    expected, conversation_id = EXPECTED[fixture]["record"], data_of(fixture)["conversation_id"]
    call = archived.call(conversation_id)
    if expected is None:
        (event_key,) = (key for key in EXPECTED[fixture]["keys"] if key.endswith(".json"))
        assert call["event_keys"] == {event_key}
        assert "folder" not in call
        return

    digits = expected.get("external_number", "").lstrip("+")
    assert (call.pop("caller", ""), call.pop("numbers", set())) == (digits, {digits} - {""})
    staged = call.pop("staged_keys")
    orders = [call.pop("t_order"), *([call.pop("mp3_order")] if "mp3_order" in call else [])]
    assert {key.rpartition("/")[2].removesuffix(".json") for key in staged} == {order[16:] for order in orders}
    archived_at = call.pop("archived_at")
    assert archived_at.endswith("Z")
    json_key = f"{expected['folder']}/{conversation_id}.json"
    listed = listing(conversation_id, AGENT, expected.get("started_at") or archived_at)
    open_work = {"open_audio": "pending"} if expected["audio"] == "pending" else {}
    named = {"item": "call", "agent_id": AGENT, "json_key": json_key}
    assert (call.pop("text_order"), call.pop("text_days")) == (orders[0], {listed["listed_at"][:10]})
    assert call == expected | named | listed | open_work | told_beside(fixture)


def told_beside(fixture: str) -> dict[str, Any]:
    """What the record has of the call's cost and title, if ElevenLabs tells them."""
    data = data_of(fixture)
    told = {"cost": data["metadata"].get("cost"), "title": (data["analysis"] or {}).get("call_summary_title")}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize("fixture", EXPECTED)
def test_each_call_is_announced(archived, fixture):
    conversation_id, record = data_of(fixture)["conversation_id"], EXPECTED[fixture]["record"]
    said = [each for each in archived.said if each["conversation_id"] == conversation_id]

    assert sorted((each["event"], each["audio"]) for each in said) == EXPECTED[fixture]["announcements"]
    for each in said:
        json_key = f"{record['folder']}/{conversation_id}.json"
        mp3_key = record.get("mp3_key") if each["audio"] == "archived" else None
        assert each == {
            "version": 2, "event": each["event"], "conversation_id": conversation_id, "agent_id": AGENT,
            "external_number": record.get("external_number"), "order": archived.call(conversation_id)["t_order"],
            "source_key": json_key, "json_key": json_key, "mp3_key": mp3_key, "audio": each["audio"],
        }  # fmt: skip


@pytest.mark.parametrize("fixture", EXPECTED)
def test_each_call_is_remembered_and_entered_in_the_ledger(archived, fixture):
    conversation_id, expected = data_of(fixture)["conversation_id"], EXPECTED[fixture]["memories"]
    entries = {
        item: row
        for (call, item), row in archived.items().items()
        if call == conversation_id and item.startswith("memory#")
    }
    if expected is None:
        assert entries == {}
        return

    user, factual, semantic = expected
    memories = archived.memories(user)
    assert {entry["state"] for entry in entries.values()} == {"done"}
    for kind, number in (("factual", factual), ("semantic", semantic)):
        found = [memory for memory in memories if memory["metadata"]["type"] == kind]
        assert len(found) == number
        assert sorted(memory["id"] for memory in found) == sorted(entries[f"memory#{kind}"]["memory_ids"])
        assert {memory["metadata"]["conversation_id"] for memory in found} == {conversation_id}
        assert {memory["agent_id"] for memory in found} == {AGENT}


def test_dead_letter_queues_are_empty(archived):
    assert [archived.depth(queue) for queue in ("ArchiveDlqUrl", "MemoryDlqUrl")] == [0, 0]


def test_a_duplicate_of_any_webhook_changes_nothing(archived):
    before, staged = snapshot(archived), len(archived.object_keys("staging/"))

    for fixture in (*EXPECTED, "08"):
        assert archived.post(fixture_body(fixture)).status_code == 200
    archived.settle()

    after = snapshot(archived)
    assert staged <= len(archived.object_keys("staging/")) <= 2 * staged  # the hour may have changed meanwhile
    if len(archived.object_keys("staging/")) == staged:
        assert after == before
    assert (after[0], after[1], after[3]) == (before[0], before[1], before[3])


def pair(number: int) -> tuple[bytes, bytes, str]:
    """Another call like 02 and 08."""
    conversation_id = f"conv_pair_{number}"
    bodies = [json.loads(fixture_body(fixture)) for fixture in ("02", "08")]
    for body in bodies:
        body["data"]["conversation_id"] = conversation_id
    return json.dumps(bodies[0]).encode(), json.dumps(bodies[1]).encode(), conversation_id


def test_pairs_at_the_same_moment_become_whole_calls(emulator):
    pipeline = Pipeline(emulator, "pairs", {"BucketName": "agentic-memory-pairs", "MemoryConfig": "none"})
    pairs = [pair(number) for number in range(30)]
    bodies = [body for number, (transcript, audio, _) in enumerate(pairs)
              for body in ((transcript, audio) if number % 2 else (audio, transcript))]  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(pipeline.post, bodies))
    wait_until(lambda: pipeline.depth("ArchiveQueueUrl") == 0)

    assert {answer.status_code for answer in answers} == {200}
    mp3 = base64.b64decode(data_of("08")["full_audio"])
    for transcript, _, conversation_id in pairs:
        folder = f"12025550123/{conversation_id}"
        assert pipeline.json(f"{folder}.json") == json.loads(transcript)["data"]
        assert pipeline.body(f"{folder}.mp3") == mp3
        call = pipeline.call(conversation_id)
        assert (call["audio"], call["mp3_key"], "parked" in call) == ("archived", f"{folder}.mp3", False)
    assert len(pipeline.versions()) == 2 * len(pairs)
    assert pipeline.depth("ArchiveDlqUrl") == 0
    # Without a configuration of Mem0 the announcements wait; none is lost, and an alarm says what is missing.
    assert pipeline.depth("MemoryQueueUrl") >= len(pairs)
    prefix = {"AlarmNamePrefix": "pairs-MemoryNotConfigured"}
    (missing,) = pipeline._client("cloudwatch").describe_alarms(**prefix)["MetricAlarms"]
    assert "Give the stack Mem0ApiKey" in missing["AlarmDescription"]


@pytest.mark.parametrize(
    ("send", "status"),
    [
        pytest.param(lambda p: p.post(b"{}", secret="wsec_forged"), 401, id="forged"),
        pytest.param(lambda p: p.post(b"{}", timestamp=1772550280), 401, id="expired"),
        pytest.param(lambda p: p.post(b"{}", timestamp=4102444800), 401, id="future-dated"),
        pytest.param(lambda p: httpx.post(p.outputs["PostCallUrl"], content=b"{}"), 401, id="missing"),
        pytest.param(lambda p: p.post(b""), 400, id="empty"),
        pytest.param(lambda p: httpx.get(p.outputs["PostCallUrl"]), 404, id="another method"),
    ],
)
def test_what_is_no_webhook_is_refused_and_leaves_nothing(pipeline, send, status):
    before = pipeline.object_keys("staging/")

    assert send(pipeline).status_code == status

    assert pipeline.object_keys("staging/") == before


@pytest.mark.parametrize("body", [b"not json", b'"text"'])
def test_a_signed_body_that_cannot_be_read_is_kept_and_its_message_set_aside(pipeline, body):
    answer = pipeline.post(body)
    pipeline.settle()

    assert answer.status_code == 200
    (key,) = (key for key in pipeline.object_keys("staging/") if answer.json()["delivery_id"] in key)
    assert pipeline.body(key) == body
    assert [step for step, _ in pipeline.reasons()] == ["webhook"]
