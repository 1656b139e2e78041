"""Who may ask an HTTP API on the embedded AWS: the routes are as closed as on AWS."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.deployment import deploy
from scripts.embedded.signatures import is_recent

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Conditions: {HasTokens: !Equals [a, b]}
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefinitionBody:
        openapi: 3.0.1
        paths:
          /calls/{id}:
            get: &read
              security: [{reader: []}]
              x-amazon-apigateway-integration: {type: aws_proxy, payloadFormatVersion: "2.0", uri: !GetAtt Function.Arn}
          /callers/{number}/calls: {get: *read}
        components:
          securitySchemes:
            reader: !If
              - HasTokens
              - type: oauth2
                x-amazon-apigateway-authorizer:
                  type: jwt
                  identitySource: $request.header.Authorization
                  jwtConfiguration: {issuer: a, audience: [b]}
              - {type: apiKey, name: Authorization, in: header, x-amazon-apigateway-authtype: awsSigv4}
  Function:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ., Handler: api.handler.lambda_handler, Runtime: python3.13}
Outputs:
  ApiUrl: {Value: !Sub "${Api.ApiEndpoint}"}
"""
HANDLER = """
def lambda_handler(event, context):
    return {"who": event["requestContext"]["authorizer"]["iam"]["userArn"], "parameters": event["pathParameters"]}
"""
CLAIM = "AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, "


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading")
    (folder / "api").mkdir()
    (folder / "api/handler.py").write_text(HANDLER)
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder / "template.yaml"


@pytest.fixture(scope="module")
def url(aws: EmbeddedAws, path: Path) -> str:
    return deploy(aws, "one", path=path)["ApiUrl"]


@pytest.fixture(scope="module")
def other_url(aws: EmbeddedAws, path: Path) -> str:
    return deploy(aws, "other", path=path)["ApiUrl"]


def signature(
    url: str, key: str = "test", secret: str = "test", service: str = "execute-api", region: str = "us-east-1"
) -> dict[str, str]:
    """The headers of a signed request."""
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials(key, secret), service, region).add_auth(request)
    return dict(request.headers)


def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("/calls/conv_1", {"id": "conv_1"}),
        ("/calls/conv_1?limit=2&from=2026-11-22T10%3A00%3A00Z&text=a%20b", {"id": "conv_1"}),
        ("/callers/%2B12025550123/calls", {"number": "+12025550123"}),
    ],
    ids=["plain", "query", "escapes in the path"],
)
def test_a_signed_request_reaches_the_function_and_says_who_asks(url: str, target: str, parameters: Any) -> None:
    answer = get(url + target, signature(url + target))

    assert answer.json() == {"who": "arn:aws:iam::000000000000:root", "parameters": parameters}


def test_a_query_may_be_sent_with_fewer_escapes_than_it_is_signed_with(url: str) -> None:
    signed = signature(f"{url}/calls/conv_1?from=2026-11-22T10%3A00%3A00Z")

    assert get(f"{url}/calls/conv_1?from=2026-11-22T10:00:00Z", signed).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"secret": "wrong"}, id="wrong secret"),
        pytest.param({"key": "AKIAIOSFODNN7EXAMPLE"}, id="unknown key"),
        pytest.param({"service": "s3"}, id="other service"),
        pytest.param({"region": "eu-west-1"}, id="other region"),
        pytest.param({"Authorization": "Basic dGVzdDp0ZXN0"}, id="Basic"),
        pytest.param({"Authorization": "AWS test:AAAA"}, id="signature of old"),
        pytest.param({"Authorization": f"{CLAIM}Signature={'0' * 64}"}, id="made up"),
        pytest.param({"Authorization": f"{CLAIM.replace('host;', '')}Signature={'0' * 64}"}, id="host not signed"),
        pytest.param({"Authorization": "AWS4-HMAC-SHA256 Credential=test/"}, id="broken"),
    ],
)
def test_any_other_request_is_forbidden(url: str, headers: dict[str, str]) -> None:
    target = f"{url}/calls/conv_1"

    answer = get(target, headers if not headers or "Authorization" in headers else signature(target, **headers))

    assert answer.status_code == 403
    assert "who" not in answer.text


@pytest.mark.parametrize("name", ["X-Amz-Credential", "x-amz-creden%74ial", "AWSAccessKeyId"])
@pytest.mark.parametrize("authorization", ["Bearer abc", None])
def test_a_query_that_names_a_key_is_forbidden(url: str, name: str, authorization: str | None) -> None:
    target = f"{url}/calls/conv_1?{name}=test/20261122/us-east-1/execute-api/aws4_request&X-Amz-Signature=00"

    assert get(target, {"Authorization": authorization} if authorization else {}).status_code == 403


@pytest.mark.parametrize("changed", ["/calls/conv_2", "/calls/conv_1?limit=1"], ids=["path", "query"])
def test_a_signature_is_for_one_request_only(url: str, changed: str) -> None:
    assert get(url + changed, signature(f"{url}/calls/conv_1")).status_code == 403


class WithoutHost(SigV4Auth):
    def headers_to_sign(self, request: Any) -> Any:
        headers = super().headers_to_sign(request)
        del headers["host"]
        return headers


def test_a_signature_that_leaves_the_host_out_is_forbidden(url: str) -> None:
    """It would be valid for every API with the same path."""
    request = AWSRequest("GET", f"{url}/calls/conv_1")
    WithoutHost(Credentials("test", "test"), "execute-api", "us-east-1").add_auth(request)

    assert "SignedHeaders=x-amz-date" in request.headers["Authorization"]
    assert get(f"{url}/calls/conv_1", dict(request.headers)).status_code == 403


def test_an_old_signature_is_forbidden(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda: datetime.now(timezone.utc) - timedelta(minutes=16)
    )

    assert get(f"{url}/calls/conv_1", signature(f"{url}/calls/conv_1")).status_code == 403


def test_a_signature_for_another_stack_is_forbidden(url: str, other_url: str) -> None:
    signed = signature(f"{other_url}/calls/conv_1")

    assert get(f"{other_url}/calls/conv_1", signed).status_code == 200
    assert get(f"{url}/calls/conv_1", signed).status_code == 403


def test_a_user_may_ask_what_a_policy_allows_and_no_other_stack(aws: EmbeddedAws, url: str, other_url: str) -> None:
    iam, api = aws.client("iam"), url.rsplit("/", maxsplit=1)[-1]
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    resource = f"arn:aws:execute-api:us-east-1:*:{api}/*/GET/calls/*"
    allowed = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="reader", PolicyName="calls", PolicyDocument=policy)

    def ask(url: str, secret: str = key["SecretAccessKey"]) -> int:
        return get(url, signature(url, key["AccessKeyId"], secret)).status_code

    assert ask(f"{url}/calls/conv_1") == 200
    assert ask(f"{url}/calls/conv_1", "wrong") == 403
    assert ask(f"{url}/callers/12025550123/calls") == 403
    assert ask(f"{other_url}/calls/conv_1") == 403


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0, True), (-15, True), (15, True), (-16, False), (16, False)], ids=str
)
def test_a_signature_is_as_old_as_aws_accepts(minutes: int, expected: bool) -> None:
    now = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)

    assert is_recent((now + timedelta(minutes=minutes)).strftime("%Y%m%dT%H%M%SZ"), now) is expected


@pytest.mark.parametrize("date", ["", "now", "2026-11-22T10:00:00Z"])
def test_a_date_that_is_none_is_not_recent(date: str) -> None:
    assert not is_recent(date, datetime.now(timezone.utc))
