"""The open-source backend with the embedded Mem0: writing, finding and deleting memories."""

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import active_children, get_context
from typing import Any

import boto3
import pytest

from memory_writer.memory import Memory
from memory_writer.oss import OssBackend, open_memory
from shared.errors import RefusedError
from tests.conftest import Stack
from tests.memory_writer.conftest import ALICE, BOB, S3_VECTORS, call, remembered, texts
from tests.processes import LONGEST, at_most

TURNS = {
    "fridge": "My refrigerator stopped cooling last night and the milk went bad.",
    "birthday": "It is my daughter's birthday on Saturday, she turns seven.",
    "invoice": "You charged my credit card twice for the same order.",
    "address": "We moved house, please send everything to the new street from now on.",
}


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        pytest.param("Which kitchen appliance is broken?", "fridge", id="appliance"),
        pytest.param("When is the child's party?", "birthday", id="party"),
        pytest.param("Was a payment taken two times?", "invoice", id="billing"),
        pytest.param("Where does the customer live now?", "address", id="home"),
    ],
)
def test_a_plain_question_finds_what_the_asked_caller_said(
    config: dict[str, Any], backend: OssBackend, question: str, topic: str
) -> None:
    backend.add(call(*TURNS.values()), again=False)
    backend.add(call(*TURNS.values(), user_id=BOB, conversation_id="conv_2"), again=False)

    with open_memory(config) as store:
        found = store.search(question, filters={"user_id": BOB})["results"]

    assert found[0]["memory"] == TURNS[topic]
    assert {memory["user_id"] for memory in found} == {BOB}


def test_the_metadata_is_read_back_unchanged(config: dict[str, Any], backend: OssBackend) -> None:
    memory = call("Hello.", "Good morning.")

    backend.add(memory, again=False)

    for stored in remembered(config, ALICE):
        assert {**stored["metadata"], "agent_id": stored["agent_id"]} == memory.metadata
    assert [stored["role"] for stored in remembered(config, ALICE)] == ["user", "assistant"]


def test_a_call_without_an_agent_is_remembered(config: dict[str, Any], backend: OssBackend) -> None:
    memory = call("Hello.")

    backend.add(replace(memory, metadata={**memory.metadata, "agent_id": None}), again=False)

    assert "agent_id" not in remembered(config, ALICE)[0]


def test_find_returns_the_ids_of_a_whole_memory_in_the_order_of_its_messages(backend: OssBackend) -> None:
    ids = backend.add(call(*TURNS.values()), again=False).memory_ids

    assert len(set(ids)) == 4
    assert backend.find(call(*TURNS.values())) == ids


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(call("Hello.", user_id=BOB), id="another caller"),
        pytest.param(call("Hello.", conversation_id="conv_2"), id="another call"),
        pytest.param(call("Hello.", kind="factual"), id="the same call's facts"),
    ],
)
def test_find_and_add_leave_other_memories_alone(config: dict[str, Any], backend: OssBackend, other: Memory) -> None:
    ids = backend.add(call("Hello."), again=False).memory_ids

    assert backend.find(other) == []
    backend.add(other, again=False)

    assert backend.find(call("Hello.")) == ids
    assert len(texts(config, ALICE) + texts(config, BOB)) == 2


def test_a_part_of_a_memory_does_not_count_as_found(backend: OssBackend) -> None:
    backend.add(call("Hello.", "Good morning."), again=False)

    assert backend.find(call("Hello.", "Good morning.", "I need help.")) == []


def test_with_inference_any_part_counts_as_found(backend: OssBackend) -> None:
    ids = backend.add(call("Hello."), again=False).memory_ids

    assert backend.find(call("Hello.", "Good morning.", infer=True)) == ids


def test_an_add_after_an_interrupted_one_leaves_exactly_the_messages(
    config: dict[str, Any], backend: OssBackend
) -> None:
    backend.add(call("Hello.", "Good morning."), again=False)

    ids = backend.add(call("Hello.", "Good morning.", "I need help."), again=True).memory_ids

    assert texts(config) == ["Hello.", "Good morning.", "I need help."]
    assert backend.find(call("Hello.", "Good morning.", "I need help.")) == ids


def test_repeated_texts_are_all_kept_and_counted(config: dict[str, Any], backend: OssBackend) -> None:
    backend.add(call("Yes.", "Really?", "Yes.", "Really?"), again=False)

    assert texts(config) == ["Yes.", "Really?", "Yes.", "Really?"]
    assert len(backend.find(call("Yes.", "Really?", "Yes.", "Really?"))) == 4


def test_a_call_of_300_turns_is_found_whole_and_in_order(config: dict[str, Any], backend: OssBackend) -> None:
    turns = [f"Turn {number}." for number in range(300)]

    ids = backend.add(call(*turns), again=False).memory_ids

    assert backend.find(call(*turns)) == ids
    assert texts(config) == turns
    backend.add(call(*turns), again=True)
    assert texts(config) == turns


def test_text_in_any_script_is_read_back_unchanged(config: dict[str, Any], backend: OssBackend) -> None:
    turns = ["Danke 👍🏽 👨‍👩‍👧‍👦", "שלום, אני צריך עזרה", "مرحبا بكم \u202eabc\u202c", "…", ""]

    ids = backend.add(call(*turns), again=False).memory_ids

    assert texts(config) == turns
    assert backend.find(call(*turns)) == ids


def kill_children() -> None:
    for child in active_children():
        child.kill()


def test_two_processes_add_at_once(config: dict[str, Any], backend: OssBackend) -> None:
    calls = [call(*["Hello."] * 25, conversation_id=f"conv_{number}") for number in range(12)]

    with at_most(LONGEST, kill_children), ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        added = list(workers.map(partial(backend.add, again=True), calls))

    assert [backend.find(each) for each in calls] == [answer.memory_ids for answer in added]
    assert len(texts(config)) == 12 * 25


def test_a_folder_is_unlocked_when_its_block_ends(config: dict[str, Any]) -> None:
    with open_memory(config) as first:
        pass

    with open_memory(config) as second:
        assert second is not first  # `first` is still referenced, so garbage collection cannot have unlocked it


def test_a_missing_index_is_refused_with_the_parameters_to_check(aws: Stack, config: dict[str, Any]) -> None:
    backend = OssBackend(config | {"vector_store": S3_VECTORS})
    backend.find(call("Hello."))
    boto3.client("s3vectors").delete_index(vectorBucketName="calls-memory", indexName="memories")

    with pytest.raises(RefusedError) as refused:
        backend.add(call("My password is Rumpelstiltskin."), again=False)

    assert refused.value.error == (
        "PutVectors answered NotFoundException. Look at the stack's parameters MemoryConfig and MemoryPolicyArn."
    )


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_nothing_of_a_memory_is_logged_or_printed(
    config: dict[str, Any],
    backend: OssBackend,
    logs: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    backend.add(call("My password is Rumpelstiltskin."), again=False)
    backend.add(call("My password is Rumpelstiltskin."), again=False)
    with open_memory(config) as store:
        store.search("Rumpelstiltskin", filters={"user_id": ALICE})

    written = "".join([logs.text, *capfd.readouterr()])

    assert "Rumpelstiltskin" not in written
    assert ALICE not in written
