"""The archiver through its handler: what each staged body becomes, and where each kind of trouble ends."""

import base64
import json
import tracemalloc
from datetime import timedelta
from decimal import Decimal

import pytest
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from botocore.exceptions import ClientError

import archiver.handler
from archiver.staged import open_staged
from shared.messages import ClaimCheck
from tests.archiver.conftest import NOW, stage, stage_recording, staged_key
from tests.conftest import Stack, fixture_body, sqs_event

FULL, FULL_ID = "12025550123", "conv_fixture00000000000000000full"
MP3 = base64.b64decode(json.loads(fixture_body("08"))["data"]["full_audio"])


def envelope(data: dict, event: str = "post_call_transcription", at: object = 1772550278) -> dict:
    return {"type": event, "event_timestamp": at, "data": data}


def transcript(conversation_id: str = "conv_1", at: object = 1772550278, **fields) -> dict:
    phone_call = {"external_number": "+12025550123", "direction": "inbound"}
    return envelope({"conversation_id": conversation_id, "metadata": {"phone_call": phone_call}} | fields, at=at)


def audio(conversation_id: str = "conv_1", content: bytes = b"ID3 sound", at: object = 1772550281) -> dict:
    full_audio = base64.b64encode(content).decode()
    return envelope({"conversation_id": conversation_id, "full_audio": full_audio}, "post_call_audio", at)


@pytest.mark.parametrize("order", [("02", "08"), ("08", "02")], ids=["transcript first", "audio first"])
def test_transcript_and_audio_become_one_call_in_either_order(aws, archive, order):
    for name in order:
        assert archive(stage(aws, fixture_body(name))) == []

    assert aws.object_keys() == {f"{FULL}/{FULL_ID}.json", f"{FULL}/{FULL_ID}.mp3"}
    assert aws.json(f"{FULL}/{FULL_ID}.json") == json.loads(fixture_body("02"))["data"]
    assert aws.body(f"{FULL}/{FULL_ID}.mp3") == MP3
    call = aws.call(FULL_ID)
    assert call["audio"] == "archived"
    assert call["mp3_key"] == f"{FULL}/{FULL_ID}.mp3"
    assert "parked" not in call
    assert call["staged_keys"] == aws.object_keys("staging/")
    assert [aws.tags(key) for key in call["staged_keys"]] == [{"archived": "true"}] * 2


def test_the_json_is_what_came_byte_for_byte(aws, archive):
    data = {
        "conversation_id": "conv_1", "unknown": {"a": [None, True, {}]}, "long": 12345678901234567890123,
        "precise": Decimal("0.12345678901234567890123"), "huge": Decimal("1E+400"), "emoji": "🙂 \u2028 źdźbło",
        "half": "\ud83d", "full_audio": None,
    }  # fmt: skip
    raw = json.dumps(envelope(data), default=lambda number: f"<{number}>").replace('"<', "").replace('>"', "").encode()

    assert archive(stage(aws, raw)) == []

    written = aws.body("no-phone/conv_1.json")
    assert json.loads(written, parse_float=Decimal) == data
    assert b'"data": ' + written + b"}" in raw


def test_final_objects_say_what_they_are(aws, archive):
    check = stage(aws, fixture_body("02"))
    archive(check, stage(aws, fixture_body("08")))

    delivery_id = json.loads(check)["delivery_id"]
    head = aws.head(f"{FULL}/{FULL_ID}.json")
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == {
        "external_number": "+12025550123", "conversation_id": FULL_ID, "agent_id": "agent_7001fixture0agent0alpha0001",
        "timestamp": "2026-03-03T15:04:05Z", "event": "post_call_transcription", "event_timestamp": "1772550278",
        "delivery_id": delivery_id, "order": f"1-1772550278000-{delivery_id}",
    }  # fmt: skip
    assert aws.head(f"{FULL}/{FULL_ID}.mp3")["ContentType"] == "audio/mpeg"
    assert aws.tags(f"{FULL}/{FULL_ID}.json") == aws.tags(f"{FULL}/{FULL_ID}.mp3") == {"tier": "archive"}


