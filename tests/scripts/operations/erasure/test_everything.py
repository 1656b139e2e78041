"""`ops erase` deletes all data of a caller, and nothing of others."""

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from shared.tombstones import Tombstones
from tests.archiver.conftest import stage, staged_key
from tests.scripts.operations.conftest import (
    CALLER,
    archive_checks,
)
from tests.scripts.operations.erasure.conftest import (
    OTHER,
    archive_rest,
    at,
    audio,
    call,
    everything,
    failure,
    remembered,
    spoken,
    traces,
)

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_no_data_about_a_caller_is_left_anywhere(stack, keep, sweep, erase, context):
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


def test_repeated_deliveries_about_an_erased_caller_are_dropped(stack, keep, erase, context):
    bodies = [call("conv_1"), audio("conv_1"), failure("conv_2")]
    keep(*bodies)
    late = [stage(stack, body) for body in bodies]
    erase(CALLER)

    archive_checks(context, *late)  # whose staged bodies are gone
    archive_checks(context, *(stage(stack, body) for body in bodies))  # as ElevenLabs sends them again

    assert traces(stack) == []
    assert stack.reasons() == []


def test_one_call_of_a_caller_is_deleted_and_the_others_stay(stack, keep, sweep, erase):
    keep(call("conv_1"), audio("conv_1"), failure("conv_1"), [call("conv_1"), call("conv_2")])
    staged = stage(stack, audio("conv_1") | {"event_timestamp": 9})
    sweep()

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["conversation"]) == (0, "conv_1")
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_2.json"}
    assert stack.call("conv_2")["external_number"] == CALLER
    assert stack.items()["conv_1", "call"].keys() == {"conversation_id", "item", "erased_at"}
    assert staged_key(staged) not in stack.object_keys("staging/")


def test_other_callers_in_the_same_array_keep_their_parked_audio(stack, keep, erase):
    (array,) = keep([audio("conv_1"), audio("conv_2", OTHER)])
    keep(call("conv_1"))
    erase(CALLER)

    keep(call("conv_2", OTHER, has_audio=True))

    assert stack.body(f"{OTHER[1:]}/conv_2.mp3") == spoken(OTHER)
    assert stack.reasons() == []
    assert array not in stack.object_keys("staging/")
    assert traces(stack) == []


def archiver_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archiver that asked for tombstones before there were any."""
    monkeypatch.setattr(Tombstones, "erased_at", lambda *_: None)


def test_a_call_that_arrives_during_the_wait_is_erased_after_a_second_wait(
    stack, keep, erase, hosted, aws_calls, monkeypatch
):
    keep(call("conv_1"))
    archiver_at_work(monkeypatch)
    later = [
        ("UpdateItem", 1, lambda: keep(call("conv_2"))),
        ("Query", 5, lambda: remembered(hosted, CALLER, "conv_2")),
    ]
    for operation, number, act in later:  # the second by a memory writer that was at work
        at(aws_calls, operation, number, act)

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], hosted.memories(CALLER)) == (0, ["conv_1", "conv_2"], [])


@pytest.mark.parametrize("key", [f"{CALLER[1:]}/", f"{CALLER[1:]}/notes of mine.txt"], ids=["a folder", "a file"])
def test_objects_that_somebody_else_put_into_the_callers_folder_are_deleted_too(stack, keep, erase, key):
    keep(call("conv_1"))
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"")

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], stack.object_keys()) == (0, ["conv_1"], set())


def test_a_foreign_message_stays_in_its_queue(stack, keep, erase):
    keep(call("conv_1"))
    stack.sqs.send_message(QueueUrl=stack.outputs["ArchiveDlqUrl"], MessageBody='{"staged_key": []}')

    code, _ = erase(CALLER)

    assert (code, len(stack.take("ArchiveDlqUrl"))) == (0, 1)


def test_an_unreadable_body_whose_message_was_dropped_is_deleted(stack, keep, erase, run_ops_json, tmp_path):
    keep(f"{CALLER} is no JSON".encode())
    run_ops_json("dlq", "drop", "archive", "--save", f"{tmp_path}/dropped", "--yes")

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])


def test_a_body_that_is_deleted_during_the_search_is_no_error(stack, keep, erase, aws_calls):
    keep(call("conv_1"))
    late = staged_key(stage(stack, call("conv_1") | {"event_timestamp": 9}))
    version = stack.head(late)["VersionId"]

    def delete_late_body() -> None:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].delete_object(stack.bucket, late, version_id=version)

    aws_calls.after("ListObjectVersions", delete_late_body)

    assert erase(CALLER)[0] == 0
