"""What listens on loopback, asked as programs ask and as a web page can make a browser ask."""

import http.client
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.deployment import deploy
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.embedded.loopback import REFUSAL
from tests.mem0_stand_in import HostedMem0

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Api: {Type: AWS::Serverless::HttpApi}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Handler: ingest.handler.lambda_handler
      Runtime: python3.13
      Events:
        Any: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: ANY, Path: /post-call}}
Outputs:
  PostCallUrl: {Value: !Sub "${Api.ApiEndpoint}/post-call"}
"""
HANDLER = """
import os
import pathlib

def lambda_handler(event, context):
    pathlib.Path(os.environ["HOME"], "ran").touch()
    return {"statusCode": 200, "body": "ran", "headers": {"Access-Control-Allow-Origin": "*"}}
"""
STACK = '{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}'
HOST = "Host: 127.0.0.1:{port}"
# What a browser sends for a page of another site, or for a name that was pointed to loopback.
FROM_A_PAGE = {
    "origin": [HOST, "Origin: https://evil.example"],
    "origin null": [HOST, "Origin: null"],
    "origin in capitals": [HOST, "ORIGIN: https://evil.example"],
    "doubled origin": [HOST, "Origin: http://127.0.0.1:{port}", "Origin: https://evil.example"],
    "another page of loopback": [HOST, "Origin: http://127.0.0.1:{port}"],
    "cross-site": [HOST, "Sec-Fetch-Site: cross-site"],
    "same-site": [HOST, "Sec-Fetch-Site: same-site"],
    "an object of the bucket as a page": [HOST, "Sec-Fetch-Site: same-origin"],
    "a link that was redirected": [HOST, "Sec-Fetch-Site: none"],
    "fetch metadata without a site": [HOST, "Sec-Fetch-Mode: no-cors"],
    "an older browser": [
        HOST,
        "User-Agent: Mozilla/5.0 (Macintosh) Version/15.6 Safari/605.1.15",
    ],
    "a browser that hides its name": [HOST, "User-Agent: x", "Accept-Language: en-GB"],
    "an image of a page": [HOST, "Referer: https://evil.example/"],
    "rebound name": ["Host: evil.example"],
    "rebound name with port": ["Host: evil.example:{port}"],
    "loopback as a subdomain": ["Host: 127.0.0.1.evil.example"],
    "name that begins alike": ["Host: localhostevil.example:{port}"],
    "user and password": ["Host: localhost:{port}@evil.example"],
    "every address": ["Host: 0.0.0.0:{port}"],
    "empty host": ["Host: "],
    "forwarded host": ["Host: evil.example", "X-Forwarded-Host: 127.0.0.1:{port}"],
}
LOOPBACK = ["127.0.0.1", "127.0.0.1:{port}", "localhost", "localhost:{port}", "LocalHost:1", "[::1]", "[::1]:{port}"]
by_page = pytest.mark.parametrize("headers", FROM_A_PAGE.values(), ids=FROM_A_PAGE)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture(scope="module")
def s3(aws: EmbeddedAws) -> Any:
    client = aws.client("s3")
    client.create_bucket(Bucket="calls")
    return client


@pytest.fixture(scope="module")
def sqs(aws: EmbeddedAws) -> Any:
    return aws.client("sqs")


@pytest.fixture(scope="module")
def cloudformation(aws: EmbeddedAws) -> Any:
    return aws.client("cloudformation")


@pytest.fixture(scope="module")
def post_call_url(aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("project")
    (folder / "ingest").mkdir()
    (folder / "ingest" / "handler.py").write_text(HANDLER)
    (folder / "template.yaml").write_text(TEMPLATE)
    return deploy(aws, "first", path=folder / "template.yaml")["PostCallUrl"]


@pytest.fixture
def ran(aws: EmbeddedAws) -> Path:
    """The file that the function leaves when it runs."""
    (aws.folder / "ran").unlink(missing_ok=True)
    return aws.folder / "ran"


@pytest.fixture
def queue_url(sqs: Any) -> Iterator[str]:
    url = sqs.create_queue(QueueName="calls")["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


def ask(port: int, line: str, *headers: str, body: str = "") -> tuple[int, http.client.HTTPMessage, str]:
    """Send a request to the letter; return the answer's status, headers and body."""
    lines = [line, *headers, f"Content-Length: {len(body)}"]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(("\r\n".join(lines).replace("{port}", str(port)) + "\r\n\r\n" + body).encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.headers, answer.read().decode()


def target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path


def presigned_put(s3: Any, key: str) -> str:
    return target(s3.generate_presigned_url("put_object", Params={"Bucket": "calls", "Key": key}))


def signed_query(aws: EmbeddedAws, service: str, **parameters: str) -> str:
    """A request of a query API as a GET, which an image in a page is enough to send."""
    request = AWSRequest("GET", f"{aws.endpoint_url}/?{urlencode(parameters, quote_via=quote)}")
    SigV4QueryAuth(Credentials(ROOT_KEY, ROOT_KEY), service, REGION).add_auth(request)
    return target(request.prepare().url)


def test_presigned_urls_and_query_apis_work_for_programs(
    aws: EmbeddedAws, s3: Any, sqs: Any, cloudformation: Any, queue_url: str
) -> None:
    put = presigned_put(s3, "by-program")
    send = signed_query(aws, "sqs", Action="SendMessage", QueueUrl=queue_url, MessageBody="x")
    make = signed_query(aws, "cloudformation", Action="CreateStack", StackName="by-program", TemplateBody=STACK)

    answers = [ask(aws.port, f"PUT {put} HTTP/1.1", HOST, "User-Agent: curl/8.5", body="x")]
    answers += [ask(aws.port, f"GET {each} HTTP/1.1", HOST, "User-Agent: curl/8.5") for each in (send, make)]

    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert s3.get_object(Bucket="calls", Key="by-program")["Body"].read() == b"x"
    assert "Messages" in sqs.receive_message(QueueUrl=queue_url)
    assert cloudformation.describe_stacks(StackName="by-program")["Stacks"]


@by_page
def test_no_page_writes_an_object(aws: EmbeddedAws, s3: Any, headers: list[str]) -> None:
    status, _, said = ask(aws.port, f"PUT {presigned_put(s3, 'by-page')} HTTP/1.1", *headers, body="x")

    assert (status, said) == (403, REFUSAL)
    assert s3.list_objects_v2(Bucket="calls", Prefix="by-page")["KeyCount"] == 0


@by_page
def test_no_page_sends_a_message(aws: EmbeddedAws, sqs: Any, queue_url: str, headers: list[str]) -> None:
    send = signed_query(aws, "sqs", Action="SendMessage", QueueUrl=queue_url, MessageBody="x")

    status, _, said = ask(aws.port, f"GET {send} HTTP/1.1", *headers)

    assert (status, said) == (403, REFUSAL)
    assert "Messages" not in sqs.receive_message(QueueUrl=queue_url)


@by_page
def test_no_page_makes_a_stack(aws: EmbeddedAws, cloudformation: Any, headers: list[str]) -> None:
    make = signed_query(aws, "cloudformation", Action="CreateStack", StackName="by-page", TemplateBody=STACK)

    status, _, said = ask(aws.port, f"GET {make} HTTP/1.1", *headers)

    assert (status, said) == (403, REFUSAL)
    with pytest.raises(ClientError, match="by-page does not exist"):
        cloudformation.describe_stacks(StackName="by-page")


@by_page
def test_no_page_runs_a_function(aws: EmbeddedAws, post_call_url: str, ran: Path, headers: list[str]) -> None:
    status, _, said = ask(aws.port, f"POST {target(post_call_url)} HTTP/1.1", *headers, body="x")

    assert (status, said) == (403, REFUSAL)
    assert not ran.exists()


@pytest.mark.parametrize("host", LOOPBACK)
def test_every_name_of_loopback_reaches_the_function(
    aws: EmbeddedAws, post_call_url: str, ran: Path, host: str
) -> None:
    status, _, said = ask(aws.port, f"POST {target(post_call_url)} HTTP/1.1", f"hOST: {host}", body="x")

    assert (status, said, ran.exists()) == (200, "ran", True)


@pytest.mark.parametrize("path", ["/calls/key", "/", "/_ministack/config", "execute-api"])
def test_a_preflight_is_refused(aws: EmbeddedAws, post_call_url: str, ran: Path, path: str) -> None:
    path = target(post_call_url) if path == "execute-api" else path
    wanted = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Private-Network: true"]

    answers = [
        ask(aws.port, f"OPTIONS {path} HTTP/1.1", HOST, *origin, *wanted)
        for origin in ([], ["Origin: https://evil.example"])
    ]

    assert [(status, said) for status, _, said in answers] == [(403, REFUSAL)] * 2
    assert not ran.exists()


def test_no_answer_invites_pages(aws: EmbeddedAws, post_call_url: str) -> None:
    stacks = signed_query(aws, "cloudformation", Action="DescribeStacks")
    answers = [ask(aws.port, f"GET {path} HTTP/1.1", HOST) for path in (stacks, target(post_call_url), "/nothing")]
    answers += [ask(aws.port, "OPTIONS / HTTP/1.1", HOST, "Origin: https://evil.example")]

    names = {name.lower() for _, headers, _ in answers for name in headers}

    assert "content-length" in names
    assert not {name for name in names if name.startswith("access-control-")}


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("POST {target} HTTP/1.0", []),
        ("POST {target} HTTP/1.1", []),
        ("POST {target} HTTP/1.1", [HOST, HOST]),
        ("POST {target} HTTP/1.1", [HOST, "Host: evil.example"]),
        ("POST http://evil.example{target} HTTP/1.1", [HOST]),
        ("POST http://127.0.0.1:{port}{target} HTTP/1.1", [HOST]),
        ("CONNECT 127.0.0.1:{port} HTTP/1.1", [HOST]),
    ],
    ids=["no host", "no host in 1.1", "doubled", "two hosts", "absolute", "absolute to loopback", "proxy"],
)
def test_a_request_that_does_not_say_where_to_is_refused(
    aws: EmbeddedAws, post_call_url: str, ran: Path, line: str, headers: list[str]
) -> None:
    status, _, _ = ask(aws.port, line.replace("{target}", target(post_call_url)), *headers, body="x")

    assert status in (400, 403)  # 400 by the server itself, which wants one Host in HTTP/1.1
    assert not ran.exists()


