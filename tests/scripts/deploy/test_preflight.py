"""What `make deploy` looks at before it begins: each fault is a sentence with its cure."""

import os
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from scripts.aws_session import OpsError
from scripts.deploy.package import check_built
from scripts.deploy.preflight import check_bucket, check_credentials, check_python, check_region


class Session(boto3.Session):
    """A session whose one client answers, or refuses, as it is told, by botocore's own stubs."""

    def __init__(self, service: str) -> None:
        super().__init__(region_name="us-east-1")
        self.stubbed = super().client(service)
        self.stub = Stubber(self.stubbed)
        self.stub.activate()

    def client(self, *_: object, **__: object) -> object:
        return self.stubbed


def python(folder: Path, script: str) -> None:
    program = folder / "python3.13"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [(None, "is not on the PATH"), ("exit 127", "does not run here"), ("exec sleep 0", "")],
    ids=["missing", "shim without a python", "there"],
)
def test_lambdas_python_must_be_there_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, sentence: str
) -> None:
    if script:
        python(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin" if script else str(tmp_path))

    if not sentence:
        check_python()
        return
    with pytest.raises(OpsError, match=f"{sentence}.*pyenv install 3.13"):
        check_python()


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("ExpiredToken", "sign in again"), ("InvalidClientTokenId", "the access key is wrong or inactive, or the region")],
)
def test_invalid_credentials_are_reported_before_any_question(code: str, sentence: str) -> None:
    session = Session("sts")
    session.stub.add_client_error("get_caller_identity", code)

    with pytest.raises(OpsError, match=sentence):
        check_credentials(session)


def test_a_region_that_does_not_exist_is_refused() -> None:
    check_region(boto3.Session(), "eu-central-1")

    for name in ("eu-central-9", "frankfurt", "us-east-1 "):
        with pytest.raises(OpsError, match="is not a known AWS region"):
            check_region(boto3.Session(), name)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            "403",
            "The bucket name calls is not free: another account or region has it, or your credentials may not look",
        ),
        ("301", "The bucket name calls is not free: another account or region has it"),
        ("400", "The AWS request HeadBucket failed"),
    ],
)
def test_a_bucket_that_cannot_be_made_or_seen_is_refused(status: str, sentence: str) -> None:
    session = Session("s3")
    session.stub.add_client_error("head_bucket", status)

    with pytest.raises(OpsError, match=sentence):
        check_bucket(session, "calls")


def test_a_bucket_of_an_earlier_stack_is_refused_and_a_free_name_passes() -> None:
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="calls")

        with pytest.raises(OpsError, match="in your account already"):
            check_bucket(boto3.Session(), "calls")
        check_bucket(boto3.Session(), "other-calls")


def test_a_package_for_the_other_mem0_is_not_deployed(tmp_path: Path) -> None:
    (tmp_path / "MemoryWriterFunction" / "mem0").mkdir(parents=True)

    check_built(tmp_path / "template.yaml", "oss")
    with pytest.raises(OpsError, match="MEMORY_BACKEND=platform make build"):
        check_built(tmp_path / "template.yaml", "platform")
