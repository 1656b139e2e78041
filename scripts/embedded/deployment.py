"""Deploys template.yaml to the embedded AWS and returns what a caller needs to use it."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scripts.deploy.parameters import constants
from scripts.deploy.stack import first_failure, is_failure
from scripts.embedded.aws import REGION, ROOT, ROOT_KEY, EmbeddedAws, EmbeddedAwsError
from scripts.embedded.translation import CODE_BUCKET, Template, emulate, translate

TEMPLATE = ROOT / "template.yaml"
SOURCES = (
    "shared", "ingest", "archiver", "memory_writer", "reconciler", "transcriber", "indexer", "canary", "api",
)  # fmt: skip
AT_ONCE = {"ArchiveConcurrency": "4"}  # each is a process of this machine; the default is for a new account
SOON = {"TextBatchingSeconds": "1"}  # a call that is made for a test is to be found at once
DEPLOY_SECONDS = 60.0


class UnknownParameterError(EmbeddedAwsError):
    """The template has neither a parameter nor a constant of that name."""


class DeploymentError(EmbeddedAwsError):
    """A stack could not be made; the text names the resource and the reason."""


def deploy(
    aws: EmbeddedAws, stack_name: str, parameters: Mapping[str, str] | None = None, path: Path = TEMPLATE
) -> dict[str, str]:
    """Create a stack from the template at `path` and the source folders beside it; returns its outputs.

    `AwsEndpointUrl`, `Region`, `AccessKeyId`, `SecretAccessKey` and `WebhookSecret` are added.
    Stacks may stand side by side. Raises TemplateError, ConstantError, UnknownParameterError or DeploymentError.
    """
    code, archive = package(path.parent)
    template = translate(path, SOON | dict(parameters or {}), f"s3://{CODE_BUCKET}/{code}")
    values = complete(template, parameters or {}, aws.folder / "memory" / stack_name)
    try:
        create(aws, stack_name, emulate(template, values, aws.endpoint_url), values, {code: archive})
        return described(aws, wait(aws, stack_name))
    except (ClientError, BotoCoreError) as error:
        raise DeploymentError(f"Stack {stack_name} failed: {error}") from error


def package(folder: Path) -> tuple[str, bytes]:
    """The source folders as one zip, and a key that changes with its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in source_files(folder):
            archive.write(file, file.relative_to(folder))
    content = buffer.getvalue()
    return f"{hashlib.sha256(content).hexdigest()}.zip", content


def source_files(folder: Path) -> Iterator[Path]:
    """The files of the source folders that exist, without Python's caches."""
    for source in SOURCES:
        for file in sorted((folder / source).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


def complete(template: Template, parameters: Mapping[str, str], memory: Path) -> dict[str, str]:
    """The given parameters, and those of every local stack; raises UnknownParameterError.

    Constants are left out: the template has their values already.
    """
    known, fixed = template.get("Parameters", {}), constants(template)
    names = sorted({*known, *fixed})
    if unknown := sorted(set(parameters) - set(names)):
        raise UnknownParameterError(f"No such parameter: {', '.join(unknown)}. There are: {', '.join(names)}.")
    local = AT_ONCE | ({} if "Mem0ApiKey" in parameters else embedded_memory(memory))
    given = {name: value for name, value in parameters.items() if name not in fixed}
    return {name: value for name, value in local.items() if name in known} | given


def memory_config(memory: Path) -> str:
    """Mem0 inside the functions, with its data in the embedded AWS's folder."""
    from memory_writer.embedded import embedded_config  # heavy; only stacks with memories need it

    return json.dumps(embedded_config(str(memory)))


def embedded_memory(memory: Path) -> dict[str, str]:
    """Parameters for the embedded Mem0, which a stack has unless it gets the key of another.

    A qdrant folder has one opener at a time, so few memory writers; two is the least that SQS allows.
    """
    return {
        "MemoryBackend": "oss",
        "MemoryConfig": memory_config(memory),
        "MemoryInference": "false",
        "MemoryConcurrency": "2",
    }


def create(
    aws: EmbeddedAws, stack_name: str, template: Template, parameters: Mapping[str, str], files: Mapping[str, bytes]
) -> None:
    """Put code and template into S3 and ask for the stack. The template may be too large for a request."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=CODE_BUCKET)  # again is harmless in us-east-1
    key = f"{stack_name}.json"
    for name, content in {**files, key: json.dumps(template).encode()}.items():
        s3.put_object(Bucket=CODE_BUCKET, Key=name, Body=content)
    aws.client("cloudformation").create_stack(
        StackName=stack_name,
        TemplateURL=f"{aws.endpoint_url}/{CODE_BUCKET}/{key}",
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
    )


def wait(aws: EmbeddedAws, stack_name: str) -> dict[str, str]:
    """The outputs of the stack once it is complete; raises DeploymentError if it fails or takes too long."""
    cloudformation = aws.client("cloudformation")
    deadline = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < deadline:
        stack = cloudformation.describe_stacks(StackName=stack_name)["Stacks"][0]
        if stack["StackStatus"] == "CREATE_COMPLETE":
            return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            raise DeploymentError(f"Stack {stack_name} failed: {failure(cloudformation, stack_name)}")
        time.sleep(0.1)
    raise DeploymentError(f"Stack {stack_name} was not complete after {DEPLOY_SECONDS:.0f} s.")


def failure(cloudformation: Any, stack_name: str) -> str:
    """The first resource that failed, and why. Later ones mostly fail because of it."""
    events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    return first_failure(cloudformation, list(filter(is_failure, reversed(events))))


def described(aws: EmbeddedAws, outputs: Mapping[str, str]) -> dict[str, str]:
    """The outputs with what an AWS client needs, and the key that signs webhooks."""
    keys = {"AccessKeyId": ROOT_KEY, "SecretAccessKey": ROOT_KEY}
    found = {**outputs, "AwsEndpointUrl": aws.endpoint_url, "Region": REGION, **keys}
    if "WebhookSecretArn" in found:
        secret = aws.client("secretsmanager").get_secret_value(SecretId=found["WebhookSecretArn"])
        found["WebhookSecret"] = secret["SecretString"]
    return found