@pytest.mark.parametrize(
    ("upgrade", "preface", "answer"),
    [
        (
            ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            b"HTTP/1.1 101",
        ),
        (
            [
                "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==",
            ],
            b"",
            b"HTTP/1.1 403",
        ),
    ],
    ids=["HTTP/2", "WebSocket"],
)  # fmt: skip
def test_an_upgrade_goes_round_no_check(
    aws: EmbeddedAws, post_call_url: str, ran: Path, upgrade: list[str], preface: bytes, answer: bytes
) -> None:
    lines = [f"GET {target(post_call_url)} HTTP/1.1", HOST, "Origin: https://evil.example", *upgrade]
    with socket.create_connection(("127.0.0.1", aws.port), timeout=20) as connection:
        connection.sendall(("\r\n".join(lines).replace("{port}", str(aws.port)) + "\r\n\r\n").encode() + preface)
        said = connection.recv(4096)

    assert said.startswith(answer)
    ask(aws.port, "GET /_ministack/health HTTP/1.1", HOST)  # it has seen the other request by now
    assert not ran.exists()


@by_page
def test_a_page_reaches_neither_stand_in(headers: list[str]) -> None:
    with ElevenLabs() as elevenlabs, HostedMem0() as mem0:
        doors: dict[str, Callable[[], int]] = {
            elevenlabs.url: lambda: len(elevenlabs.requests),
            mem0.url: lambda: len(mem0.requests),
        }
        for url, count in doors.items():
            port = urlsplit(url).port
            assert port is not None
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                status, _, said = ask(port, f"{method} /v1/ping/ HTTP/1.1", *headers, body="{}")

                assert (status, said, count()) == (403, REFUSAL, 0)


def test_a_refused_body_is_not_read_as_a_request() -> None:
    hidden = "GET /v1/convai/conversations HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with ElevenLabs() as api:
        port = urlsplit(api.url).port
        assert port is not None

        status, _, _ = ask(port, "POST / HTTP/1.1", HOST, "Origin: https://evil.example", body=hidden)

        assert (status, api.requests) == (403, [])
