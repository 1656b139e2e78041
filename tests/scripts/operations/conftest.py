"""A stack as the operators' tool finds it, the tool itself, and what may happen at one of its requests to AWS."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

import archiver.handler
import memory_writer.handler
from memory_writer.embedded import embedded_config
from memory_writer.oss import open_memory
from scripts.operations.app import main
from scripts.operations.logs import FUNCTIONS
from shared.bucket import ARCHIVED
from shared.indexes import listing
from shared.record import Records
from shared.times import utc
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack, client, forget, sqs_event

CALLER = "+12025550123"
NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
INTERRUPTED = "Interrupted. Run the same command again: it does not repeat what is done."
RunOpsJson = Callable[..., tuple[int, Any]]


@pytest.fixture
def more_outputs() -> dict[str, str]:
    """Outputs that the tests of a folder add to the stack."""
    return {}


@pytest.fixture
def stack(aws: Stack, monkeypatch: pytest.MonkeyPatch, more_outputs: dict[str, str]) -> Stack:
    """The stack `calls`, with the outputs of the resources in moto. Empty queues answer at once.

    One session for all commands: a new one reads the models of AWS's services again.
    """
    aws.outputs["MemoryQueueUrl"] = aws.sqs.create_queue(QueueName="MemoryQueueUrl")["QueueUrl"]
    aws.outputs |= more_outputs
    deploy_outputs(aws.outputs)
    monkeypatch.setattr("scripts.operations.dead_letters.WAIT_SECONDS", 0)
    monkeypatch.setattr("scripts.operations.stack.aws_session", session)
    return aws


@cache
def session() -> Session:
    """It makes each client once, for all tests: they register no hooks on these."""
    one = Session()
    one.client, one.resource = cache(one.client), cache(one.resource)
    return one


def deploy_outputs(outputs: dict[str, str], name: str = "calls") -> None:
    template = {
        "Resources": {group: {"Type": "AWS::Logs::LogGroup"} for group in FUNCTIONS.values()},
        "Outputs": {key: {"Value": value} for key, value in outputs.items()},
    }
    cloudformation = client("cloudformation")
    cloudformation.delete_stack(StackName=name)
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))


def ops(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    capsys.readouterr()
    try:
        code = main([*words])
    except SystemExit as end:
        code = int(str(end.code))
    written = capsys.readouterr()
    return code, written.out, written.err


@pytest.fixture
def run_ops(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of one command on the stack."""
    return lambda *words: ops(capsys, "--stack", "calls", *words)


@pytest.fixture
def run_ops_json(run_ops: Callable[..., tuple[int, str, str]]) -> RunOpsJson:
    """Exit code of one command on the stack, and the one JSON document that it prints."""

    def run(*words: str) -> tuple[int, Any]:
        code, out, err = run_ops("--json", *words)
        assert out, err
        return code, json.loads(out)

    return run


class AwsCalls:
    """Meddles with the requests to AWS, by their operation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        self._codes: dict[str, str] = {}
        self._acts: dict[str, Callable[[], None]] = {}
        self._instead: dict[str, Any] = {}
        self._is_paused = False
        do = BaseClient._make_api_call

        def intercept(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
            self.seen[operation] += 1
            if operation in self._codes:
                raise ClientError({"Error": {"Code": self._codes[operation]}}, operation)
            if operation in self._instead:
                return self._instead.pop(operation)
            answer = do(client, operation, parameters)
            act = self._acts.get(operation)
            if act and not self._is_paused:
                act()
            return answer

        monkeypatch.setattr(BaseClient, "_make_api_call", intercept)

    def refuse(self, operation: str, code: str = "AccessDenied") -> None:
        self._codes[operation] = code

    def answer(self, operation: str, answer: Any) -> None:
        """Answer in place of AWS, once."""
        self._instead[operation] = answer

    def after(self, operation: str, act: Callable[[], None]) -> None:
        """Do something each time that AWS has done the operation, before the tool hears of it."""
        self._acts[operation] = act

    def interrupt(self, operation: str, number: int) -> None:
        """Ctrl-C when AWS has done the operation for the so-manieth time from now on."""
        self.seen.clear()

        def press() -> None:
            if self.seen[operation] == number:
                press_ctrl_c()

        self.after(operation, press)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile is done undisturbed."""
        self._is_paused = True
        yield
        self._is_paused = False

    def reset(self) -> None:
        self._codes.clear()
        self._acts.clear()


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that lets everybody read what is written."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path: Path) -> dict[str, str]:
    """Who may do what with a file, or with all that is in a folder and with the folder itself, by name."""
    there = [path, *path.rglob("*")] if path.is_dir() else [path]
    return {each.name: f"{each.lstat().st_mode & 0o777:o}" for each in there}


@pytest.fixture
def aws_calls(monkeypatch: pytest.MonkeyPatch) -> AwsCalls:
    return AwsCalls(monkeypatch)