def test_announcements_name_the_call_and_never_a_number_in_their_attributes(aws, archive):
    archive(stage(aws, fixture_body("02")))
    archive(stage(aws, fixture_body("08")))

    messages = aws.take("Announcements")
    common = {
        "version": 2, "conversation_id": FULL_ID, "agent_id": "agent_7001fixture0agent0alpha0001",
        "order": aws.call(FULL_ID)["t_order"],
        "external_number": "+12025550123", "source_key": f"{FULL}/{FULL_ID}.json", "json_key": f"{FULL}/{FULL_ID}.json",
    }  # fmt: skip
    assert [json.loads(message["Body"]) for message in messages] == [
        common | {"event": "transcript_archived", "mp3_key": None, "audio": "pending"},
        common | {"event": "audio_archived", "mp3_key": f"{FULL}/{FULL_ID}.mp3", "audio": "archived"},
    ]
    attributes = [message["MessageAttributes"] for message in messages]
    agent = {"agent_id": "agent_7001fixture0agent0alpha0001"}
    assert [{name: value["StringValue"] for name, value in each.items()} for each in attributes] == [
        agent | {"event": "transcript_archived", "audio": "pending"},
        agent | {"event": "audio_archived", "audio": "archived"},
    ]


@pytest.mark.parametrize("fixture", ["01", "02", "05", "07", "08", "09", "11", "12"])
def test_a_duplicate_changes_no_object_no_version_and_no_record(aws, archive, fixture):
    check = stage(aws, fixture_body(fixture))
    archive(check)
    before = aws.object_keys(), aws.versions(), aws.items()

    assert archive(check, check) == []

    assert (aws.object_keys(), aws.versions(), aws.items()) == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_the_newest_transcript_wins_in_either_order(aws, archive, order):
    checks = [stage(aws, transcript(at=1772550278, status="old")), stage(aws, transcript(at=1772550279, status="new"))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.json(f"{FULL}/conv_1.json")["status"] == "new"
    assert aws.call("conv_1")["status"] == "new"
    assert aws.call("conv_1")["staged_keys"] == {staged_key(check) for check in checks}
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_the_newest_audio_wins_in_either_order(aws, archive, order):
    archive(stage(aws, transcript()))
    checks = [stage(aws, audio(content=b"old", at=1772550281)), stage(aws, audio(content=b"new", at=1772550282))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_audio_inside_an_older_transcript_is_kept(aws, archive, order):
    inline = base64.b64encode(b"ID3 sound").decode()
    checks = [stage(aws, transcript(at=1, full_audio=inline)), stage(aws, transcript(at=2, status="new"))]

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"
    assert aws.json(f"{FULL}/conv_1.json")["status"] == "new"
    assert aws.call("conv_1")["audio"] == "archived"
    assert "audio_archived" in {each["event"] for each in aws.announcements()}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["newer last", "newer first"])
def test_of_two_audios_that_wait_for_their_call_the_newer_is_archived(aws, archive, order):
    checks = [stage(aws, audio(content=b"old", at=1772550281)), stage(aws, audio(content=b"new", at=1772550282))]
    for index in order:
        assert archive(checks[index]) == []

    archive(stage(aws, transcript()))

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"
    assert aws.tags(staged_key(checks[1])) == {"archived": "true"}


def test_audio_inside_a_transcript_never_replaces_newer_audio(aws, archive):
    inline = base64.b64encode(b"older sound").decode()
    archive(stage(aws, transcript(at=1)))
    archive(stage(aws, audio(at=3)))
    before = aws.call("conv_1")["mp3_order"]

    archive(stage(aws, transcript(at=2, full_audio=inline)))

    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"
    assert aws.call("conv_1")["mp3_order"] == before


def test_a_duplicate_of_archived_audio_leaves_nothing_parked_or_waiting(aws, archive):
    check = stage(aws, audio())
    archive(stage(aws, transcript()), check)
    call, versions = aws.call("conv_1"), aws.versions()

    assert archive(check) == []

    assert aws.call("conv_1") == call
    assert aws.versions() == versions


def test_a_newer_object_that_comes_between_a_look_and_a_put_stays(aws, archive):
    archive(stage(aws, transcript(at=1)))
    key, newer = f"{FULL}/conv_1.json", {"order": "1-9999999999999-f"}

    def overtake(**_: object) -> None:
        if aws.body(key) != b"newer":
            aws.s3.put_object(Bucket=aws.bucket, Key=key, Body=b"newer", Metadata=newer)

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.HeadObject", overtake)

    assert archive(stage(aws, transcript(at=2))) == []

    assert aws.body(key) == b"newer"


def test_audio_that_is_overtaken_by_newer_audio_leaves_the_record_to_it(aws, archive):
    archive(stage(aws, transcript()))
    remaining = iter([stage(aws, audio(content=b"new", at=1772550282))])

    def overtake(**_: object) -> None:
        for check in remaining:
            archiver.handler.handle_record(SQSRecord(sqs_event(check)["Records"][0]))

    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", overtake)

    assert archive(stage(aws, audio(content=b"old", at=1772550281))) == []

    assert aws.body(f"{FULL}/conv_1.mp3") == b"new"
    assert aws.call("conv_1")["mp3_order"] == aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]


