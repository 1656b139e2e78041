"""Who may read calls at ApiUrl, and what the function that reads them may do."""

import json
import re

import pytest

from tests.alarms import Deployed
from tests.options import OPTIONS, WITH_ALL_FUNCTIONS
from tests.template.stacks import PLACE, Json, rights

TOKENS = {"JwtIssuer": "https://issuer.example/pool", "JwtAudience": "app-1,app-2"}
ROUTES = {
    "/calls", "/calls/{id}", "/calls/{id}/transcript", "/calls/{id}/audio", "/calls/{id}/json", "/callers/{number}",
    "/search", "/stats",
}  # fmt: skip


def body(**parameters: str) -> Json:
    return dict(Deployed(**parameters, **PLACE).of("AWS::ApiGatewayV2::Api")["ReadApi"]["Body"])


@pytest.mark.parametrize(
    ("parameters", "scheme"),
    [
        pytest.param({}, {"type": "apiKey", "name": "Authorization", "in": "header",
                          "x-amazon-apigateway-authtype": "awsSigv4"}, id="IAM"),
        pytest.param(TOKENS, {"type": "oauth2", "x-amazon-apigateway-authorizer": {
            "type": "jwt", "identitySource": "$request.header.Authorization",
            "jwtConfiguration": {"issuer": "https://issuer.example/pool", "audience": ["app-1", "app-2"]},
        }}, id="tokens"),
    ],
)  # fmt: skip
def test_every_route_is_closed_but_for_iam_or_tokens(parameters, scheme):
    api = body(**parameters)

    assert api["components"]["securitySchemes"] == {"reader": scheme}
    assert set(api["paths"]) == ROUTES
    for methods in api["paths"].values():
        assert set(methods) == {"get"}
        assert methods["get"]["security"] == [{"reader": []}]
        assert "functions/ReadFunction.Arn/" in methods["get"]["x-amazon-apigateway-integration"]["uri"]


def test_other_sites_may_not_read_the_answers():
    api = Deployed().of("AWS::ApiGatewayV2::Api")["ReadApi"]

    assert "CorsConfiguration" not in api
    assert "cors" not in json.dumps(api).lower()


def test_readers_are_throttled_apart_from_webhooks():
    stages = {
        each["ApiId"]: each["DefaultRouteSettings"] for each in Deployed().of("AWS::ApiGatewayV2::Stage").values()
    }

    assert stages["ReadApi"] == {"ThrottlingRateLimit": 50, "ThrottlingBurstLimit": 100}
    assert stages["Api"]["ThrottlingRateLimit"] > 50


def test_the_access_log_says_who_asked_for_which_route_and_holds_no_number():
    """A path or a query may hold a phone number; a route key and an error of the API's gateway cannot."""
    (stage,) = (each for each in Deployed().of("AWS::ApiGatewayV2::Stage").values() if each["ApiId"] == "ReadApi")
    written = stage["AccessLogSettings"]["Format"]

    named = set(re.findall(r"\$context\.([\w.]+)", written))

    assert {"routeKey", "status", "identity.userArn", "authorizer.claims.sub", "requestId"} <= named
    assert not {"path", "httpMethod", "integrationErrorMessage", "identity.userAgent"} & named
    assert set(json.loads(written)) >= {"route", "status", "userArn", "sub"}


def test_the_function_answers_before_the_api_gives_up():
    assert Deployed().of("AWS::Lambda::Function")["ReadFunction"]["Timeout"] < 30


@pytest.mark.parametrize("parameters", [{}, OPTIONS["a key of the user's"] | WITH_ALL_FUNCTIONS], ids=["alone", "all"])
def test_the_function_that_reads_writes_nothing_but_its_log(parameters):
    allowed = {
        action for statement in rights(**parameters)["ReadRole"] for action in statement["Action"]
        if statement["Effect"] == "Allow"
    }  # fmt: skip

    writes = {action for action in allowed if not re.match(r"\w+:(Get|Query|BatchGet|List|Decrypt)", action)}
    assert writes == {"logs:CreateLogStream", "logs:PutLogEvents", "athena:StartQueryExecution"}


def test_the_function_that_reads_is_denied_raw_payloads():
    denied = [each for each in rights()["ReadRole"] if each["Effect"] == "Deny"]

    working = ["Bucket.Arn/staging/*", "Bucket.Arn/transcribe/*"]
    assert [(each["Action"], each["Resource"]) for each in denied] == [(["s3:GetObject"], working)]


@pytest.mark.parametrize(
    ("parameters", "arn"),
    [({}, ""), ({"Mem0ApiKey": "m0-test"}, "MemorySecret.Id"), ({"MemoryBackend": "oss", "MemoryConfig": "{}"}, "")],
    ids=["no memories", "platform", "open source"],
)
def test_the_function_reads_memories_only_from_the_hosted_platform(parameters, arn):
    stack = Deployed(**parameters)
    secrets = [each["Resource"] for each in rights(**parameters)["ReadRole"] if "secretsmanager" in str(each["Action"])]

    assert stack.of("AWS::Lambda::Function")["ReadFunction"]["Environment"]["Variables"]["MEMORY_SECRET_ARN"] == arn
    assert secrets == ([[arn]] if arn else [])
