"""A stack on the embedded AWS: what a caller gets, what its functions may do, and how it fails."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.embedded.aws import EmbeddedAws, PortBusyError, server_environment
from scripts.embedded.deployment import DeploymentError, UnknownParameterError, deploy
from scripts.embedded.translation import translate
from tests.raw_host import RawHost
from tests.scripts.embedded.small_project import post, wait_until
from tests.scripts.embedded.small_project import project as project


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture(scope="module")
def outputs(aws: EmbeddedAws, project: Path) -> dict[str, str]:
    return deploy(aws, "first", path=project)


def test_the_url_as_printed_reaches_the_function(outputs: dict[str, str]) -> None:
    assert post(outputs["PostCallUrl"], "allowed/a") == (200, "stored no profile")


def test_a_function_has_the_rights_of_its_role_and_no_others(outputs: dict[str, str]) -> None:
    assert post(outputs["PostCallUrl"], "elsewhere/a") == (403, "AccessDenied")


def test_the_caller_gets_endpoint_and_plain_secret(aws: EmbeddedAws, outputs: dict[str, str]) -> None:
    assert outputs["AwsEndpointUrl"] == f"http://127.0.0.1:{aws.port}"
    assert (outputs["Region"], outputs["AccessKeyId"], outputs["SecretAccessKey"]) == ("us-east-1", "test", "test")
    assert len(outputs["WebhookSecret"]) == 64
    assert outputs["WebhookSecret"].isalnum()


def test_a_queue_feeds_its_function_with_a_concurrency_from_a_parameter(
    aws: EmbeddedAws, outputs: dict[str, str]
) -> None:
    aws.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody="allowed/from-queue")

    wait_until(lambda: "allowed/from-queue" in keys(aws, outputs["BucketName"]))


def test_every_stack_keeps_its_memories_in_the_emulators_folder(aws: EmbeddedAws, outputs: dict[str, str]) -> None:
    assert str(aws.folder / "memory" / "first") in outputs["MemoryConfig"]
    assert outputs["MemoryConcurrency"] == "2"


def test_stacks_stand_side_by_side(aws: EmbeddedAws, outputs: dict[str, str], project: Path) -> None:
    second = deploy(aws, "second", {"BucketName": "second-bucket", "MemoryConcurrency": "3"}, project)

    post(second["PostCallUrl"], "allowed/only-here")

    assert second["MemoryConcurrency"] == "3"
    assert keys(aws, "second-bucket") == ["allowed/only-here"]
    assert "allowed/only-here" not in keys(aws, outputs["BucketName"])


def test_a_constant_is_what_the_template_says_unless_the_deployment_overrides_it(
    aws: EmbeddedAws, outputs: dict[str, str], project: Path
) -> None:
    parameters = {"BucketName": "quick-bucket", "VisibilitySeconds": "7"}
    quick = deploy(aws, "quick", parameters, project)

    assert (outputs["VisibilitySeconds"], quick["VisibilitySeconds"]) == ("5", "7")
    assert visibility(aws, outputs) == "5"
    assert visibility(aws, quick) == "7"


def visibility(aws: EmbeddedAws, outputs: dict[str, str]) -> str:
    answer = aws.client("sqs").get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["VisibilityTimeout"])
    return str(answer["Attributes"]["VisibilityTimeout"])


def keys(aws: EmbeddedAws, bucket: str) -> list[str]:
    return [item["Key"] for item in aws.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_failed_stack_names_the_resource_and_the_reason(
    aws: EmbeddedAws, outputs: dict[str, str], project: Path
) -> None:
    with pytest.raises(DeploymentError, match=r"Stack third failed: Bucket \(AWS::S3::Bucket\): .*exists"):
        deploy(aws, "third", path=project)


def test_an_unknown_parameter_is_refused_with_the_known_ones(aws: EmbeddedAws, project: Path) -> None:
    with pytest.raises(
        UnknownParameterError, match=r"Buckt.*ApiKey, BucketName, MemoryConcurrency, MemoryConfig, VisibilitySeconds"
    ):
        deploy(aws, "fourth", {"Buckt": "x"}, project)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_function_asks_a_proxy_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with RawHost() as proxy:
        for name, value in server_environment({"HTTP_PROXY": proxy.url}, 4566, tmp_path).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{host}:9")

    assert proxy.requests == []


def test_a_busy_port_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortBusyError, match=str(port)):
            EmbeddedAws(port).__enter__()


def test_a_broken_aws_profile_does_no_harm(
    aws: EmbeddedAws, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("this is no configuration")
    monkeypatch.setenv("AWS_PROFILE", "missing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    assert translate(project)["Resources"]["FunctionRole"]
    assert aws.client("sts").get_caller_identity()["Arn"].endswith(":root")