def test_a_newer_transcript_that_knows_of_audio_makes_it_pending(aws, archive):
    archive(stage(aws, transcript(at=1, has_audio=False)))
    archive(stage(aws, transcript(at=2, has_audio=True)))

    assert aws.call("conv_1")["audio"] == "pending"
    assert [each["audio"] for each in aws.announcements()] == ["none", "pending"]


def test_a_webhook_wins_over_what_was_fetched_from_the_api(aws, archive):
    archive(stage(aws, transcript(at=1772550279, status="webhook")))
    archive(stage(aws, transcript(at=1772559999, status="api"), origin="api"))

    assert aws.json(f"{FULL}/conv_1.json")["status"] == "webhook"


def test_a_forced_replay_repairs_what_was_written_wrongly(aws, archive):
    body = transcript(status="done")
    archive(stage(aws, body))
    order = aws.head(f"{FULL}/conv_1.json")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.json", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, body))
    assert aws.body(f"{FULL}/conv_1.json") == b"spoilt"

    archive(stage(aws, body, force=True))
    assert aws.json(f"{FULL}/conv_1.json") == body["data"]


def test_a_call_keeps_its_folder_and_learns_its_number(aws, archive):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=1)))
    archive(stage(aws, transcript(at=2)))
    archive(stage(aws, audio()))

    assert aws.object_keys() == {"no-phone/conv_1.json", "no-phone/conv_1.mp3"}
    assert aws.call("conv_1")["external_number"] == "+12025550123"
    assert aws.head("no-phone/conv_1.mp3")["Metadata"]["external_number"] == "+12025550123"


@pytest.mark.parametrize(
    "withheld",
    [None, "", "anonymous", "restricted", "sip:bob@example.com", "12345", "+266696687", "../../12025550123", 7],
)
def test_calls_with_a_withheld_number_or_none_lie_under_no_phone(aws, archive, withheld):
    phone_call = {"external_number": withheld, "direction": "inbound"}

    assert archive(stage(aws, envelope({"conversation_id": "conv_1", "metadata": {"phone_call": phone_call}}))) == []

    assert aws.object_keys() == {"no-phone/conv_1.json"}
    assert "external_number" not in aws.call("conv_1")
    assert "external_number" not in aws.head("no-phone/conv_1.json")["Metadata"]


@pytest.mark.parametrize(
    ("has_audio", "expected"), [({}, "pending"), ({"has_audio": True}, "pending"), ({"has_audio": False}, "none")]
)
def test_the_record_says_whether_audio_is_to_come(aws, archive, has_audio, expected):
    archive(stage(aws, transcript(**has_audio)))

    assert aws.call("conv_1")["audio"] == expected


def test_inline_audio_is_stored_and_leaves_the_json(aws, archive):
    archive(stage(aws, fixture_body("07")))

    folder, conversation_id = "12025550167", "conv_fixture00000000000000legacy7"
    sent = json.loads(fixture_body("07"))
    assert aws.body(f"{folder}/{conversation_id}.mp3") == base64.b64decode(sent.pop("full_audio"))
    assert aws.json(f"{folder}/{conversation_id}.json") == sent
    assert aws.call(conversation_id)["audio"] == "archived"
    assert [each["event"] for each in aws.announcements()] == ["audio_archived", "transcript_archived"]


@pytest.mark.parametrize("full_audio", ["no base64!", "QUJ", 7, {"a": 1}], ids=repr)
def test_invalid_inline_audio_never_costs_the_json(aws, archive, logs, full_audio):
    body = transcript(full_audio=full_audio)

    assert archive(stage(aws, body)) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert aws.json(f"{FULL}/conv_1.json") == body["data"]
    assert "full_audio is not base64" in logs.getvalue()


def test_other_events_lie_with_their_call_or_under_their_own_number(aws, archive):
    digest, failure = {"conversation_id": "conv_1", "mood": "calm"}, {"metadata": {"body": {"To": "+12025550178"}}}
    archive(stage(aws, transcript("conv_1")))
    archive(stage(aws, envelope(digest, "sentiment")))
    archive(stage(aws, envelope(failure | {"conversation_id": "conv_2"}, "call_initiation_failure")))
    archive(stage(aws, envelope({"conversation_id": "conv_3"}, "post_call_transcription_otel")))

    assert aws.object_keys() == {
        f"{FULL}/conv_1.json", f"{FULL}/conv_1.sentiment.json",
        "12025550178/conv_2.call_initiation_failure.json", "no-phone/conv_3.post_call_transcription_otel.json",
    }  # fmt: skip
    assert aws.json(f"{FULL}/conv_1.sentiment.json") == digest
    event_keys = [each.get("event_keys") for each in aws.items().values()]
    assert {f"{FULL}/conv_1.sentiment.json"} in event_keys
    assert {"12025550178/conv_2.call_initiation_failure.json"} in event_keys
    assert aws.items()["conv_2", "number#12025550178"]["caller"] == "12025550178"
    assert "folder" not in aws.call("conv_2")


