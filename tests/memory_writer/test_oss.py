"""The open-source backend, on the real mem0 with the embedded configuration."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Thread
from typing import Any, Literal, Self

import boto3
import pytest

from memory_writer.embedded import embedded_config
from memory_writer.memory import Memory, Message
from memory_writer.oss import OssBackend, open_memory
from shared.errors import NotSentError, RefusedError
from tests.conftest import Stack
from tests.processes import LONGEST, at_most

ALICE, BOB = "+12025550123", "+12025550188"
TURNS = {
    "fridge": "My refrigerator stopped cooling last night and the milk went bad.",
    "birthday": "It is my daughter's birthday on Saturday, she turns seven.",
    "invoice": "You charged my credit card twice for the same order.",
    "address": "We moved house, please send everything to the new street from now on.",
}


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return embedded_config(str(tmp_path / "memories"))


@pytest.fixture
def backend(config: dict[str, Any]) -> OssBackend:
    return OssBackend(config)


def remembered(config: dict[str, Any], user_id: str) -> list[dict[str, Any]]:
    """Return all that mem0 holds of `user_id`, in the order it was said."""
    with open_memory(config) as store:
        found = store.get_all(filters={"user_id": user_id}, top_k=1000)["results"]
    return sorted(found, key=lambda memory: memory["created_at"])


def texts(config: dict[str, Any], user_id: str = ALICE) -> list[str]:
    return [memory["memory"] for memory in remembered(config, user_id)]


def call(
    *turns: str,
    user_id: str = ALICE,
    conversation_id: str = "conv_1",
    kind: Literal["factual", "semantic"] = "semantic",
    infer: bool = False,
) -> Memory:
    messages: list[Message] = [
        {"role": "assistant" if index % 2 else "user", "content": turn} for index, turn in enumerate(turns)
    ]
    metadata: dict[str, str | int | None] = {
        "type": kind,
        "agent_id": "agent_7",
        "conversation_id": conversation_id,
        "call_duration": 93,
        "timestamp": "2026-11-22T10:00:00Z",
    }
    return Memory(user_id, kind, messages, metadata, infer)


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


def test_the_metadata_comes_back_as_it_went_in(config: dict[str, Any], backend: OssBackend) -> None:
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


def test_any_script_comes_back_as_it_was_said(config: dict[str, Any], backend: OssBackend) -> None:
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


def test_a_folder_is_free_again_when_its_block_ends(config: dict[str, Any]) -> None:
    with open_memory(config) as first:
        pass

    with open_memory(config) as second:
        assert second is not first  # kept alive here, `first` cannot have been freed by its collection


def test_asking_the_embedded_mem0_to_infer_is_refused_in_clear_words(backend: OssBackend) -> None:
    with pytest.raises(RefusedError, match="no language model: set MemoryInference=false"):
        backend.add(call("Hello.", infer=True), again=False)


class LanguageModel:
    """An OpenAI-compatible chat endpoint on loopback that answers with one text after the other, the last for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []  # the bodies of the requests
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                model.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                text = model.answers.pop(0) if len(model.answers) > 1 else model.answers[0]
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def inferring(config: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    return config | {
        "llm": {"provider": "openai", "config": {"openai_base_url": model.url, "api_key": "x", "model": "m"}}
    }


INFERRED = json.dumps({"memory": [{"text": "The caller has a boat."}, {"text": "The boat is to be moved."}]})


def test_what_the_language_model_infers_is_kept_and_found(config: dict[str, Any]) -> None:
    with LanguageModel(INFERRED) as model:
        backend = OssBackend(inferring(config, model))
        ids = backend.add(call("Move my boat.", infer=True), again=False).memory_ids

    assert texts(config) == ["The caller has a boat.", "The boat is to be moved."]
    assert backend.find(call("Move my boat.", infer=True)) == ids


def test_an_answer_that_cannot_be_read_is_no_memory_and_the_next_attempt_is_complete(config: dict[str, Any]) -> None:
    with LanguageModel(INFERRED[:40], INFERRED) as model:
        backend = OssBackend(inferring(config, model))
        with pytest.raises(NotSentError, match="max_tokens"):
            backend.add(call("Move my boat.", infer=True), again=False)
        backend.add(call("Move my boat.", infer=True), again=True)

    assert len(texts(config)) == 2


def test_nothing_to_infer_is_an_answer_too(config: dict[str, Any]) -> None:
    with LanguageModel('{"memory": []}') as model:
        answer = OssBackend(inferring(config, model)).add(call("Hm.", infer=True), again=False)

    assert (answer.status, answer.memory_ids) == ("SUCCEEDED", [])


S3_VECTORS = {"provider": "s3_vectors", "config": {"vector_bucket_name": "calls-memory", "collection_name": "memories",
              "embedding_model_dims": 256, "region_name": "us-east-1"}}  # fmt: skip


def with_a_history_file(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    return config | {"history_db_path": str(folder / "history.db")}


def test_the_language_model_is_not_shown_an_earlier_call_of_the_caller(config: dict[str, Any], tmp_path: Path) -> None:
    with LanguageModel('{"memory": []}') as model:
        backend = OssBackend(with_a_history_file(inferring(config, model), tmp_path))
        backend.add(call("My password is Rumpelstiltskin.", infer=True), again=False)
        backend.add(call("Move my boat.", conversation_id="conv_2", infer=True), again=False)

    assert ["Rumpelstiltskin" in asked for asked in model.asked] == [True, False]


@pytest.mark.parametrize(
    ("changes", "infer"),
    [
        pytest.param({}, True, id="inferred"), pytest.param({}, False, id="verbatim"),
        pytest.param({"vector_store": S3_VECTORS}, False, id="verbatim in a store that stays open"),
    ],
)  # fmt: skip
def test_mem0s_history_keeps_no_word_of_what_is_added_and_deleted(
    aws: Stack, config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], infer: bool
) -> None:
    inferred = json.dumps({"memory": [{"text": "The password is Rumpelstiltskin."}]})
    with LanguageModel(inferred) as model:
        backend = OssBackend(with_a_history_file(inferring(config, model), tmp_path) | changes)
        ids = backend.add(call("My password is Rumpelstiltskin.", infer=infer), again=False).memory_ids
        assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()
        backend.delete(ids)

    assert len(ids) == 1
    assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()


def test_a_failed_add_leaves_no_word_in_mem0s_history(config: dict[str, Any], tmp_path: Path) -> None:
    with LanguageModel(INFERRED[:40]) as model:
        backend = OssBackend(with_a_history_file(inferring(config, model), tmp_path))
        with pytest.raises(NotSentError):
            backend.add(call("My password is Rumpelstiltskin.", infer=True), again=False)

    assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()


def test_what_an_earlier_version_left_in_mem0s_history_goes_with_the_next_add(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config = with_a_history_file(config, tmp_path)
    with open_memory(config):
        from mem0.memory.storage import SQLiteManager  # not before: its telemetry is switched off by then
    history = SQLiteManager(config["history_db_path"])  # type: ignore[no-untyped-call]
    for number in range(20):  # of which mem0 keeps the last ten, and the others as free space
        history.save_messages([{"role": "user", "content": f"Rumpelstiltskin {number}"}], "user_id=1")
    history.close()
    assert b"Rumpelstiltskin" in (tmp_path / "history.db").read_bytes()

    OssBackend(config).add(call("Hello."), again=False)

    assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()


def test_an_index_that_is_gone_is_refused_with_a_sentence_to_act_on(aws: Stack, config: dict[str, Any]) -> None:
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
