"""The embedded AWS with a stack of a few resources, through its functions and as `make local` runs it."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.aws_session import OpsError
from scripts.deploy.parameters import split
from scripts.deployment import DeploymentError, UnknownParameterError, deploy
from scripts.embedded import EmbeddedAws, PortBusyError, group_exists, server_environment
from scripts.local import SettingError, ask_for_secrets, read_port
from scripts.translation import TemplateError, emulate, translate
from tests.processes import type_hidden
from tests.raw_host import RawHost

ROOT = Path(__file__).parent.parent.parent

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  BucketName: {Type: String, Default: first-bucket}
  MemoryConfig: {Type: String, Default: ""}
  MemoryConcurrency: {Type: Number, Default: 10}
  ApiKey: {Type: String, Default: none, NoEcho: true}
Mappings:
  Constants: {Queue: {VisibilitySeconds: 5}}
Resources:
  Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref BucketName}}
  BucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument:
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: "s3:*"
            Resource: !Sub "${Bucket.Arn}/*"
            Condition: {Bool: {"aws:SecureTransport": "false"}}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: !FindInMap [Constants, Queue, VisibilitySeconds]}
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {GenerateSecretString: {PasswordLength: 64, ExcludePunctuation: true}}
  Api: {Type: AWS::Serverless::HttpApi}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Handler: ingest.handler.lambda_handler
      Runtime: python3.13
      Environment: {Variables: {BUCKET: !Ref Bucket, CONCURRENCY: !Ref MemoryConcurrency}}
      Policies: [{Statement: [{Effect: Allow, Action: "s3:PutObject", Resource: !Sub "${Bucket.Arn}/allowed/*"}]}]
      Events:
        Post: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: /post-call}}
        Message:
          Type: SQS
          Properties: {Queue: !GetAtt Queue.Arn, ScalingConfig: {MaximumConcurrency: !Ref MemoryConcurrency}}
Outputs:
  PostCallUrl: {Value: !Sub "${Api.ApiEndpoint}/post-call"}
  WebhookSecretArn: {Value: !GetAtt Secret.Id}
  BucketName: {Value: !Ref Bucket}
  QueueUrl: {Value: !Ref Queue}
  MemoryConfig: {Value: !Ref MemoryConfig}
  MemoryConcurrency: {Value: !Ref MemoryConcurrency}
  ApiKey: {Value: !Ref ApiKey}
  VisibilitySeconds: {Value: !FindInMap [Constants, Queue, VisibilitySeconds]}
"""