def test_another_event_stays_where_it_was_first_kept(aws, archive):
    check = stage(aws, envelope({"conversation_id": "conv_1"}, "sentiment"))
    archive(check, stage(aws, transcript("conv_1")))

    assert archive(check) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json", "no-phone/conv_1.sentiment.json"}
    assert len(aws.versions()) == 2


@pytest.mark.parametrize("body", [{"type": "voice_removed", "voice": "v1"}, {"type": "voice_removed", "data": ["v1"]}])
def test_an_event_about_no_conversation_is_kept_raw(aws, archive, body):
    raw = json.dumps(body, indent=3).encode()
    check = stage(aws, raw)

    archive(check)

    key = f"other-events/voice_removed/{json.loads(check)['delivery_id']}.json"
    assert aws.body(key) == raw
    assert aws.tags(key) == {"tier": "archive"}


EVIL_IDS = ["../../etc", "a/b", "", ".", "..", "conv\n1", "conv\u00001", "x" * 10_000, "kön", 7, ["conv_1"]]


@pytest.mark.parametrize("evil", EVIL_IDS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("event", ["post_call_transcription", "post_call_audio", "call_initiation_failure", "future"])
def test_ids_that_are_no_ids_never_become_a_path(aws, archive, evil, event):
    check = stage(aws, envelope({"conversation_id": evil, "full_audio": "QUJD"}, event))

    assert archive(check) == []

    assert aws.object_keys() == set()
    assert aws.items() == {}
    ((step, error),) = aws.reasons()
    assert step == "webhook"
    assert error.startswith("The conversation_id is not an id")
    assert aws.tags(staged_key(check)) == {}


@pytest.mark.parametrize("evil", [*EVIL_IDS, None], ids=lambda value: repr(value)[:20])
def test_event_names_that_are_no_names_never_become_a_path(aws, archive, evil):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, evil)))

    assert aws.object_keys() == set()
    assert [step for step, _ in aws.reasons()] == ["webhook"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", "The body is not JSON."),
        (b"", "The body is not JSON."),
        (b"\xff\xfe", "The body is not JSON."),
        (b'{"type": "future", "data": {"conversation_id": "conv_1", "x": NaN}}', "The body is not JSON."),
        (b"[" * 100_000, "The body is not JSON."),
        (b'{"type": "future", "data": {"a": 1e}}', "The body is not JSON."),
        (b"[]", "The body is an empty array."),
        (b'"text"', "The body is JSON, but not an object."),
        (b"7", "The body is JSON, but not an object."),
        (b"null", "The body is JSON, but not an object."),
        (b"[" + b"7," * 1000 + b"7]", "The body is an array of more than 1,000 events."),
        (b"{}", "The event's type is not a name: letters, digits, _ and -, at most 128."),
        (b'{"type": "post_call_transcription"}', "The event's data is not an object."),
        (b'{"type": "post_call_audio", "data": []}', "The event's data is not an object."),
        (b'{"type": "post_call_transcription", "data": {"agent_id": "a"}}', "The event names no conversation."),
        (b'{"type": "post_call_audio", "data": {"full_audio": "QUJD"}}', "The event names no conversation."),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_cannot_be_read_goes_to_the_dlq_at_once_with_its_reason(aws, archive, body, error):
    check = stage(aws, body)

    assert archive(check) == []

    (message,) = aws.take("ArchiveDlqUrl")
    assert message["Body"] == check
    assert {name: each["StringValue"] for name, each in message["MessageAttributes"].items()} == {
        "step": "webhook", "error": error,
    }  # fmt: skip
    assert aws.body(staged_key(check)) == body
    assert aws.tags(staged_key(check)) == {}


@pytest.mark.parametrize("full_audio", [None, "", "no base64!", "QUJ", 7], ids=repr)
def test_audio_that_is_no_audio_goes_to_the_dlq(aws, archive, full_audio):
    check = stage(aws, envelope({"conversation_id": "conv_1", "full_audio": full_audio}, "post_call_audio"))

    assert archive(check) == []

    assert aws.reasons() == [("audio", "full_audio is missing, empty or not base64.")]
    assert aws.items() == {}


@pytest.mark.parametrize(
    "message",
    [
        "", "not json", "{}", "[]", '{"version": 2}',
        '{"version":1,"delivery_id":"a","staged_key":"12025550123/conv_1.json","received_at":"","source":"webhook","force":false}',
        '{"version":1,"delivery_id":"a","staged_key":"staging/../12025550123/x.json","received_at":"","source":"webhook"}',
        ClaimCheck("conv_1", "12025550123/conv_1.json", "", "webhook").to_json(),
        ClaimCheck("../../12025550123/x", f"staging/2026/11/22/10/{'a' * 64}.json", "", "webhook").to_json(),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_what_is_no_claim_check_goes_to_the_dlq(aws, archive, message):
    assert archive(message) == []

    assert [step for step, _ in aws.reasons()] == ["claim check"]


def test_a_staged_body_that_is_gone_goes_to_the_dlq(aws, archive):
    check = stage(aws, transcript())
    aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check))

    assert archive(check) == []

    assert aws.reasons() == [("staged body", "There is no staged body under the claim check's key.")]


def test_one_poison_record_does_not_hold_back_its_batch(aws, archive):
    assert archive("not json", stage(aws, transcript("conv_1")), stage(aws, b"7")) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert len(aws.reasons()) == 2


def refuse(operation: str, on: str) -> None:
    """Let S3 refuse `operation` for keys that end in `on`, as a broken policy would."""

    def refused(params: dict, model: object, **_: object) -> None:
        if str(params["url_path"]).endswith(on):
            raise ClientError(
                {"Error": {"Code": "AccessDenied", "Message": f"not yours: {params['url_path']}"}}, operation
            )

    archiver.handler.aws().bucket._s3.meta.events.register(f"before-call.s3.{operation}", refused, unique_id="refuse")


def heal(operation: str) -> None:
    archiver.handler.aws().bucket._s3.meta.events.unregister(f"before-call.s3.{operation}", unique_id="refuse")


@pytest.mark.parametrize("on", [".json", ".mp3"])
def test_a_storage_fault_fails_its_record_and_does_not_hold_the_memories_back(aws, archive, logs, on):
    checks = stage(aws, fixture_body("07")), stage(aws, envelope({"conversation_id": "conv_2"}, "future"))
    refuse("PutObject", on="legacy7" + on)

    assert archive(*checks) == ["message-1"]

    (announcement,) = (each for each in aws.announcements() if each["event"] == "transcript_archived")
    assert announcement["source_key"] == staged_key(checks[0])
    assert announcement["json_key"] is None
    assert "Error saving to S3: PutObject: AccessDenied" in logs.getvalue()
    assert "12025550167" not in logs.getvalue()
    assert aws.tags(staged_key(checks[0])) == {}

    heal("PutObject")
    assert archive(checks[0]) == []
    assert aws.announcements()[-1]["json_key"] == "12025550167/conv_fixture00000000000000legacy7.json"


@pytest.mark.parametrize("conflicts", [1, 3])
def test_a_put_that_meets_another_at_the_same_moment_looks_again(aws, archive, conflicts):
    remaining = iter(range(conflicts))

    def conflict(**_: object) -> None:
        if next(remaining, None) is not None:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject")

    check = stage(aws, transcript())
    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", conflict)

    assert archive(check) == []

    assert aws.object_keys() == {f"{FULL}/conv_1.json"}


def test_a_fault_in_parked_audio_does_not_hold_its_transcript_back(aws, archive):
    parked, check = stage(aws, audio()), stage(aws, transcript())
    archive(parked)
    refuse("PutObject", on=".mp3")

    assert archive(check) == ["message-1"]
    assert [each["event"] for each in aws.announcements()] == ["transcript_archived"]

    heal("PutObject")
    assert archive(check) == []
    assert aws.call("conv_1")["audio"] == "archived"


def test_parked_audio_whose_body_is_gone_is_pending_again_and_costs_the_transcript_nothing(aws, archive):
    parked = stage(aws, audio())
    archive(parked)
    aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(parked))

    assert archive(stage(aws, transcript())) == []

    assert aws.reasons() == []
    assert aws.object_keys() == {f"{FULL}/conv_1.json"}
    assert [(each["event"], each["audio"]) for each in aws.announcements()] == [("transcript_archived", "pending")]
    assert not {"parked", "waiting"} & set(aws.call("conv_1"))


