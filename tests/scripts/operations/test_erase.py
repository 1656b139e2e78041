"""`ops erase`: all that is kept of somebody goes, nothing of others does, and what could not go is said."""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

import archiver.handler
import reconciler.handler
from memory_writer.memory import Memory
from memory_writer.platform import PlatformBackend
from scripts.embedded.elevenlabs import ElevenLabs
from shared.record import MOST_STAGED
from shared.times import utc
from shared.tombstones import Tombstones
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack, close_clients, fixture_body, forget
from tests.mem0_stand_in import HostedMem0
from tests.schedules import Worker, watch
from tests.scripts.operations.conftest import (
    CALLER,
    INTERRUPTED,
    Wire,
    archive_checks,
    deploy_outputs,
    modes,
    note,
    press_ctrl_c,
    table,
)
from tests.scripts.operations.conftest import transcript as call_without_words

OTHER = "+12025550199"
WORDS = defaultdict(lambda: "Kingfisher", {OTHER: "Halcyon"})
Erase = Callable[..., tuple[int, dict[str, Any]]]
pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def no_function_at_work(stack: Stack) -> None:
    """One that began before would be waited for a second longer than its timeout."""
    stack.outputs |= {"ArchiveTimeoutSeconds": "-1", "MemoryTimeoutSeconds": "-1", "MemoryUnknownSeconds": "3600"}
    deploy_outputs(stack.outputs)