HANDLER = """
import os
import pathlib
import time
import boto3
from botocore.exceptions import ClientError
from shared.word import WORD

def lambda_handler(event, context):
    key = event["Records"][0]["body"] if "Records" in event else event["body"]
    try:
        boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=key, Body=b"x")
    except ClientError as error:
        return {"statusCode": 403, "body": error.response["Error"]["Code"]}
    if key == "allowed/asleep":
        pathlib.Path(os.environ["HOME"], "asleep").touch()
        time.sleep(60)
    return {"statusCode": 200, "body": WORD + " " + os.environ.get("AWS_PROFILE", "no profile")}
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in {"ingest/handler.py": HANDLER, "shared/word.py": "WORD = 'stored'", "tests/x.py": ""}.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder / "template.yaml"


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture(scope="module")
def outputs(aws: EmbeddedAws, project: Path) -> dict[str, str]:
    return deploy(aws, "first", path=project)


class Cli:
    """`python -m scripts.local` in a process of its own, with its temporary files in a folder of its own."""

    def __init__(self, template: Path, folder: Path, stdin: str = "", **environment: str) -> None:
        self.folder = folder
        self.outputs = folder / "out" / "outputs.json"
        command = ["-m", "scripts.local", "--template", str(template), "--outputs", str(self.outputs)]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder), "LOCAL_PORT": str(unused_port())} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.process.stdin = None  # so that `communicate` does not flush it

    def wait_for_outputs(self) -> dict[str, str]:
        wait_until(lambda: self.outputs.exists() or self.process.poll() is not None)
        return dict(json.loads(self.outputs.read_text()))

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Exit code and what it said on stderr, after the signal if there is one."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def server(self) -> int:
        (pid_file,) = self.folder.glob("embedded-aws-*/ministack-*.pid")
        return int(pid_file.read_text())

    def leftovers(self) -> list[Path]:
        return list(self.folder.glob("embedded-aws-*"))


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Callable[..., Cli]]:
    started: list[Cli] = []

    def run(**environment: str) -> Cli:
        started.append(Cli(project, tmp_path, **environment))
        return started[-1]

    yield run
    for cli in started:
        if cli.process.poll() is None:
            cli.end(signal.SIGKILL)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "waited 30 s"
        time.sleep(0.05)


def post(url: str, body: str) -> tuple[int, str]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "text/plain"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


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


def test_only_the_emulators_copy_of_the_template_is_rewritten(project: Path) -> None:
    template = translate(project)
    before = json.dumps(template)

    resources = emulate(template, {}, "http://127.0.0.1:9")["Resources"].values()
    routes = [each for each in resources if each["Type"] == "AWS::ApiGatewayV2::Route"]

    assert [route["Properties"]["RouteKey"] for route in routes] == ["POST /post-call"]
    assert json.dumps(template) == before
    assert "Body" in template["Resources"]["Api"]["Properties"]
    assert "aws:SecureTransport" in before


def test_a_template_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: {F: {Type: AWS::Serverless::Function, Properties: {}}}")

    with pytest.raises(TemplateError, match=r"template\.yaml: .*F"):
        translate(tmp_path / "template.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", {}), ("A=1 B=2", {"A": "1", "B": "2"}), ("A='a b' B=x=y", {"A": "a b", "B": "x=y"}), ("A=", {"A": ""})],
    ids=["none", "two", "quotes and equals sign", "empty value"],
)
def test_parameters_are_read_as_a_shell_would(text: str, expected: dict[str, str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("text", ["A", "=1", "A='"])
def test_parameters_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(OpsError, match="PARAMETERS"):
        split(text)


def test_a_secret_parameter_that_says_ask_is_read_from_standard_input(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk_1=2\nnot read\n"))

    asked = ask_for_secrets({"ApiKey": "ask", "BucketName": "ask"}, project)

    assert asked == {"ApiKey": "sk_1=2", "BucketName": "ask"}


@pytest.mark.parametrize("given", ["", "\n"], ids=["end", "empty line"])
def test_a_secret_parameter_that_is_asked_for_in_vain_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))

    with pytest.raises(OpsError, match=r"^ApiKey=ask: nothing was given\.$"):
        ask_for_secrets({"ApiKey": "ask"}, project)


def test_a_secret_that_is_typed_is_not_shown() -> None:
    code = (
        "from scripts.local import TEMPLATE, ask_for_secrets\n"
        "print(ask_for_secrets({'Mem0ApiKey': 'ask', 'LogLevel': 'DEBUG'}, TEMPLATE))"
    )

    shown, came = type_hidden(code, b"m0-typed\n")

    assert shown.startswith(b"Mem0ApiKey: ")
    assert b"m0-typed" not in shown
    assert came == "{'Mem0ApiKey': 'm0-typed', 'LogLevel': 'DEBUG'}"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="LOCAL_PORT"):
        read_port({"LOCAL_PORT": text})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_outputs_appear_when_the_stack_answers_and_nothing_is_left_after_a_signal(
    start: Callable[..., Cli], number: int
) -> None:
    cli = start(AWS_PROFILE="missing")
    outputs = cli.wait_for_outputs()
    assert post(outputs["PostCallUrl"], "allowed/a") == (200, "stored no profile")
    server = cli.server()

    code, said = cli.end(number)

    assert (code, cli.outputs.exists(), cli.leftovers()) == (0, False, []), said
    assert not group_exists(server)


@pytest.mark.parametrize(("before", "said"), [("SIG_DFL", ""), ("SIG_IGN", "still up\n")], ids=["else", "nohup"])
def test_a_run_under_nohup_outlives_its_terminal(before: str, said: str) -> None:
    code = (
        f"import os, signal; signal.signal(signal.SIGHUP, signal.{before}); from scripts.local import stop_on_signals\n"
        "stop_on_signals(); os.kill(os.getpid(), signal.SIGHUP); print('still up')"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == said


def test_a_killed_run_leaves_neither_files_nor_functions_at_work(start: Callable[..., Cli]) -> None:
    cli = start()
    url = urlsplit(cli.wait_for_outputs()["PostCallUrl"])
    server = cli.server()
    with closing(http.client.HTTPConnection(url.netloc)) as caller:  # waits for no answer
        caller.request("POST", url.path, "allowed/asleep", {"Content-Type": "text/plain"})
        wait_until(lambda: any(cli.folder.glob("embedded-aws-*/asleep")))

        cli.end(signal.SIGKILL)

    wait_until(lambda: not group_exists(server))
    assert cli.leftovers() == []


def test_a_secret_reaches_the_stack_without_being_in_the_command_or_its_environment(start: Callable[..., Cli]) -> None:
    cli = start(stdin="sk_typed\n", PARAMETERS="ApiKey=ask")

    assert cli.wait_for_outputs()["ApiKey"] == "sk_typed"


def test_an_emulator_that_dies_ends_the_run(start: Callable[..., Cli]) -> None:
    cli = start()
    cli.wait_for_outputs()

    os.kill(cli.server(), signal.SIGKILL)
    code, said = cli.end()

    assert (code, cli.outputs.exists(), cli.leftovers()) == (1, False, [])
    assert "ended by itself" in said


def test_a_busy_port_ends_the_run_with_a_sentence(start: Callable[..., Cli]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        code, said = start(LOCAL_PORT=str(port)).end()

    assert code == 2
    assert said.strip().splitlines() == [f"Port {port} is in use or not allowed: choose another one with LOCAL_PORT."]


def test_a_second_run_is_refused_names_the_first_and_leaves_its_outputs(start: Callable[..., Cli]) -> None:
    first = start()
    outputs = first.wait_for_outputs()

    code, said = start().end()

    assert code == 2
    assert said.strip().splitlines() == [
        f"make local runs already: process {first.process.pid}, {outputs['AwsEndpointUrl']}. "
        "Use it, or end it with Ctrl-C before you start another one."
    ]
    assert json.loads(first.outputs.read_text()) == outputs
    assert post(outputs["PostCallUrl"], "allowed/still-up") == (200, "stored no profile")


def test_a_run_that_was_killed_does_not_keep_others_from_starting(start: Callable[..., Cli]) -> None:
    killed = start()
    first = killed.wait_for_outputs()
    killed.end(signal.SIGKILL)

    assert killed.outputs.exists()
    again = start()
    wait_until(lambda: again.outputs.exists() and json.loads(again.outputs.read_text()) != first)

    assert again.end(signal.SIGTERM)[0] == 0
    assert not again.outputs.exists()


def test_a_wrong_parameter_ends_the_run_without_outputs_even_those_of_a_killed_run(
    start: Callable[..., Cli], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "outputs.json").write_text("{}")
    cli = start(PARAMETERS="Buckt=x")

    code, said = cli.end()

    assert (code, cli.outputs.exists(), cli.leftovers()) == (2, False, [])
    assert "No such parameter: Buckt." in said


def test_a_wrong_value_of_a_constant_ends_the_run_with_a_sentence(start: Callable[..., Cli]) -> None:
    code, said = start(PARAMETERS="VisibilitySeconds=soon").end()

    assert code == 2
    assert said.strip().splitlines()[-1] == "VisibilitySeconds must be a whole number, not 'soon'."
