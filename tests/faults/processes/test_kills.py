"""A few calls under kills of real processes; and the counting sees what is wrong."""

import sys
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from shared.messages import ClaimCheck
from tests.faults.processes.aws import MortalAws
from tests.faults.processes.calls import make_calls, schedule
from tests.faults.processes.count import Findings, count, digest, staged_id
from tests.faults.processes.kills import KEY, MEM0_SECONDS, Plan, Result, Run
from tests.mem0_stand_in import HostedMem0

PLAN = Plan(seed=1, calls=12, per_second=4, worker_kills=2, emulator_kills=1)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


@pytest.fixture(scope="module")
def finished() -> Iterator[tuple[Run, Result]]:
    with HostedMem0(KEY, delay=MEM0_SECONDS) as mem0, MortalAws() as aws:
        run = Run(PLAN, aws, mem0, lambda line: None)
        yield run, run.run()


def recount(run: Run) -> Findings:
    """Of all calls, whose transcripts were acknowledged."""
    return count(run.stack, run.mem0, run.calls, {(call.conversation_id, "json") for call in run.calls})


@on_linux
def test_nothing_acknowledged_is_lost_or_doubled_when_processes_are_killed(finished):
    _, result = finished

    assert result.emulator_kills == 1
    assert result.acknowledged >= PLAN.calls  # of the audio some may never be
    assert result.findings == Findings([], [], [], [], [])


@on_linux
def test_the_state_of_an_emulator_that_is_killed_is_kept(finished):
    run, _ = finished
    objects, items = run.stack.objects(), run.stack.items()

    run.aws.crash()

    assert (run.stack.objects(), run.stack.items()) == (objects, items)
    assert run.aws.workers() == {}


@on_linux
def test_the_count_names_an_archived_object_that_is_missing_and_one_with_other_bytes(finished):
    run, _ = finished
    gone, other = run.calls[0].key("json"), run.calls[1].key("json")
    run.stack.s3.delete_object(Bucket=run.stack.bucket, Key=gone)
    run.stack.s3.put_object(Bucket=run.stack.bucket, Key=other, Body=b"{}")

    assert recount(run).lost == [f"{gone}: missing", f"{other}: other bytes"]
    for call in run.calls[:2]:
        run.stack.s3.put_object(Bucket=run.stack.bucket, Key=call.key("json"), Body=call.data)
    assert recount(run).are_none


@on_linux
def test_dead_letters_are_redriven_as_operators_do_it_and_change_nothing(finished):
    run, _ = finished
    id = digest(run.calls[0], "json")
    staged = next(key for key in run.stack.objects() if staged_id(key) == id)
    check = ClaimCheck(id, staged, "2026-11-22T10:00:00Z", "webhook")
    run.stack.sqs.send_message(QueueUrl=run.stack.outputs["ArchiveDlqUrl"], MessageBody=check.to_json())
    before = run.redriven

    run.redrive()

    assert run.redriven == before + 1
    assert recount(run).are_none


@on_linux
def test_the_count_names_a_memory_that_is_there_twice_and_one_that_is_missing(finished):
    run, _ = finished
    twice, gone = run.calls[:2]
    add(run.mem0, f"+{twice.caller}", {"conversation_id": twice.conversation_id, "type": "factual"})
    delete(run.mem0, f"+{gone.caller}", gone.conversation_id, "semantic")

    findings = recount(run)

    assert findings.doubled == [f"{twice.conversation_id}: factual 2 times"]
    assert findings.unremembered == [f"{gone.conversation_id}: semantic"]


@on_linux
def test_the_count_names_what_is_left_and_what_nobody_sent(finished):
    run, _ = finished
    run.stack.s3.put_object(Bucket=run.stack.bucket, Key="12025550100/conv_other.json", Body=b"{}")
    run.stack.sqs.send_message(QueueUrl=run.stack.outputs["ArchiveDlqUrl"], MessageBody="{}")
    staged = next(key for key in sorted(run.stack.objects()) if staged_id(key) == digest(run.calls[0], "json"))
    run.stack.s3.delete_object_tagging(Bucket=run.stack.bucket, Key=staged)

    findings = recount(run)

    assert findings.strange == ["12025550100/conv_other.json"]
    assert findings.left == ["ArchiveDlqUrl: 1", f"{staged}: not tagged"]


def add(mem0: HostedMem0, user_id: str, metadata: dict[str, str]) -> None:
    messages = [{"role": "assistant", "content": "Once more."}]
    body = {"messages": messages, "user_id": user_id, "metadata": metadata, "infer": False}
    request(mem0, "POST", "/v3/memories/add/", json=body)
    mem0.settle()


def delete(mem0: HostedMem0, user_id: str, conversation_id: str, kind: str) -> None:
    wanted = {"conversation_id": conversation_id, "type": kind}
    for memory in mem0.memories(user_id):
        if wanted.items() <= memory["metadata"].items():
            request(mem0, "DELETE", f"/v1/memories/{memory['id']}/")


def request(mem0: HostedMem0, method: str, path: str, **options: object) -> None:
    headers = {"Authorization": f"Token {KEY}"}
    httpx.request(method, mem0.url + path, headers=headers, trust_env=False, **options).raise_for_status()


def test_the_same_seed_gives_the_same_deliveries():
    once, again, other = (schedule(make_calls(seed, 50), seed, 5) for seed in (1, 1, 2))

    assert once == again
    assert once != other


def test_audio_is_sent_once_and_a_fifth_of_the_transcripts_more_often():
    calls = make_calls(1, 1000)

    sent = Counter((each.call.conversation_id, each.kind) for each in schedule(calls, 1, 5))

    assert {number for (_, kind), number in sent.items() if kind == "mp3"} == {1}
    assert {number for (_, kind), number in sent.items() if kind == "json"} == {1, 2, 3}
    assert 150 < sum(number > 1 for number in sent.values()) < 250