@pytest.fixture
def erase(say: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Erase:
    """Exit code and certificate of an erasure."""
    numbers = count()

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / f"erasure{next(numbers)}.json"
        code, _, err = say("erase", *words, "--yes", "--certificate", str(file))
        assert file.exists(), err
        return code, json.loads(file.read_text())

    return run


@pytest.fixture
def failed(say: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Exit code and last line of stderr of an erasure that ends with neither data nor a certificate."""

    def run(*words: str) -> tuple[int, str]:
        code, out, err = say("erase", *words, "--yes", "--certificate", f"{tmp_path}/failed.json")
        assert out == ""
        assert not list(tmp_path.glob("failed.*"))
        return code, err.splitlines()[-1]

    return run


@pytest.fixture
def keep(stack: Stack, context: Any) -> Callable[..., list[str]]:
    """Have bodies staged and handed to the archiver; returns their staged keys."""

    def run(*bodies: Any) -> list[str]:
        checks = [stage(stack, body) for body in bodies]
        archive_checks(context, *checks)
        archive_rest(stack, context)  # the elements of arrays
        return [staged_key(check) for check in checks]

    return run


@pytest.fixture
def sweep(stack: Stack) -> Callable[[], None]:
    """The hourly pass over all hours, which notes what nobody finished; its claim checks are still to come."""

    def run() -> None:
        table(stack).delete_item(Key={"conversation_id": "#reconciler", "item": "swept"})
        reconciler.handler.reconcile(datetime.now(timezone.utc), lambda: True)

    return run


@pytest.fixture
def lock(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, datetime], None]:
    """Have a bucket with Object Lock in the stack; keep all versions of an object until then."""
    bucket = "locked"
    stack.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    monkeypatch.setenv("BUCKET_NAME", bucket)
    forget()
    stack.outputs["BucketName"] = bucket
    deploy_outputs(stack.outputs)

    def run(key: str, until: datetime, mode: str = "COMPLIANCE") -> None:
        for version in stack.s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]:
            retention = {"Mode": mode, "RetainUntilDate": until}
            named = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
            stack.s3.put_object_retention(**named, Retention=retention)

    return run


def unlock(stack: Stack) -> None:
    """Let the retention be over."""
    stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[stack.bucket].keys
    for version in (version for key in list(stored) for version in stored.getlist(key)):
        version.lock_mode = version.lock_until = None


@pytest.fixture
def hosted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostedMem0]:
    """Mem0's platform, which the memory writer and the tool are pointed to."""
    with HostedMem0() as stand_in:
        point_to(stand_in, stack, monkeypatch)
        yield stand_in
        close_clients()


def point_to(mem0: HostedMem0, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = boto3.client("secretsmanager").create_secret(Name="mem0-key", SecretString=mem0.key)["ARN"]
    settings = {"MEMORY_BACKEND": "platform", "MEM0_HOST": mem0.url, "MEMORY_SECRET_ARN": secret}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    forget()
    stack.outputs |= {"MemoryBackend": "platform", "Mem0Host": mem0.url, "MemorySecretArn": secret}
    deploy_outputs(stack.outputs)


@pytest.fixture
def elevenlabs(stack: Stack) -> Iterator[ElevenLabs]:
    secret = boto3.client("secretsmanager").create_secret(Name="xi", SecretString="xi-test")["ARN"]
    with ElevenLabs("xi-test") as stand_in:
        stack.outputs |= {"ElevenLabsApiHost": stand_in.url, "ElevenLabsSecretArn": secret}
        deploy_outputs(stack.outputs)
        yield stand_in
        close_clients()


def call(conversation_id: str, number: str | None = CALLER, **fields: Any) -> dict[str, Any]:
    words = [{"role": "user", "message": WORDS[number or CALLER]}]
    event = call_without_words(conversation_id, str(number), transcript=words, **fields)
    return event if number else event | {"data": event["data"] | {"metadata": {}}}


def audio(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    full_audio = base64.b64encode(spoken(number)).decode()
    return {"type": "post_call_audio", "data": {"conversation_id": conversation_id, "full_audio": full_audio}}


def spoken(number: str) -> bytes:
    return b"ID3 " + WORDS[number].encode()


def failure(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    """An event about a call that never was."""
    event = json.loads(fixture_body("09"))
    event["data"]["conversation_id"] = conversation_id
    event["data"]["metadata"]["body"] |= {"To": number, "Called": number}
    return dict(event)


def notice(number: str = CALLER, written: str = "") -> dict[str, Any]:
    """An event about no call, with a number where none is looked for."""
    return {"type": "callback_wanted", "data": {"text": f"Call {written or number} back about {WORDS[number]}."}}


def notice_of_a_party() -> dict[str, Any]:
    """An event about no call, with the number where the archiver looks for it."""
    return {"type": "voice_removed", "data": {"external_number": CALLER, "name": WORDS[CALLER]}}


def traced(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    """A call as OpenTelemetry tells it, and no other event."""
    named = {"key": "elevenlabs.telephony.external_number", "value": {"stringValue": f"tel:{number}"}}
    span = {"attributes": [named, {"key": "transcript", "value": {"stringValue": WORDS[number]}}]}
    traces = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    return {"type": "post_call_transcription_otel", "data": {"conversation_id": conversation_id, "otlp_traces": traces}}


def sip(conversation_id: str, number: str = CALLER) -> dict[str, Any]:
    event = call(conversation_id, number)
    event["data"]["metadata"] = {"phone_call": {"external_number": f"sip:{number}@pbx.example:5060"}}
    return event


def began(event: dict[str, Any], moment: datetime) -> dict[str, Any]:
    """The same call, but held then."""
    metadata = event["data"]["metadata"] | {"start_time_unix_secs": int(moment.timestamp())}
    return event | {"data": event["data"] | {"metadata": metadata}}


def kept(stack: Stack) -> Iterator[str]:
    """All that the stack keeps, as text: found without any of the project's code."""
    for page in stack.s3.get_paginator("list_object_versions").paginate(Bucket=stack.bucket):
        for each in page.get("Versions", []):
            got = stack.s3.get_object(Bucket=stack.bucket, Key=each["Key"], VersionId=each["VersionId"])
            body = got["Body"].read()
            audio = re.findall(rb'"full_audio": ?"([^"]*)"', body)
            yield f"{each['Key']} {got['Metadata']} {body!r} {b''.join(map(base64.b64decode, audio))!r}"
        yield from (each["Key"] for each in page.get("DeleteMarkers", []))
    yield from (f"{key} {item}" for key, item in stack.items().items())
    for name in ("ArchiveQueueUrl", "ArchiveDlqUrl", "MemoryDlqUrl", "MemoryQueueUrl", "AudioQueueUrl", "AudioDlqUrl"):
        asked = {"QueueUrl": stack.outputs[name], "MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
        yield from (message["Body"] for message in stack.sqs.receive_message(**asked).get("Messages", []))


def traces(stack: Stack, number: str = CALLER) -> list[str]:
    return [text for text in kept(stack) if number[1:] in re.sub(r"[ ().-]", "", text) or WORDS[number] in text]


def everything(stack: Stack, keep: Callable[..., list[str]], sweep: Callable[[], None], name: str) -> None:
    """Whatever the stack can come to keep of the caller, and the other in the same bodies."""
    keep(call(f"{name}1", has_audio=True), audio(f"{name}1"), call(f"{name}1", status="done") | {"event_timestamp": 9})
    stack.s3.delete_object(Bucket=stack.bucket, Key=f"{CALLER[1:]}/{name}1.json")
    keep(call(f"{name}2", None), failure(f"{name}2", "anonymous"), call(f"{name}2") | {"event_timestamp": 9})
    keep(failure(f"{name}3"), notice(), [failure(f"{name}4"), call(f"{name}5", OTHER)], f"{CALLER} is no JSON".encode())
    keep(audio(f"{name}6"), sip(f"{name}8"), traced(f"{name}9"), notice(written="+1 (202) 555-0123"))
    stage(stack, call(f"{name}6"))
    stage_recording(stack, f"{name}7", spoken(CALLER))
    stage(stack, call(f"{name}7"))
    sweep()
    message = json.dumps({"conversation_id": f"{name}1", "external_number": CALLER, "source_key": "-"})
    stack.sqs.send_message(QueueUrl=stack.outputs["MemoryDlqUrl"], MessageBody=message)


def archive_rest(stack: Stack, context: Any) -> None:
    """Have archived what waits in ArchiveQueue."""
    if checks := [message["Body"] for message in stack.take("ArchiveQueueUrl")]:
        archive_checks(context, *checks)


def at(wire: Wire, operation: str, number: int, act: Callable[[], Any]) -> None:
    """Do something once, when AWS has done so many of an operation from now on."""
    wire.seen.clear()
    left = [act]
    wire.after(operation, lambda: left.pop()() if left and wire.seen[operation] >= number else None)


# ---------------------------------------------------------------- what goes, and what stays


def test_nothing_of_a_caller_is_left_wherever_it_was(stack, keep, sweep, erase, context):
    keep(call("conv_other", OTHER))
    everything(stack, keep, sweep, "conv_")
    others = stack.versions(OTHER[1:])
    assert len(traces(stack)) > 20

    code, certificate = erase(CALLER)
    archive_rest(stack, context)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert certificate["conversations"] == [f"conv_{number}" for number in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert stack.versions(OTHER[1:]) == others
    assert stack.object_keys(OTHER[1:]) == {f"{OTHER[1:]}/conv_{name}.json" for name in ("5", "other")}
    assert certificate["deleted"]["messages"] == 2  # of the memory, and what is no JSON
    assert any(certificate["found_afterwards"].values()) is False


def test_what_comes_once_more_about_an_erased_caller_is_dropped(stack, keep, erase, context):
    bodies = [call("conv_1"), audio("conv_1"), failure("conv_2")]
    keep(*bodies)
    late = [stage(stack, body) for body in bodies]
    erase(CALLER)

    archive_checks(context, *late)  # whose staged bodies are gone
    archive_checks(context, *(stage(stack, body) for body in bodies))  # as ElevenLabs sends them again

    assert traces(stack) == []
    assert stack.reasons() == []


def test_one_call_of_a_caller_goes_and_the_others_stay(stack, keep, sweep, erase):
    keep(call("conv_1"), audio("conv_1"), failure("conv_1"), [call("conv_1"), call("conv_2")])
    staged = stage(stack, audio("conv_1") | {"event_timestamp": 9})
    sweep()

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["conversation"]) == (0, "conv_1")
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_2.json"}
    assert stack.call("conv_2")["external_number"] == CALLER
    assert stack.items()["conv_1", "call"].keys() == {"conversation_id", "item", "erased_at"}
    assert staged_key(staged) not in stack.object_keys("staging/")


def test_others_who_came_in_the_same_array_keep_their_parked_audio(stack, keep, erase):
    (array,) = keep([audio("conv_1"), audio("conv_2", OTHER)])
    keep(call("conv_1"))
    erase(CALLER)

    keep(call("conv_2", OTHER, has_audio=True))

    assert stack.body(f"{OTHER[1:]}/conv_2.mp3") == spoken(OTHER)
    assert stack.reasons() == []
    assert array not in stack.object_keys("staging/")
    assert traces(stack) == []


def archiver_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asked for tombstones before there were any."""
    monkeypatch.setattr(Tombstones, "erased_at", lambda *_: None)


def test_a_call_that_comes_while_functions_are_waited_for_is_waited_for_too(
    stack, keep, erase, hosted, wire, monkeypatch
):
    keep(call("conv_1"))
    archiver_at_work(monkeypatch)
    later = [
        ("UpdateItem", 1, lambda: keep(call("conv_2"))),
        ("Query", 5, lambda: remembered(hosted, CALLER, "conv_2")),
    ]
    for operation, number, act in later:  # the second by a memory writer that was at work
        at(wire, operation, number, act)

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], hosted.memories(CALLER)) == (0, ["conv_1", "conv_2"], [])


@pytest.mark.parametrize("key", [f"{CALLER[1:]}/", f"{CALLER[1:]}/notes of mine.txt"], ids=["a folder", "a file"])
def test_what_somebody_else_put_into_the_callers_folder_goes_too(stack, keep, erase, key):
    keep(call("conv_1"))
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"")

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], stack.object_keys()) == (0, ["conv_1"], set())


def test_a_message_that_is_none_of_ours_stays_where_it_is(stack, keep, erase):
    keep(call("conv_1"))
    stack.sqs.send_message(QueueUrl=stack.outputs["ArchiveDlqUrl"], MessageBody='{"staged_key": []}')

    code, _ = erase(CALLER)

    assert (code, len(stack.take("ArchiveDlqUrl"))) == (0, 1)


def test_a_body_that_goes_while_it_is_looked_at_is_no_error(stack, keep, erase, wire):
    keep(call("conv_1"))
    late = staged_key(stage(stack, call("conv_1") | {"event_timestamp": 9}))
    version = stack.head(late)["VersionId"]

    def go() -> None:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].delete_object(stack.bucket, late, version_id=version)

    wire.after("ListObjectVersions", go)

    assert erase(CALLER)[0] == 0


# ---------------------------------------------------------------- whose it is, however the number is written


FORMS = ["+12025550123", "12025550123", "0012025550123", "+1 (202) 555-0123", "+1.202.555.0123", "sip:+12025550123@a.b",
         "tel:+1-202-555-0123", "+1\u00a0202\u2011555\u20110123"]  # fmt: skip


@pytest.mark.parametrize("written", FORMS)
def test_an_event_without_a_conversation_goes_however_the_number_is_written(stack, keep, erase, written):
    keep(notice(written=written), notice(OTHER), notice(OTHER, written="912025550123"))

    code, certificate = erase(CALLER)

    assert (code, certificate["deleted"]["object_versions"], certificate["deleted"]["staged_bodies"]) == (0, 1, 1)
    assert not [text for text in kept(stack) if WORDS[CALLER] in text]
    assert len(stack.object_keys("other-events/")) == 2


@pytest.mark.parametrize("written", FORMS)
def test_a_body_that_nobody_can_read_goes_if_it_names_the_number(stack, keep, sweep, erase, written):
    keep(f"{written}: Kingfisher".encode(), b"no JSON either")
    sweep()

    code, _ = erase(CALLER)

    assert (code, traces(stack), len(stack.object_keys("staging/"))) == (0, [], 1)


def test_what_is_poison_since_a_moment_ago_is_found_by_its_message(stack, keep, erase):
    keep(f"{CALLER} is no JSON".encode(), call("conv_1"), audio("conv_1") | {"data": {"conversation_id": "conv_1"}})

    code, certificate = erase(CALLER)

    assert (code, certificate["deleted"]["messages"], traces(stack)) == (0, 2, [])
    assert stack.object_keys("staging/") == set()


def test_a_call_goes_that_only_its_other_events_tell_of(stack, keep, erase):
    (staged,) = keep(traced("conv_1"))
    stack.s3.delete_object(Bucket=stack.bucket, Key=staged)  # it has expired

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert certificate["deleted"]["object_versions"] == 1


@pytest.mark.parametrize("event", [traced, sip, failure], ids=["OpenTelemetry", "SIP", "a call that failed"])
def test_a_caller_goes_however_the_number_came(stack, keep, erase, event):
    keep(event("conv_1"))

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


def test_a_call_with_as_many_staged_bodies_as_a_record_holds_goes_too(stack, keep, erase):
    keep(call("conv_1"))
    gone = {f"staging/2026/11/21/10/{number:064x}.json" for number in range(MOST_STAGED - 1)}
    note(stack, "conv_1", staged_keys=gone | stack.call("conv_1")["staged_keys"])

    code, _ = erase(CALLER)

    assert (code, traces(stack)) == (0, [])


def test_another_callers_call_stays_though_an_event_about_it_named_the_number(stack, keep, erase):
    keep(failure("conv_1"), call("conv_1", OTHER))
    others = stack.versions(OTHER[1:])

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], certificate["shared_conversations"]) == (0, [], ["conv_1"])
    assert (traces(stack), stack.versions()) == ([], others)
    record = stack.call("conv_1")
    assert (record["external_number"], record["numbers"], len(record["staged_keys"])) == (OTHER, {OTHER[1:]}, 1)


def test_an_older_version_that_names_the_number_goes_and_the_newer_stays(stack, keep, erase):
    third = "+12025550198"
    for at_second, number in enumerate((OTHER, CALLER, third), start=1):
        keep(call("conv_1", number) | {"event_timestamp": at_second})

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], certificate["shared_conversations"]) == (0, True, ["conv_1"])
    assert not [text for text in kept(stack) if CALLER[1:] in text]
    assert stack.json(f"{OTHER[1:]}/conv_1.json")["metadata"]["phone_call"]["external_number"] == third
    assert len(stack.versions(OTHER[1:])) == 2


def test_an_older_number_is_found_though_its_transcript_was_never_the_newest(stack, keep, erase):
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


def test_the_callers_words_go_from_an_array_that_others_share_and_that_was_split(stack, keep, erase):
    shared = [call("conv_1", OTHER), {"type": "post_call_audio", "data": {"conversation_id": "c", "full_audio": "!"}}]
    keep(b"\xef\xbb\xbf" + json.dumps([*shared, notice()]).encode())

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert stack.object_keys() == {f"{OTHER[1:]}/conv_1.json"}


def test_an_array_that_could_not_be_deleted_when_it_was_split_goes_with_its_elements(stack, lock, keep, erase, context):
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
def test_an_array_that_may_hold_others_is_for_a_person_to_look_at(stack, keep, sweep, erase, array):
    stage(stack, array)
    sweep()
    before = {key: stack.body(key) for key in stack.object_keys("staging/")}

    code, certificate = erase(CALLER)

    (looked_at,) = (each for each in certificate["remains"] if "a person" in each["until"])
    assert (code, certificate["complete"], looked_at["what"]) == (1, False, *before)
    assert {key: stack.body(key) for key in stack.object_keys("staging/")} == before


def test_an_array_that_was_never_split_and_is_the_callers_alone_goes(stack, sweep, erase):
    stage(stack, [call("conv_1"), failure("conv_2"), notice()])
    sweep()

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1", "conv_2"], [])


# ---------------------------------------------------------------- what comes late, and what is held later


def test_a_call_of_before_that_comes_after_the_certificate_is_dropped_and_a_later_one_kept(stack, keep, erase):
    now = datetime.now(timezone.utc)
    keep(began(call("conv_1"), now - timedelta(days=2)))
    erase(CALLER)

    late = [began(call("conv_2"), now - timedelta(days=1)), audio("conv_2"), began(sip("conv_3"), now - timedelta(1))]
    keep(
        audio("conv_4"), *late, [notice_of_a_party(), failure("conv_5")], began(call("conv_4"), now - timedelta(days=1))
    )
    assert traces(stack) == []

    keep(began(call("conv_6"), now + timedelta(minutes=1)))
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_6.json"}


def test_a_number_of_which_nothing_is_kept_can_be_closed_all_the_same(stack, keep, ask, erase):
    _, found = ask("erase", CALLER)
    code, certificate = erase(CALLER)
    keep(call("conv_1"))

    assert found["next"].startswith("nothing is kept of this caller: is the number as the calls had it")
    assert (code, certificate["complete"], traces(stack)) == (0, True, [])


def test_an_erasure_that_is_run_again_covers_the_calls_until_then(stack, keep, erase):
    now = datetime.now(timezone.utc)
    archiver.handler.archiver()._tombstones.record_erasure(CALLER[1:], now - timedelta(hours=2))  # the first run's
    keep(began(call("conv_1"), now - timedelta(hours=1)))
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_1.json"}

    code, certificate = erase(CALLER)
    keep(began(call("conv_2"), now - timedelta(minutes=30)))

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


def test_the_erasure_of_a_number_that_calls_all_the_time_ends_and_keeps_the_later_calls(
    stack, keep, erase, hosted, wire
):
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep(call("conv_1"), call("conv_2") | {"event_timestamp": 9})
    remembered(hosted, CALLER, "conv_1")
    numbers = count(1)

    def one_more() -> None:
        conversation_id = f"later_{next(numbers)}"
        with wire.paused():
            keep(began(call(conversation_id), later))
            remembered(hosted, CALLER, conversation_id)

    wire.after("Query", one_more)

    code, certificate = erase(CALLER)

    wire.calm()
    assert (code, certificate["complete"], certificate["conversations"]) == (0, True, ["conv_1", "conv_2"])
    kept_calls = {f"later_{number}" for number in range(1, next(numbers))}
    assert len(kept_calls) > 3
    assert stack.object_keys() == {f"{CALLER[1:]}/{name}.json" for name in kept_calls}
    assert {each["metadata"]["conversation_id"] for each in hosted.memories(CALLER)} == kept_calls
    assert not any(stack.call(name).get("erased_at") for name in kept_calls)


def test_a_later_call_of_which_only_an_event_came_yet_stays(stack, keep, erase):
    keep(call("conv_1"))
    failure = {"conversation_id": "later_1", "metadata": {"body": {"To": CALLER}}}
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep({"type": "call_initiation_failure", "event_timestamp": later.timestamp(), "data": failure})

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], certificate["conversations"]) == (0, True, ["conv_1"])
    assert stack.object_keys() == {f"{CALLER[1:]}/later_1.call_initiation_failure.json"}
    assert "erased_at" not in stack.call("later_1")


def test_a_message_about_a_later_call_stays(stack, keep, erase):
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep(call("conv_1"), began(call("conv_2"), later))
    for name in ("conv_1", "conv_2"):
        body = json.dumps({"conversation_id": name, "external_number": CALLER})
        stack.sqs.send_message(QueueUrl=stack.outputs["MemoryDlqUrl"], MessageBody=body)

    erase(CALLER)

    assert [json.loads(each["Body"])["conversation_id"] for each in stack.take("MemoryDlqUrl")] == ["conv_2"]


def test_an_event_that_an_archiver_has_read_is_not_written_after_the_erasure(stack, keep, erase, wire, context):
    keep(call("conv_1"))
    check = stage(stack, notice_of_a_party())
    archiver_client = archiver.handler.aws().bucket._s3
    watch(archiver_client)
    worker = Worker(lambda: archive_checks(context, check))
    started = at(wire, "Query", 3, lambda: (worker.start(), worker.step(), worker.step()))

    code, _ = erase(CALLER)
    while worker.alive:
        worker.step()

    assert (code, started, worker.error, traces(stack)) == (0, None, None, [])


# ---------------------------------------------------------------- memories


def remembered(mem0: HostedMem0, user: str, conversation_id: str) -> None:
    """As if the memory writer had sent it, and no more."""
    metadata: dict[str, str | int | None] = {"conversation_id": conversation_id, "type": "factual"}
    memory = Memory(user, "factual", [{"role": "user", "content": "-"}], metadata, infer=False)
    PlatformBackend(mem0.url, mem0.key, 5).add(memory, again=False)


def test_the_memories_of_a_callers_other_calls_stay(keep, remember, hosted, erase):
    keep(call("conv_1"), call("conv_2"))
    remember("Announcements")
    assert len(hosted.memories(CALLER)) == 4

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["deleted"]["memories"]) == (0, 2)
    assert {each["metadata"]["conversation_id"] for each in hosted.memories(CALLER)} == {"conv_2"}


def test_a_number_with_other_calls_stays_a_user_of_mem0(keep, remember, hosted, erase):
    keep(call("conv_1"))
    remember("Announcements")
    keep(call("conv_2"))  # its memories are on their way

    erase("--conversation", "conv_1")

    assert hosted.memories(CALLER) == []
    assert not [target for method, target, _ in hosted.requests if "/entities/" in target]


def test_memories_go_also_of_a_client_and_of_a_number_that_changed(keep, remember, hosted, erase):
    keep(call("conv_1", None, user_id="anna"), call("conv_2", OTHER))
    remember("Announcements")
    keep(call("conv_1") | {"event_timestamp": 9}, call("conv_2") | {"event_timestamp": 9})
    assert (len(hosted.memories("user:anna")), len(hosted.memories(OTHER))) == (2, 2)

    code, _ = erase(CALLER)

    assert (code, hosted.memories("user:anna"), hosted.memories(OTHER)) == (0, [], [])


def test_a_memory_that_mem0_may_show_later_is_named_and_found_by_a_second_run(stack, keep, hosted, erase):
    now = datetime.now(timezone.utc)
    keep(call("conv_1", None, user_id="anna"))
    note(stack, "conv_1", "memory#factual", state="sending", started=f"{now:%Y-%m-%dT%H:%M:%S.%fZ}")

    code, first = erase("--conversation", "conv_1")
    remembered(hosted, "user:anna", "conv_1")
    note(stack, "conv_1", "memory#factual", started=f"{now - timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%fZ}")
    again, second = erase("--conversation", "conv_1")

    (doubt,) = (each for each in first["remains"] if each["what"] == "conv_1")
    assert (code, first["complete"], first["deleted"]["calls"]) == (1, False, 0)
    assert doubt["until"] == f"{utc(now + timedelta(hours=1))}; run this again then"
    assert (again, second["complete"], hosted.memories("user:anna")) == (0, True, [])


class Forgetless(HostedMem0):
    """Says that it deletes, and does not."""

    def _delete(self, *_: Any) -> Any:
        return {"message": "Memory deleted successfully!"}

    _delete_user = _delete


def test_memories_that_mem0_does_not_delete_are_no_erasure(stack, keep, remember, failed, monkeypatch):
    monkeypatch.setattr("scripts.operations.erasure.memories.MEM0_SECONDS", 0)
    with Forgetless() as mem0:
        point_to(mem0, stack, monkeypatch)
        keep(call("conv_1"))
        remember("Announcements")

        answer = failed("--conversation", "conv_1")
        close_clients()

    assert answer == (1, "Mem0 still has memories that it was told to delete: run the same command again.")
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_1.json"}  # by which they are found again


def test_a_stack_without_mem0_says_that_it_cannot_look_there(keep, erase, ask):
    keep(call("conv_1"))

    _, found = ask("erase", CALLER)
    code, certificate = erase(CALLER)

    assert found["in_mem0"] == "the stack has no Mem0"
    assert (code, certificate["complete"]) == (0, True)
    assert "memories in a Mem0 of earlier times" in {each["what"] for each in certificate["remains"]}


# ---------------------------------------------------------------- interrupted


WRITES = ("PutItem", "UpdateItem", "DeleteItem", "DeleteMessage", "DeleteObject")


def cut_off(wire: Wire, number: int) -> None:
    """After so many writes AWS takes no more; of the last of them the answer is lost."""
    wire.calm()
    written = count(1)

    def lose_answer() -> None:
        if next(written) >= number:
            for operation in WRITES:
                wire.refuse(operation, "InternalError")
            raise ClientError({"Error": {"Code": "InternalError"}}, "A write")

    for operation in WRITES:
        wire.after(operation, lose_answer)


def of_all_kinds(
    stack: Stack, keep: Callable[..., list[str]], sweep: Callable[[], None], name: str, number: str
) -> None:
    """A call that became another's, an event, poison, and audio whose transcript was never handed on."""
    keep(call(f"{name}2", OTHER) | {"event_timestamp": 9}, call(f"{name}2", number), failure(f"{name}2", number))
    keep(notice(number), f"{number} is no JSON".encode(), audio(f"{name}1", number))
    stage(stack, call(f"{name}1", number))
    sweep()


@pytest.mark.parametrize("part", range(4))
def test_an_erasure_that_is_cut_off_anywhere_is_finished_by_a_second_run(
    stack, keep, sweep, erase, say, wire, context, tmp_path, part
):
    for number in range(1 + part, 100, 4):
        caller = f"+120255501{number:02}"
        of_all_kinds(stack, keep, sweep, f"conv_{number}_", caller)
        cut_off(wire, number)
        code, _, _ = say("erase", caller, "--yes", "--certificate", f"{tmp_path}/{number}.json")
        wire.calm()
        if code == 0:
            break

        code, certificate = erase(caller)

        archive_rest(stack, context)
        assert (code, certificate["complete"], traces(stack, caller)) == (0, True, []), number
        assert stack.call(f"conv_{number}_2")["external_number"] == OTHER

    assert number > 25


def test_audio_is_found_again_when_the_transcript_that_named_its_caller_is_gone(
    stack, keep, sweep, erase, failed, wire
):
    keep(audio("conv_1"))
    named = staged_key(stage(stack, call("conv_1")))
    sweep()
    wire.refuse("DeleteObject", "InternalError")
    failed(CALLER)
    wire.calm()
    for version in stack.s3.list_object_versions(Bucket=stack.bucket, Prefix=named).get("Versions", []):
        stack.s3.delete_object(Bucket=stack.bucket, Key=named, VersionId=version["VersionId"])

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


@pytest.mark.parametrize(
    ("operation", "number"),
    [("UpdateItem", 1), ("DeleteMessage", 1), ("DeleteObject", 2), ("PutItem", 1)],
    ids=["tombstones", "messages", "objects", "records"],
)
def test_ctrl_c_leaves_no_certificate_and_the_next_run_finishes(stack, keep, erase, failed, wire, operation, number):
    keep(call("conv_1"), call("conv_2"), f"{CALLER} is no JSON".encode())
    at(wire, operation, number, press_ctrl_c)
    assert failed(CALLER) == (130, INTERRUPTED)
    wire.calm()

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])


# ---------------------------------------------------------------- what may not be deleted yet


def test_what_is_locked_is_named_and_hidden_and_goes_when_it_is_free(stack, lock, keep, sweep, erase):
    until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
    keep(call("conv_1"), call("conv_2"))
    recording = staged_key(stage_recording(stack, "conv_1", spoken(CALLER)))
    sweep()
    key = f"{CALLER[1:]}/conv_1.json"
    lock(key, until)
    lock(recording, until)

    results = [erase(CALLER), erase(CALLER)]
    stored = [each["Key"] for each in stack.s3.list_object_versions(Bucket=stack.bucket)["Versions"]]
    seen = stack.object_keys() | stack.object_keys("staging/")
    unlock(stack)
    code, certificate = erase(CALLER)

    for refused, told in results:
        assert (refused, told["complete"], told["deleted"]["calls"]) == (1, False, 0)
        named = {each["what"].split()[0]: each for each in told["remains"]}
        assert named["120…123/conv_1.json"]["why"] == named[recording]["why"] == "Object Lock"
        assert named["120…123/conv_1.json"]["until"] == utc(until)
        assert not any(key in each for each in told["deleted_versions"])
    assert results[0][1]["deleted"]["object_versions"] == 1
    assert (seen, sorted(stored)) == (set(), sorted([key, recording]))
    assert (code, certificate["complete"], traces(stack)) == (0, True, [])
    assert "Versions" not in stack.s3.list_object_versions(Bucket=stack.bucket)


def test_a_legal_hold_is_named_for_what_it_is(stack, lock, keep, erase):
    keep(call("conv_1"))
    held = {"Bucket": stack.bucket, "Key": f"{CALLER[1:]}/conv_1.json"}
    stack.s3.put_object_legal_hold(**held, LegalHold={"Status": "ON"})

    code, certificate = erase(CALLER)

    (kept_back,) = (each for each in certificate["remains"] if each["what"].startswith("120…123/conv_1.json"))
    assert (code, kept_back["why"], kept_back["until"]) == (1, "Object Lock", "its legal hold is taken off")


def test_what_a_policy_keeps_is_named_without_a_date(stack, keep, erase, wire):
    keep(call("conv_1"))

    def forbid() -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    at(wire, "DeleteObject", 1, forbid)

    code, certificate = erase(CALLER)

    (kept_back,) = (each for each in certificate["remains"] if "AWS refuses" in each["why"])
    assert (code, kept_back["until"]) == (1, "run this again then")


def test_an_object_that_cannot_be_read_at_once_is_named_before_anything_is_deleted(stack, keep, failed, wire):
    keep(call("conv_1"), notice(OTHER))
    wire.refuse("GetObject", "InvalidObjectState")

    code, sentence = failed(CALLER)

    assert (code, sentence.endswith("Restore it, and run the same command again.")) == (1, True)
    assert stack.object_keys(CALLER[1:]) == {f"{CALLER[1:]}/conv_1.json"}


# ---------------------------------------------------------------- ElevenLabs


def test_elevenlabs_copy_goes_once_its_key_is_right(stack, keep, elevenlabs, erase):
    keep(call("conv_1"))
    for conversation_id in ("conv_1", "conv_2"):
        elevenlabs.add({"conversation_id": conversation_id})
    elevenlabs.key = "another"
    code, refused = erase(CALLER, "--elevenlabs")
    assert (code, refused["complete"], refused["deleted"]["elevenlabs"]) == (1, False, 0)
    (left,) = (each for each in refused["remains"] if "ElevenLabs" in each["what"])
    assert (left["what"], left["why"]) == ("ElevenLabs' own copy of conv_1", "ElevenLabs: the key is refused (401)")
    assert stack.object_keys() == set()
    elevenlabs.key = "xi-test"

    code, certificate = erase(*left["until"].removeprefix("ops erase ").removesuffix(" --yes").split())

    assert (code, certificate["complete"], certificate["deleted"]["elevenlabs"]) == (0, True, 1)
    assert set(elevenlabs.conversations) == {"conv_2"}
    assert "ElevenLabs" not in str(certificate["remains"])


def test_a_call_that_elevenlabs_does_not_know_is_not_certified_as_deleted_there(keep, elevenlabs, erase):
    keep(call("conv_1"))

    code, certificate = erase(CALLER, "--elevenlabs")

    assert (code, certificate["deleted"]["elevenlabs"]) == (0, 0)
    (unknown,) = (each for each in certificate["remains"] if "ElevenLabs" in each["why"])
    assert unknown["what"] == "conv_1"


def test_elevenlabs_copy_of_a_call_that_is_erased_already_can_still_go(stack, keep, elevenlabs, erase):
    keep(call("conv_1"))
    elevenlabs.add({"conversation_id": "conv_1"})
    _, first = erase(CALLER)

    code, _ = erase("--conversation", "conv_1", "--elevenlabs")

    assert any(each["what"] == "ElevenLabs' own copy of the calls" for each in first["remains"])
    assert (code, elevenlabs.conversations) == (0, {})


def test_a_stack_without_a_key_of_elevenlabs_says_so(failed):
    sentence = "The stack has no key of ElevenLabs' API: give it ElevenLabsApiKey, or delete their copy there by hand."
    assert failed(CALLER, "--elevenlabs") == (2, sentence)


# ---------------------------------------------------------------- preview, certificate, bad input


def test_a_preview_changes_nothing(stack, keep, sweep, ask, say, wire):
    everything(stack, keep, sweep, "conv_")
    before = sorted(kept(stack))
    wire.seen.clear()

    code, found = ask("erase", CALLER)
    _, out, _ = say("erase", CALLER)
    asked = set(wire.seen)

    assert (code, found["calls"], found["at_elevenlabs"]) == (0, 7, "stays, without --elevenlabs")
    assert found["next"].startswith("the same command with --yes")
    assert "object versions" in out
    assert sorted(kept(stack)) == before
    assert not [name for name in asked if name.startswith(("Put", "Delete", "Update", "Send", "Receive"))]


def test_the_certificate_holds_neither_number_nor_words(stack, keep, say, tmp_path):
    keep(call("conv_1"), audio("conv_1"), notice())
    file = tmp_path / "erasure.json"

    code, out, err = say("erase", CALLER, "--yes", "--certificate", str(file))

    certificate, text = file.read_text(), file.with_suffix(".txt").read_text()
    assert (code, out.strip(), str(file) in err) == (0, text.strip(), True)
    assert "Certificate of erasure: +120…123, stack calls" in text
    assert ": complete" in text
    assert json.loads(certificate)["caller"] == "+120…123"
    for told in (certificate, text, out, err):
        assert CALLER[1:] not in told
        assert WORDS[CALLER] not in told


def test_a_certificate_is_named_by_the_time_where_no_name_is_given(stack, keep, say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep(call("conv_1"))

    code, _, _ = say("erase", CALLER, "--yes")

    assert code == 0
    assert sorted(each.suffix for each in tmp_path.glob("erasure-20*Z.*")) == [".json", ".txt"]


def test_the_empty_certificate_of_a_run_that_was_killed_is_no_hindrance(stack, keep, say, tmp_path):
    keep(call("conv_1"))
    for suffix in (".json", ".txt"):
        (tmp_path / f"request{suffix}").touch()

    code, _, _ = say("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/request.json")

    assert (code, stack.object_keys()) == (0, set())
    assert json.loads((tmp_path / "request.json").read_text())["complete"]


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "left by a run that was killed"])
def test_only_its_owner_may_read_a_certificate_whatever_the_umask(stack, keep, say, tmp_path, careless, is_there):
    keep(call("conv_1"))
    file = tmp_path / "request.json"
    if is_there:
        file.touch(mode=0o666)

    say("erase", CALLER, "--yes", "--certificate", str(file))

    assert modes(file) | modes(file.with_suffix(".txt")) == {"request.json": "600", "request.txt": "600"}


def test_a_certificate_is_not_written_through_a_link(stack, keep, failed, tmp_path):
    keep(call("conv_1"))
    (tmp_path / "failed.txt").symlink_to(tmp_path / "elsewhere")

    code, said = failed(CALLER)

    assert code == 2
    assert said.startswith(f"The certificate cannot be written to {tmp_path}/failed.json: ")
    assert not (tmp_path / "elsewhere").exists()
    assert f"{CALLER[1:]}/conv_1.json" in stack.object_keys()


def test_the_certificate_names_the_copies_on_operators_machines(stack, keep, erase):
    keep(call("conv_1"))

    _, certificate = erase(CALLER)

    (copies,) = (each for each in certificate["remains"] if "machines" in each["what"])
    assert copies == {
        "what": "files on operators' machines: exports, dropped messages, and other copies",
        "why": "ops export and ops dlq drop save them where they run, and no erasure reaches them",
        "until": "somebody deletes them by hand",
    }


BAD = {
    "nobody": ([], "Whom? Give a caller's number, or one call with --conversation."),
    "two things": ([CALLER, "--conversation", "conv_1"], "Whom? Give a caller's number, or one call"),
    "no number": (["anonymous"], "'anonymous' is no phone number: write it as +12025550123."),
    "no id": (["--conversation", "../x"], "'../x' is no conversation id"),
    "an existing certificate": ([CALLER, "--certificate", "mine.json"], "a certificate is never overwritten."),
    "an existing text": ([CALLER, "--certificate", "other.json"], "a certificate is never overwritten."),
    "no folder": ([CALLER, "--certificate", "no/where.json"], "written to no/where.json: No such file or directory."),
    "a text": ([CALLER, "--certificate", "mine.txt"], "mine.txt is no name for the certificate: it must end in .json"),
    "a place": ([CALLER, "--certificate", "."], "it must end in .json"),
}


@pytest.mark.parametrize(("words", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_as_it_was_given_deletes_nothing(keep, stack, say, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text("mine")
    Path("other.txt").write_text("mine")
    keep(call("conv_1"))
    before = sorted(kept(stack))

    code, out, err = say("erase", *words, "--yes")

    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert sorted(kept(stack)) == before
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"mine.json": "mine", "other.txt": "mine"}


def test_the_help_says_what_it_does_and_how_to_go_on(say):
    code, out, _ = say("erase", "--help")

    assert code == 0
    for told in ("GDPR", "--yes", "--elevenlabs", "Interrupted, run the same command again", "Example:"):
        assert told in " ".join(out.split())


def test_a_certificate_shows_what_others_wrote_as_text(stack, say, keep, tmp_path):
    keep(call("conv_1"))
    deploy_outputs(stack.outputs | {"ReplicationBucketArn": "copy\u202e[red]\x9b2J"})
    file = tmp_path / "erasure.json"

    code, out, err = say("erase", CALLER, "--yes", "--certificate", str(file))

    assert code == 0, err
    for text in (out, file.with_suffix(".txt").read_text()):
        assert "  copies in copy\\u202e[red]\\x9b2J\n    S3 does not replicate" in text
        assert text.replace("\n", "").isprintable()