def test_a_message_that_the_dlq_refuses_is_not_lost(aws, archive, capsys):
    aws.sqs.delete_queue(QueueUrl=aws.outputs["ArchiveDlqUrl"])

    assert archive("not json", stage(aws, transcript())) == ["message-1"]
    assert '"RecordFailed"' in capsys.readouterr().out


def test_each_failure_is_counted_for_the_alarms(aws, archive, capsys):
    check = stage(aws, transcript())
    refuse("PutObject", on="conv_1.json")

    archive(check, "not json")

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [each["RecordFailed"] for each in metrics if "RecordFailed" in each] == [[1.0]]
    reasons = [each.get("reason") for each in metrics if "RecordPoisoned" in each]
    assert reasons == ["claim check", None]


def test_the_log_of_a_record_does_not_name_the_one_before(aws, archive, logs):
    archive(stage(aws, transcript()), "not json")

    (line,) = [each for each in map(json.loads, logs.getvalue().splitlines()) if each.get("step") == "claim check"]
    assert "delivery_id" not in line


def test_a_staged_body_that_is_deleted_before_it_is_tagged_is_no_error(aws, archive):
    check = stage(aws, transcript())
    version = aws.head(staged_key(check))["VersionId"]

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check), VersionId=version)

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.PutObject", delete)

    assert archive(check) == []