def log_group(function: str) -> str:
    found = client("cloudformation").describe_stack_resource(StackName="calls", LogicalResourceId=FUNCTIONS[function])
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def write_log(function: str, *lines: str | dict[str, Any], at: datetime | None = None, stream: str = "one") -> None:
    """Lines of a function's log: its own entries, or Lambda's text."""
    logs, group = client("logs"), log_group(function)
    if not logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream)["logStreams"]:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    timestamp = int((at or datetime.now(timezone.utc)).timestamp() * 1000)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    events = [{"timestamp": timestamp, "message": text} for text in texts]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def receive_at(stack: Stack, key: str, at: datetime) -> None:
    """Let S3 say that an object came at that time."""
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[stack.bucket].keys[key].last_modified = at.replace(tzinfo=None)


def tag(stack: Stack, key: str) -> None:
    """Say of a staged body that it is done with."""
    stack.s3.put_object_tagging(Bucket=stack.bucket, Key=key, Tagging={"TagSet": [ARCHIVED]})


def table(stack: Stack) -> Any:
    return session().resource("dynamodb").Table(stack.outputs["ConversationTableName"])


def note(stack: Stack, conversation_id: str, item: str = "call", **values: Any) -> None:
    """Write into the record, or the ledger, of a call. With `archived_at`, the call is listed like an archived one."""
    if "archived_at" in values:
        values |= listing(conversation_id, values.get("agent_id"), values.get("started_at") or values["archived_at"])
        Records(table(stack)).note_day(values["listed_at"])
    if "audio" in values and values["audio"] == "pending":
        values |= {"open_audio": "pending"}
    if "state" in values and values["state"] != "done":
        values |= {"open_state": values["state"]}
    names = {f"#{name}": name for name in values}
    table(stack).update_item(
        Key={"conversation_id": conversation_id, "item": item},
        UpdateExpression=f"SET {', '.join(f'#{name} = :{name}' for name in values)}",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
    )


def transcript(conversation_id: str, number: str = CALLER, **fields: Any) -> dict[str, Any]:
    """A call without a recording, of which there is something to remember."""
    data = {
        "conversation_id": conversation_id, "agent_id": "agent_1", "has_audio": False,
        "transcript": [{"role": "user", "message": "Please move my boat."}],
        "analysis": {"transcript_summary": "The caller moved a boat."},
        "metadata": {"phone_call": {"external_number": number}},
    }  # fmt: skip
    return {"type": "post_call_transcription", "data": data | fields}


@pytest.fixture
def archive(stack: Stack, context: Any) -> Callable[..., str]:
    """Have a call archived by the archiver, as of `at`; returns its staged body's key."""

    def run(conversation_id: str, *, at: datetime = NOON, **fields: Any) -> str:
        check = stage(stack, transcript(conversation_id, **fields), now=at)
        archive_checks(context, check)
        note(stack, conversation_id, archived_at=utc(at))
        return staged_key(check)

    return run


def archive_checks(context: Any, *checks: str) -> None:
    assert archiver.handler.lambda_handler(sqs_event(*checks), context) == {"batchItemFailures": []}


class Mem0:
    """The embedded Mem0 that the memory writer and the stack's outputs are pointed to."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def memories(self, user_id: str = CALLER) -> list[dict[str, Any]]:
        with open_memory(self.config) as store:
            return list(store.get_all(filters={"user_id": user_id}, top_k=1000, show_expired=True)["results"])

    def delete(self, memory: dict[str, Any]) -> None:
        with open_memory(self.config) as store:
            store.delete(memory["id"])

    def add_again(self, memory: dict[str, Any]) -> None:
        """As if the memory had been sent twice."""
        message, metadata = {"role": "user", "content": memory["memory"]}, memory["metadata"]
        with open_memory(self.config) as store:
            store.add([message], user_id=memory["user_id"], metadata=metadata, infer=False)


@pytest.fixture
def mem0(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mem0:
    found = Mem0(embedded_config(str(tmp_path / "mem0")))
    secret = client("secretsmanager").create_secret(Name="mem0", SecretString=json.dumps(found.config))["ARN"]
    monkeypatch.setenv("MEMORY_SECRET_ARN", secret)
    monkeypatch.setenv("DLQ_URL", stack.outputs["MemoryDlqUrl"])
    forget()
    deploy_outputs(stack.outputs | {"MemoryBackend": "oss", "MemorySecretArn": secret})
    return found


@pytest.fixture
def remember(stack: Stack, context: Any) -> Callable[[str], None]:
    """Have the calls that are announced in a queue remembered by the memory writer."""

    def run(output: str) -> None:
        for body in (message["Body"] for message in stack.take(output)):
            if json.loads(body)["event"] == "transcript_archived":
                response = memory_writer.handler.lambda_handler(sqs_event(body), context)
                assert response == {"batchItemFailures": []}

    return run
