"""A stack whose secret may be rotated, and which keys its ingest accepts."""

import io
import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.secretsmanager.models import secretsmanager_backends

from ingest.handler import receive
from shared.errors import SignatureError
from tests.conftest import Stack, forget
from tests.ingest.conftest import signed
from tests.scripts.operations.conftest import deploy_outputs

HOUR = timedelta(hours=1)
NEW = "wsec_new_0123456789"
RunOpsJson = Callable[..., tuple[int, Any]]
RunOps = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def rotatable(stack: Stack) -> None:
    """The stack `calls`, whose ingest keeps nothing."""
    deploy(stack)


def deploy(stack: Stack, cache: int = 0, overlap: int = 86400) -> None:
    times = {"SecretCacheSeconds": str(cache), "SecretOverlapSeconds": str(overlap)}
    deploy_outputs(stack.outputs | times)


@pytest.fixture
def type_key(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Put a key into stdin."""

    def run(key: str | bytes) -> None:
        content = key if isinstance(key, bytes) else key.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return run


@pytest.fixture
def rotate(run_ops: RunOps, type_key: Callable[[str | bytes], None]) -> RunOps:
    """Exit code, document, and progress of a step that is given a key; an error stands with the progress."""

    def run(key: str | bytes, *words: str) -> tuple[int, str, str]:
        type_key(key)
        code, out, err = run_ops("--json", "rotate-secret", *words)
        error = json.loads(out).get("error")
        return (code, "", f"{err}{error}\n") if error else (code, out, err)

    return run


@pytest.fixture
def step(run_ops_json: RunOpsJson) -> RunOpsJson:
    """Exit code and document of a step that needs no key."""
    return lambda *words: run_ops_json("rotate-secret", *words)


def versions(stack: Stack) -> dict[str, Any]:
    secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].secrets
    return secrets[stack.outputs["WebhookSecretArn"]].versions


def accepted(*keys: str, warm: bool = False) -> list[str]:
    """Those of the keys that ingest takes, a cold one unless told otherwise."""
    if not warm:
        forget()
    taken = []
    for key in keys:
        try:
            receive(signed(secret=key), datetime.now(timezone.utc))
            taken.append(key)
        except SignatureError:
            pass
    return taken


def put(stack: Stack, key: str, ago: timedelta = timedelta(0)) -> datetime:
    """Have the key put, so long ago; returns when."""
    client = boto3.client("secretsmanager")
    version = client.put_secret_value(SecretId=stack.outputs["WebhookSecretArn"], SecretString=key)["VersionId"]
    at = datetime.now(timezone.utc) - ago
    versions(stack)[version]["createdate"] = at.timestamp()
    return at


def sign(name: str, at: datetime, number: int = 1) -> None:
    """Let ingest have counted webhooks that the key of that name signed."""
    metrics = ["WebhookStaged"] + (["SignedWithPrevious"] if name == "previous" else [])
    data = [
        {"MetricName": metric, "Value": number, "Timestamp": at, "Dimensions": [{"Name": "service", "Value": "ingest"}]}
        for metric in metrics
    ]
    boto3.client("cloudwatch").put_metric_data(Namespace="AgenticMemory/calls", MetricData=data)