def test_a_forced_replay_repairs_audio_too(aws, archive):
    body = transcript(full_audio=base64.b64encode(b"inline").decode())
    archive(stage(aws, body))
    order = aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.mp3", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, body, force=True))
    assert aws.body(f"{FULL}/conv_1.mp3") == b"inline"

    archive(stage(aws, audio()))
    order = aws.head(f"{FULL}/conv_1.mp3")["Metadata"]["order"]
    aws.s3.put_object(Bucket=aws.bucket, Key=f"{FULL}/conv_1.mp3", Body=b"spoilt", Metadata={"order": order})

    archive(stage(aws, audio(), force=True))
    assert aws.body(f"{FULL}/conv_1.mp3") == b"ID3 sound"


def test_a_staged_body_behind_a_delete_marker_needs_no_tag(aws, archive):
    check = stage(aws, transcript())

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=staged_key(check))

    archiver.handler.aws().bucket._s3.meta.events.register("after-call.s3.PutObject", delete)

    assert archive(check) == []


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "by itself"])
def test_a_call_that_is_erased_while_its_audio_is_put_learns_nothing_more(aws, archive, inline):
    archive(stage(aws, transcript(at=1)))

    def erase(**_: object) -> None:
        aws.dynamodb.update_item(
            TableName="conversations",
            Key={"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}},
            UpdateExpression="SET erased_at = :now",
            ExpressionAttributeValues={":now": {"S": "2026-11-22T10:00:00Z"}},
        )

    archiver.handler.aws().bucket._s3.meta.events.register("before-call.s3.PutObject", erase)

    archive(stage(aws, transcript(at=2, full_audio=base64.b64encode(b"ID3 sound").decode()) if inline else audio()))

    assert "mp3_key" not in aws.call("conv_1")


def test_an_object_that_is_deleted_between_a_look_and_a_put_is_written(aws, archive):
    archive(stage(aws, transcript(at=1)))
    key = f"{FULL}/conv_1.json"

    def delete(**_: object) -> None:
        aws.s3.delete_object(Bucket=aws.bucket, Key=key)

    archiver.handler.aws().bucket._s3.meta.events.register_first("after-call.s3.HeadObject", delete)

    assert archive(stage(aws, transcript(at=2, status="new"))) == []

    assert aws.json(key)["status"] == "new"


def test_the_record_says_what_the_call_was(aws, archive):
    archive(stage(aws, fixture_body("02")))

    call = aws.call(FULL_ID)
    told = {name: call[name] for name in ("started_at", "duration_secs", "status", "call_successful", "summary")}
    assert told == {
        "started_at": "2026-03-03T15:04:05Z", "duration_secs": 21, "status": "done", "call_successful": "success",
        "summary": "The caller moved a mooring to Thursday.",
    }  # fmt: skip


def test_a_number_is_never_unlearnt(aws, archive):
    archive(stage(aws, transcript(at=1)))
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=2)))

    assert aws.call("conv_1")["external_number"] == "+12025550123"


