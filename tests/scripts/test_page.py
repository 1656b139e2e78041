"""The page on loopback: what it serves, to whom, and how it asks the API."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from boto3.session import Session

from scripts.api_client import Api
from scripts.page import Page
from tests.raw_host import RawHost

POLICY = "default-src 'none'; script-src 'self'"
INDEX = f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}"><script src="app.js"></script>'


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "vendor").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app.js").write_text("// the page")
    (folder / "vendor/chart.css").write_text("/* chart */")
    (tmp_path / "secret.txt").write_text("not for the page")
    return folder


@pytest.fixture
def api() -> Iterator[RawHost]:
    with RawHost(b'{"calls": []}') as host:
        yield host


@pytest.fixture
def page(api: RawHost, web: Path) -> Iterator[Page]:
    with Page(Api(api.url, Session("AKIATEST", "secret", region_name="us-east-1")), web=web) as page:
        yield page


def ask(page: Page, target: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to a request exactly as it is written here."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(page.url).port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, target, skip_host="Host" in named)
    for name, value in named.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def problem(content: bytes) -> dict[str, Any]:
    return dict(json.loads(content))


@pytest.mark.parametrize(
    ("target", "content", "content_type"),
    [
        ("/", INDEX, "text/html; charset=utf-8"),
        ("/index.html?x=1", INDEX, "text/html; charset=utf-8"),
        ("/app.js", "// the page", "text/javascript; charset=utf-8"),
        ("/vendor/chart.css", "/* chart */", "text/css; charset=utf-8"),
    ],
)
def test_the_files_of_the_page_are_served_with_their_type(
    page: Page, target: str, content: str, content_type: str
) -> None:
    answer, body = ask(page, target)

    assert (answer.status, answer.headers["Content-Type"], body.decode()) == (200, content_type, content)


@pytest.mark.parametrize("target", ["/../secret.txt", "/%2e%2e/secret.txt", "//secret.txt", "/vendor", "/nothing"])
def test_no_other_file_is_served(page: Page, target: str) -> None:
    answer, body = ask(page, target)

    assert answer.status == 404
    assert problem(body)["title"] == "Not Found"


@pytest.mark.parametrize(
    "target",
    ["/api/", "/api", "/api/events", "/api/../calls", "/api/calls/../x", "/api/calls/%2e%2e/x", "/api//calls",
     "/api/calls/a%2fb", "/api/calls\\x", "/api/calls/a;b", "/api/calls/a#b", "/[::1/api/calls"],
)  # fmt: skip
def test_nothing_else_of_the_api_is_asked_for(page: Page, api: RawHost, target: str) -> None:
    answer, _ = ask(page, target)

    assert answer.status == 404
    assert api.requests == []


@pytest.mark.parametrize("target", ["/", "/app.js", "/api/calls", "/nothing"])
def test_every_answer_tells_the_browser_to_be_strict(page: Page, target: str) -> None:
    headers = ask(page, target)[0].headers

    assert headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if name.lower().startswith("access-control-")]


def test_the_api_is_asked_for_the_same_with_the_operators_signature(page: Page, api: RawHost) -> None:
    answer, body = ask(page, "/api/calls?caller=%2B12025550123&text=a%20b")

    assert (answer.status, body) == (200, b'{"calls": []}')
    assert api.requests == ["GET /calls?caller=%2B12025550123&text=a%20b"]
    (headers,) = api.headers_received
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/")
    assert "/us-east-1/execute-api/aws4_request" in headers["Authorization"]


def test_a_browsers_headers_are_not_passed_on(page: Page, api: RawHost) -> None:
    ask(page, "/api/calls", Cookie="session=1", Authorization="Bearer other", Accept_Language="de")

    (headers,) = api.headers_received
    assert "Cookie" not in headers
    assert headers["Authorization"].startswith("AWS4")


@pytest.mark.parametrize("target", ["/", "/app.js", "/api/calls"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1:1", "[::1]", ""])
def test_another_name_for_this_machine_is_refused(page: Page, api: RawHost, target: str, host: str) -> None:
    """An attacker's name that points to 127.0.0.1 (DNS rebinding)."""
    answer, body = ask(page, target, Host=host)

    assert answer.status == 403
    assert "only its own requests" in problem(body)["detail"]
    assert api.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "https://evil.example"}, id="origin"),
        pytest.param({"Origin": "null"}, id="no origin at all"),
        pytest.param({"Origin": "http://127.0.0.1:1"}, id="another port"),
        pytest.param({"Sec_Fetch_Site": "cross-site"}, id="cross-site"),
        pytest.param({"Sec_Fetch_Site": "same-site"}, id="another port of the same site"),
    ],
)
def test_another_site_cannot_ask_for_calls(page: Page, api: RawHost, headers: dict[str, str]) -> None:
    answer, _ = ask(page, "/api/calls", **headers)

    assert answer.status == 403
    assert api.requests == []


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_the_page_itself_may_ask(page: Page, name: str) -> None:
    host = f"{name}:{urlsplit(page.url).port}"

    answer, _ = ask(page, "/api/calls", Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")

    assert answer.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(page: Page, api: RawHost, method: str) -> None:
    assert ask(page, "/api/calls", method)[0].status == 501
    assert api.requests == []


def test_head_has_no_body(page: Page) -> None:
    answer, body = ask(page, "/", "HEAD")

    assert (answer.status, answer.headers["Content-Length"], body) == (200, str(len(INDEX)), b"")


def test_problems_of_the_api_reach_the_page_as_they_are(page: Page, api: RawHost) -> None:
    api.status, api.body = 404, b'{"title": "Not Found", "status": 404, "detail": "No such call."}'
    api.headers["Content-Type"] = "application/problem+json"

    answer, body = ask(page, "/api/calls/conv_1")

    assert (answer.status, answer.headers["Content-Type"], body) == (404, "application/problem+json", api.body)


@pytest.mark.parametrize(
    ("status", "told"),
    [(403, "execute-api:Invoke"), (404, "nothing at this address"), (429, "try again"), (503, "try again"), (500, "")],
)
def test_what_the_apis_gateway_says_becomes_a_problem_with_what_to_do(
    page: Page, api: RawHost, status: int, told: str
) -> None:
    api.status, api.body = status, b'{"message": "Something"}'

    answer, body = ask(page, "/api/calls")

    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert problem(body)["status"] == status
    assert told in problem(body)["detail"]


def test_an_api_that_cannot_be_reached_is_a_problem(web: Path) -> None:
    with Page(Api("http://127.0.0.1:9", Session("AKIATEST", "secret", region_name="us-east-1")), web=web) as page:
        answer, body = ask(page, "/api/calls")

    assert answer.status == 502
    assert "cannot be reached" in problem(body)["detail"]


def test_missing_credentials_are_a_problem_that_says_what_to_do(
    api: RawHost, web: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")

    with Page(Api(api.url, Session(region_name="us-east-1")), web=web) as page:
        answer, body = ask(page, "/api/calls")

    assert answer.status == 502
    assert "sign in" in problem(body)["detail"]
    assert api.requests == []


def test_credentials_that_changed_sign_the_next_request(api: RawHost, web: Path) -> None:
    """As those of a role do when they are renewed."""
    session = Session("AKIAFIRST", "secret", region_name="us-east-1")
    with Page(Api(api.url, session), web=web) as page:
        ask(page, "/api/calls")
        session._session.set_credentials("AKIASECOND", "secret")
        ask(page, "/api/calls")

    first, second = (headers["Authorization"] for headers in api.headers_received)
    assert "AKIAFIRST/" in first
    assert "AKIASECOND/" in second


@pytest.fixture
def local_page(api: RawHost, web: Path) -> Iterator[Page]:
    """The page of a stack on the embedded AWS, whose bucket does not answer browsers."""
    session = Session("test", "test", region_name="us-east-1")
    with Page(Api(api.url, session), web=web, bucket_url=f"{api.url}/calls-bucket") as page:
        yield page


def test_on_the_embedded_aws_the_page_hands_recordings_on(local_page: Page, api: RawHost) -> None:
    signed = {"url": f"{api.url}/calls-bucket/12025550123/conv_1.mp3?X-Amz-Signature=0", "expires_at": "later"}
    api.body = json.dumps(signed).encode()

    found = problem(ask(local_page, "/api/calls/conv_1/audio")[1])
    api.body, api.status, api.headers = b"ID3", 206, {"Content-Type": "audio/mpeg", "Content-Range": "bytes 0-2/9"}
    answer, sound = ask(local_page, found["url"].removeprefix(local_page.url.rstrip("/")), Range="bytes=0-2")

    assert found == signed | {"url": f"{local_page.url}files/12025550123/conv_1.mp3?X-Amz-Signature=0"}
    assert (answer.status, answer.headers["Content-Range"], sound) == (206, "bytes 0-2/9", b"ID3")
    assert api.requests[-1] == "GET /calls-bucket/12025550123/conv_1.mp3?X-Amz-Signature=0"
    assert api.headers_received[-1]["Range"] == "bytes=0-2"


def test_another_site_cannot_ask_for_a_recording(local_page: Page, api: RawHost) -> None:
    assert ask(local_page, "/files/12025550123/conv_1.mp3", Sec_Fetch_Site="cross-site")[0].status == 403
    assert api.requests == []


def test_on_aws_the_page_hands_no_files_on(page: Page) -> None:
    assert ask(page, "/files/12025550123/conv_1.mp3")[0].status == 404
