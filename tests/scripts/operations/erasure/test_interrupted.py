"""An interrupted erasure is finished by the next run."""

from collections.abc import Callable
from itertools import count
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError

from scripts.operations.erasure.journal import Journal
from scripts.operations.erasure.reading import Subject
from shared.times import utc
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import (
    CALLER,
    INTERRUPTED,
    AwsCalls,
    press_ctrl_c,
)
from tests.scripts.operations.erasure.conftest import OTHER, archive_rest, at, audio, call, failure, notice, traces

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


WRITES = ("PutItem", "UpdateItem", "DeleteItem", "DeleteMessage", "DeleteObject")


def cut_off(aws_calls: AwsCalls, number: int) -> None:
    """Let AWS refuse all writes after this number of them, and lose the answer to the last one."""
    aws_calls.reset()
    written = count(1)

    def lose_answer() -> None:
        if next(written) >= number:
            for operation in WRITES:
                aws_calls.refuse(operation, "InternalError")
            raise ClientError({"Error": {"Code": "InternalError"}}, "A write")

    for operation in WRITES:
        aws_calls.after(operation, lose_answer)


def of_all_kinds(
    stack: Stack, keep: Callable[..., list[str]], sweep: Callable[[], None], name: str, number: str
) -> None:
    """A call that later had another caller, an event, a poison body, and audio with an unprocessed transcript."""
    keep(call(f"{name}2", OTHER) | {"event_timestamp": 9}, call(f"{name}2", number), failure(f"{name}2", number))
    keep(notice(number), f"{number} is no JSON".encode(), audio(f"{name}1", number))
    stage(stack, call(f"{name}1", number))
    sweep()


@pytest.mark.parametrize("part", range(2))  # the simulator's schedules cut erasures off anywhere
def test_an_erasure_that_fails_after_a_write_is_finished_by_a_second_run(
    stack, keep, sweep, erase, run_ops, aws_calls, context, tmp_path, part
):
    for number in range(1 + 2 * part, 100, 4):
        caller = f"+120255501{number:02}"
        of_all_kinds(stack, keep, sweep, f"conv_{number}_", caller)
        cut_off(aws_calls, number)
        code, _, _ = run_ops("erase", caller, "--yes", "--certificate", f"{tmp_path}/{number}.json")
        aws_calls.reset()
        if code == 0:
            break

        code, certificate = erase(caller)

        archive_rest(stack, context)
        assert (code, certificate["complete"], traces(stack, caller)) == (0, True, []), number
        assert stack.call(f"conv_{number}_2")["external_number"] == OTHER

    assert number > 25


def test_audio_is_found_again_after_the_transcript_with_its_caller_is_deleted(
    stack, keep, sweep, erase, failed, aws_calls
):
    keep(audio("conv_1"))
    named = staged_key(stage(stack, call("conv_1")))
    sweep()
    aws_calls.refuse("DeleteObject", "InternalError")
    failed(CALLER)
    aws_calls.reset()
    for version in stack.s3.list_object_versions(Bucket=stack.bucket, Prefix=named).get("Versions", []):
        stack.s3.delete_object(Bucket=stack.bucket, Key=named, VersionId=version["VersionId"])

    code, certificate = erase(CALLER)

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


@pytest.mark.parametrize(
    ("operation", "number"),
    [("UpdateItem", 2), ("DeleteMessage", 1), ("DeleteObject", 2), ("PutItem", 2)],
    ids=["tombstones", "messages", "objects", "records"],
)
def test_ctrl_c_leaves_no_certificate_and_the_next_run_finishes(
    stack, keep, erase, failed, aws_calls, operation, number
):
    keep(call("conv_1"), call("conv_2"), f"{CALLER} is no JSON".encode())
    at(aws_calls, operation, number, press_ctrl_c)
    assert failed(CALLER) == (130, INTERRUPTED)
    aws_calls.reset()

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], traces(stack)) == (0, True, [])


@pytest.mark.parametrize(
    ("words", "about", "command"),
    [((CALLER,), "+120…123", "erase NUMBER"), (("--conversation", "conv_1"), "conv_1", "erase --conversation conv_1")],
    ids=["caller", "call"],
)
def test_status_names_an_interrupted_erasure_until_it_is_finished(
    stack, keep, erase, failed, run_ops_json, aws_calls, words, about, command
):
    keep(call("conv_1"))
    at(aws_calls, "UpdateItem", 2, press_ctrl_c)
    failed(*words)
    aws_calls.reset()

    code, found = run_ops_json("status")
    (trouble,) = found["next"]
    finished, _ = erase(*words)

    assert (code, finished) == (1, 0)
    assert trouble["trouble"].startswith(f"An erasure of {about} began at 20")
    assert trouble["commands"] == [f"./scripts/ops {command} --yes --stack calls"]
    assert ("in place of NUMBER" in trouble["trouble"]) == ("NUMBER" in command)
    assert run_ops_json("status")[1]["unfinished_erasures"] == []


def test_the_certificate_says_when_interrupted_runs_began_and_that_it_does_not_count_their_work(
    stack, keep, erase, failed, run_ops_json, aws_calls
):
    keep(call("conv_1"), call("conv_2"))
    began = []
    for operation, number in (("UpdateItem", 2), ("DeleteObject", 1)):
        at(aws_calls, operation, number, press_ctrl_c)
        failed(CALLER)
        aws_calls.reset()
        began += [each["began_at"] for each in run_ops_json("status")[1]["unfinished_erasures"]]

    _, certificate = erase(CALLER)
    _, afterwards = erase(CALLER)

    assert (len(began), certificate["interrupted_runs"]) == (2, began)
    assert certificate["deleted"]["object_versions"] < 4
    assert afterwards["interrupted_runs"] == []


def test_a_run_whose_note_is_sent_again_after_a_lost_answer_is_not_interrupted(stack):
    table = boto3.resource("dynamodb").Table(stack.outputs["ConversationTableName"])
    subject = Subject("", "conv_1")

    def update_twice(**parameters):  # as boto3 does it if the first answer is lost
        table.update_item(**parameters)
        return table.update_item(**parameters)

    assert Journal(SimpleNamespace(table=SimpleNamespace(update_item=update_twice))).begin(subject) == []
    assert Journal(SimpleNamespace(table=table)).begin(subject) == [utc(subject.at)]


def test_the_certificate_for_people_names_the_interrupted_runs(stack, keep, failed, run_ops, aws_calls, tmp_path):
    keep(call("conv_1"))
    at(aws_calls, "DeleteObject", 1, press_ctrl_c)
    failed("--conversation", "conv_1")
    aws_calls.reset()

    words = ("erase", "--conversation", "conv_1", "--yes", "--certificate")
    _, first, _ = run_ops(*words, f"{tmp_path}/first.json")
    _, second, _ = run_ops(*words, f"{tmp_path}/second.json")

    assert "Earlier runs of this erasure were interrupted. They began at 20" in first
    assert "What they deleted is not in the counts below." in first
    assert "interrupted" not in second