def test_nothing_of_an_erased_call_comes_back(aws, archive):
    aws.dynamodb.put_item(
        TableName="conversations",
        Item={name: {"S": text} for name, text in
              {"conversation_id": "conv_1", "item": "call", "erased_at": "2026-11-22T10:00:00Z"}.items()},
    )  # fmt: skip
    before = aws.items()

    failed = archive(
        *(stage(aws, body) for body in (transcript(), audio(), envelope({"conversation_id": "conv_1"}, "x")))
    )

    assert failed == []
    assert aws.object_keys() == aws.object_keys("staging/") == set()
    assert {key: item for key, item in aws.items().items() if key[0] != "#discarded"} == before
    assert aws.announcements() == []


def erase(aws: Stack, conversation_id: str = "conv_1") -> None:
    archiver.handler.aws().records.erase(conversation_id, "2026-11-22T10:00:00Z")


@pytest.mark.parametrize("late", [transcript(), audio(), envelope({"conversation_id": "conv_1"}, "x")])
def test_a_late_body_of_an_erased_call_leaves_no_version_and_its_second_claim_check_nothing(aws, archive, late):
    erase(aws)
    check = stage(aws, late)
    aws.s3.put_object(Bucket=aws.bucket, Key=staged_key(check), Body=json.dumps(late).encode())

    assert archive(check) == []
    assert archive(check) == []

    assert "Versions" not in aws.s3.list_object_versions(Bucket=aws.bucket)
    assert aws.reasons() == []


def test_a_crash_before_a_late_body_is_deleted_is_healed_by_the_retry(aws, archive):
    erase(aws)
    check = stage(aws, transcript())
    events = archiver.handler.aws().bucket._s3.meta.events

    def crash(**_: object) -> None:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": ""}}, "DeleteObject")

    events.register("before-call.s3.DeleteObject", crash)
    assert archive(check) == ["message-1"]
    events.unregister("before-call.s3.DeleteObject", crash)

    assert archive(check) == []
    assert aws.object_keys("staging/") == set()


def test_a_recording_that_was_fetched_for_an_erased_call_is_deleted(aws, archive):
    erase(aws)

    assert archive(stage_recording(aws, "conv_1", b"ID3 sound")) == []

    assert aws.object_keys("staging/") == set()


def test_a_late_body_that_may_not_be_deleted_yet_is_left_to_expire(aws, archive):
    erase(aws)
    check = stage(aws, transcript())
    refuse("DeleteObject", on=".json")

    assert archive(check) == []

    assert aws.tags(staged_key(check)) == {"archived": "true"}


def test_the_log_has_the_lines_that_operators_know_with_the_number_masked(aws, archive, logs):
    archive(stage(aws, fixture_body("02")), stage(aws, fixture_body("08")))

    messages = [json.loads(line)["message"] for line in logs.getvalue().splitlines()]
    assert messages[:6] == [
        "No full_audio field found",
        f"Saving JSON to S3: s3://{aws.bucket}/120…123/{FULL_ID}.json",
        f"Successfully saved JSON for conversation {FULL_ID}",
        "Call archived",
        f"Saving MP3 to S3: s3://{aws.bucket}/120…123/{FULL_ID}.mp3 ({len(MP3)} bytes)",
        f"Successfully saved MP3 for conversation {FULL_ID}",
    ]
    for private in ("2025550123", "mooring", 'full_audio":'):
        assert private not in logs.getvalue()


@pytest.mark.parametrize("summary", ["é" * 5000, "🙂" * 5000, "half \ud83d"], ids=["two bytes", "four bytes", "half"])
def test_the_record_keeps_4_kb_of_the_summary(aws, archive, summary):
    archive(stage(aws, transcript(analysis={"transcript_summary": summary})))

    kept = aws.call("conv_1")["summary"]
    assert len(kept.encode()) <= 4096
    assert summary.startswith(kept.rstrip())


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": "none"}, {"metadata": {"start_time_unix_secs": "soon", "call_duration_secs": -1}},
        {"analysis": []},
        {"metadata": {"start_time_unix_secs": 1e300}}, {"transcript": "text"}, {"transcript": [None, 7, {"role": 1}]},
        {"has_audio": "perhaps"}, {"agent_id": "../x"}, {"analysis": {"evaluation_criteria_results": {"a": 1}}},
    ],
    ids=str,
)  # fmt: skip
def test_fields_that_are_not_what_they_used_to_be_never_cost_the_call(aws, archive, odd):
    body = envelope({"conversation_id": "conv_1"} | odd)

    assert archive(stage(aws, body)) == []

    assert aws.json("no-phone/conv_1.json") == body["data"]


