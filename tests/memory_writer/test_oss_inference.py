"""The open-source backend with a language model, and mem0's own history."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

import pytest

from memory_writer.oss import OssBackend, open_memory
from shared.errors import NotSentError, RefusedError
from tests.conftest import Stack
from tests.memory_writer.conftest import S3_VECTORS, call, texts


def test_inference_with_the_embedded_mem0_is_refused_with_the_parameter_to_set(backend: OssBackend) -> None:
    with pytest.raises(RefusedError, match="no language model: set MemoryInference=false"):
        backend.add(call("Hello.", infer=True), again=False)


class LanguageModel:
    """An OpenAI-compatible chat endpoint on loopback. It gives its answers in order, and then repeats the last one."""

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


def test_after_an_unreadable_answer_the_next_attempt_writes_the_whole_memory(config: dict[str, Any]) -> None:
    with LanguageModel(INFERRED[:40], INFERRED) as model:
        backend = OssBackend(inferring(config, model))
        with pytest.raises(NotSentError, match="max_tokens"):
            backend.add(call("Move my boat.", infer=True), again=False)
        backend.add(call("Move my boat.", infer=True), again=True)

    assert len(texts(config)) == 2


def test_an_answer_without_memories_is_a_success(config: dict[str, Any]) -> None:
    with LanguageModel('{"memory": []}') as model:
        answer = OssBackend(inferring(config, model)).add(call("Hm.", infer=True), again=False)

    assert (answer.status, answer.memory_ids) == ("SUCCEEDED", [])


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
def test_mem0s_history_keeps_no_text_of_added_and_deleted_memories(
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


def test_a_failed_add_leaves_no_text_in_mem0s_history(config: dict[str, Any], tmp_path: Path) -> None:
    with LanguageModel(INFERRED[:40]) as model:
        backend = OssBackend(with_a_history_file(inferring(config, model), tmp_path))
        with pytest.raises(NotSentError):
            backend.add(call("My password is Rumpelstiltskin.", infer=True), again=False)

    assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()


def test_text_in_mem0s_history_from_an_earlier_version_is_deleted_by_the_next_add(
    config: dict[str, Any], tmp_path: Path
) -> None:
    config = with_a_history_file(config, tmp_path)
    with open_memory(config):
        from mem0.memory.storage import SQLiteManager  # imported only here, after its telemetry is switched off
    history = SQLiteManager(config["history_db_path"])  # type: ignore[no-untyped-call]
    for number in range(20):  # mem0 keeps the last ten; the file keeps the others as free space
        history.save_messages([{"role": "user", "content": f"Rumpelstiltskin {number}"}], "user_id=1")
    history.close()
    assert b"Rumpelstiltskin" in (tmp_path / "history.db").read_bytes()

    OssBackend(config).add(call("Hello."), again=False)

    assert b"Rumpelstiltskin" not in (tmp_path / "history.db").read_bytes()