@pytest.mark.parametrize(
    ("at", "milliseconds"),
    [
        (1772550278, 1772550278000), (1772550278.5, 1772550278500), ("1772550278", 1772550278000),
        (9_999_999_999, 9_999_999_999_000), (99_999_999_999, 0),
        ("2026-03-03T15:04:38Z", 1772550278000), (None, 0), ("soon", 0), (-5, 0), (1e300, 0), ([], 0),
    ],
    ids=str,
)  # fmt: skip
def test_the_order_is_made_of_whatever_time_there_is(aws, archive, at, milliseconds):
    archive(stage(aws, envelope({"conversation_id": "conv_1"}, at=at)))

    assert aws.head("no-phone/conv_1.json")["Metadata"]["order"].startswith(f"1-{milliseconds:013d}-")


def test_without_an_event_time_the_order_is_made_of_the_calls_end(aws, archive):
    metadata = {"start_time_unix_secs": 1772550245, "call_duration_secs": 21}
    archive(stage(aws, {"conversation_id": "conv_2", "metadata": {"start_time_unix_secs": 99_999_999_999}}))
    archive(stage(aws, {"conversation_id": "conv_1", "metadata": metadata}))

    assert aws.head("no-phone/conv_1.json")["Metadata"]["order"].startswith("1-1772550266000-")
    assert aws.head("no-phone/conv_2.json")["Metadata"]["order"].startswith("1-0000000000000-")


def test_a_body_of_6_mb_is_held_about_three_times_at_most(aws, archive):
    size = 6_000_000
    archive(stage(aws, transcript()))
    check = stage(aws, audio(content=bytes(size * 3 // 4)), now=NOW + timedelta(hours=1))
    key = archiver.handler.read_claim_check(check).staged_key

    with open_staged(archiver.handler.aws().bucket, key) as staged:
        tracemalloc.start()
        event = staged.event()
        decoded = staged.audio(event)
        peak = tracemalloc.get_traced_memory()[1] + len(staged.body)
        tracemalloc.stop()

    assert decoded.seek(0, 2) == size * 3 // 4
    assert peak < 3.2 * size


@pytest.mark.parametrize("recording_first", [False, True])
def test_a_fetched_recording_meets_its_call_in_either_order(aws, archive, recording_first):
    checks = [stage(aws, transcript()), stage_recording(aws, "conv_1", b"ID3 fetched")]

    for check in reversed(checks) if recording_first else checks:
        assert archive(check) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 fetched"
    head = aws.head("12025550123/conv_1.mp3")
    assert head["ContentType"] == "audio/mpeg"
    assert head["Metadata"]["order"].startswith(f"0-{len(b'ID3 fetched'):013d}-")
    assert aws.call("conv_1")["audio"] == "archived"
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


@pytest.mark.parametrize("recording_first", [False, True])
def test_a_webhooks_audio_wins_over_a_fetched_recording(aws, archive, recording_first):
    archive(stage(aws, transcript()))
    checks = [stage(aws, audio(content=b"ID3 sent")), stage_recording(aws, "conv_1", b"ID3 fetched")]

    for check in reversed(checks) if recording_first else checks:
        assert archive(check) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 sent"
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


def test_a_recording_that_is_fetched_twice_is_archived_once(aws, archive):
    archive(stage(aws, transcript()))
    for hour in range(2):
        assert archive(stage_recording(aws, "conv_1", b"ID3 fetched", NOW + timedelta(hours=hour))) == []

    assert len(aws.versions("12025550123/conv_1.mp3")) == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_fetched_recordings_the_longer_one_is_kept(aws, archive, order):
    recordings = [b"ID3 broken", b"ID3 the whole of it"]
    checks = [stage_recording(aws, "conv_1", each, NOW + timedelta(hours=n)) for n, each in enumerate(recordings)]
    archive(stage(aws, transcript()))

    for index in order:
        assert archive(checks[index]) == []

    assert aws.body("12025550123/conv_1.mp3") == b"ID3 the whole of it"
    assert aws.call("conv_1")["mp3_order"] == aws.head("12025550123/conv_1.mp3")["Metadata"]["order"]
    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2


def test_a_staged_recording_that_names_no_call_is_set_aside(aws, archive):
    assert archive(stage_recording(aws, None, b"ID3 fetched")) == []

    assert aws.reasons() == [("webhook", "The event names no conversation.")]


def test_audio_that_was_parked_twice_leaves_no_staged_body_untagged(aws, archive):
    checks = [stage(aws, audio(), now=NOW + timedelta(hours=hours)) for hours in range(2)]
    archive(*checks)

    archive(stage(aws, transcript()))

    assert [aws.tags(staged_key(check)) for check in checks] == [{"archived": "true"}] * 2
