"""Reading on the embedded AWS: a call that was archived is found, read and heard by whoever may, and by nobody else."""

import base64
import gc
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from boto3.session import Session

from scripts.api_client import Answer, Api
from scripts.embedded.deployment import deploy
from scripts.page import Page
from tests.conftest import fixture_body
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until
from tests.test_examples import shown

CALL = json.loads(fixture_body("02"))["data"]
ID, SOUND = CALL["conversation_id"], b"ID3 sound of a call"
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def api(pipeline: Pipeline) -> Api:
    """The API of a stack with one call and its recording, asked with the right key."""
    audio = {"agent_id": CALL["agent_id"], "conversation_id": ID, "full_audio": base64.b64encode(SOUND).decode()}
    envelope = {"type": "post_call_audio", "event_timestamp": 1772550300, "data": audio}
    for body in (fixture_body("02"), json.dumps(envelope).encode()):
        assert pipeline.post(body).status_code == 200
    found = reader(pipeline)
    wait_until(
        lambda: found.get(f"/calls/{ID}").status == 200 and found.get(f"/calls/{ID}").json["audio"] == "archived"
    )
    wait_until(lambda: pipeline.object_keys("text/") != set() and pipeline.depth("TextQueueUrl") == 0)
    return found


def reader(pipeline: Pipeline, key: str = "test", secret: str = "test", url: str = "") -> Api:
    return Api(url or pipeline.outputs["ApiUrl"], Session(key, secret, region_name="us-east-1"))


def get(api: Api, target: str) -> Any:
    answer: Answer = api.get(target)
    assert answer.status == 200, answer.content
    return answer.json


def test_a_call_is_found_and_read(api: Api) -> None:
    listed = [call["conversation_id"] for call in get(api, f"/calls?agent={CALL['agent_id']}")["calls"]]
    call, turns = get(api, f"/calls/{ID}"), get(api, f"/calls/{ID}/transcript")["turns"]
    calls_of_caller = get(api, f"/callers/{call['caller'].replace('+', '%2B')}")["calls"]

    assert ID in listed
    assert [turn["message"] for turn in turns] == [turn["message"] for turn in CALL["transcript"]]
    assert ID in [each["conversation_id"] for each in calls_of_caller]
    assert get(api, "/stats?from=2026-01-01&to=2026-12-31")["rows"]


def test_what_was_said_is_found_in_its_turn_and_counted(api: Api) -> None:
    index, turn = next(each for each in enumerate(CALL["transcript"]) if len((each[1]["message"] or "").split()) > 3)
    words = quote(f'"{" ".join(turn["message"].split()[:3])}"')

    found = get(api, f"/search?q={words}&role={turn['role']}&from=2020-01-01")
    rows = get(api, "/stats?from=2026-01-01&to=2026-12-31")["rows"]

    (hit,) = found["hits"]
    assert (hit["conversation_id"], hit["index"], hit["message"]) == (ID, index, turn["message"])
    assert found["next"] is None
    assert [(row["agent_id"], row["calls"], row["with_audio"]) for row in rows] == [(CALL["agent_id"], 1, 1)]


def test_a_recording_is_heard_in_parts(api: Api) -> None:
    signed = get(api, f"/calls/{ID}/audio")

    part = httpx.get(signed["url"], headers={"Range": "bytes=4-8"}, trust_env=False)

    assert (part.status_code, part.content) == (206, SOUND[4:9])
    assert part.headers["Content-Type"] == signed["content_type"] == "audio/mpeg"


@pytest.mark.parametrize(
    "target", ["/calls", f"/calls/{ID}", f"/calls/{ID}/audio", "/callers/12025550123", "/stats", "/search?q=hello"]
)
def test_nobody_else_may_read(api: Api, pipeline: Pipeline, target: str) -> None:
    unsigned = httpx.get(api.url + target, trust_env=False)
    wrong = [reader(pipeline, secret="wrong"), reader(pipeline, key="AKIAIOSFODNN7EXAMPLE")]

    assert unsigned.status_code == 403
    assert [each.get(target).status for each in wrong] == [403, 403]


def test_a_reader_of_one_stack_may_not_read_another(api: Api, pipeline: Pipeline, emulator: Any) -> None:
    other = deploy(emulator, "other", {"BucketName": "other-stack"})["ApiUrl"].rsplit("/", maxsplit=1)[-1]
    iam = emulator.client("iam")
    iam.create_user(UserName="other-reader")
    resource = f"arn:aws:execute-api:us-east-1:*:{other}/*/GET/*"
    allowed = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": resource}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="other-reader", PolicyName="reading", PolicyDocument=policy)
    key = iam.create_access_key(UserName="other-reader")["AccessKey"]
    url = api.url.replace(api.url.rsplit("/", maxsplit=1)[-1], other)

    def status(url: str) -> int:
        return reader(pipeline, key["AccessKeyId"], key["SecretAccessKey"], url).get("/calls").status

    assert (status(url), status(api.url)) == (200, 403)


def test_the_page_reads_and_plays_the_call(api: Api, pipeline: Pipeline) -> None:
    bucket_url = f"{pipeline.outputs['AwsEndpointUrl']}/{pipeline.bucket}"
    with Page(api, bucket_url=bucket_url) as page, httpx.Client(trust_env=False) as browser:
        shown = browser.get(page.url)
        call = browser.get(f"{page.url}api/calls/{ID}", headers={"Sec-Fetch-Site": "same-origin"}).json()
        sound = browser.get(browser.get(f"{page.url}api/calls/{ID}/audio").json()["url"])

    assert "<title>" in shown.text
    assert call["conversation_id"] == ID
    assert sound.content == SOUND


def test_the_terminal_shows_the_same(api: Api, pipeline: Pipeline, ops: Any) -> None:
    code, listed = ops("calls", "--agent", CALL["agent_id"])
    search_code, found = ops("search", CALL["transcript"][0]["message"].split()[0], "--since", "2020-01-01")
    shown_code, shown = ops("show", ID)
    gc.collect()

    assert (code, search_code, shown_code) == (0, 0, 0)
    assert ID in [row["conversation_id"] for row in listed["rows"]]
    assert ID in [row["conversation_id"] for row in found["rows"]]
    assert shown["call"] == get(api, f"/calls/{ID}")
    assert f"s3://{pipeline.bucket}/" in shown["files"][0]
    assert [file.rsplit(".")[-1] for file in shown["files"]] == ["json", "mp3"]


POLICIES = {  # by the name of their statement: what they allow and what not
    "ReadCalls": (["/calls", f"/calls/{ID}", f"/calls/{ID}/audio", "/stats"], []),
    "ReadCallsWithoutRecordings": (["/calls", f"/calls/{ID}/transcript", "/stats"], [f"/calls/{ID}/audio"]),
    "ReadStatistics": (
        ["/stats"],
        ["/search?q=hello", "/calls", f"/calls/{ID}", f"/calls/{ID}/audio", "/callers/12025550123"],
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_of_the_documentation_allows_what_it_says(
    api: Api, pipeline: Pipeline, emulator: Any, name: str
) -> None:
    iam, (allowed, denied) = emulator.client("iam"), POLICIES[name]
    policy = json.dumps(shown(f'"{name}"')).replace("us-east-1:111122223333:a1b2c3d4e5", f"us-east-1:*:{id_of(api)}")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]

    user = reader(pipeline, key["AccessKeyId"], key["SecretAccessKey"])

    assert {target: user.get(target).status for target in allowed} == dict.fromkeys(allowed, 200)
    assert {target: user.get(target).status for target in denied} == dict.fromkeys(denied, 403)


def id_of(api: Api) -> str:
    return api.url.rsplit("/", maxsplit=1)[-1]


SCOPES = ["calls:read", "recordings:read", "numbers:read"]


def test_with_an_issuer_tokens_are_read_and_their_scopes_decide(api: Api, pipeline: Pipeline, emulator: Any) -> None:
    cognito = emulator.client("cognito-idp")
    pool = cognito.create_user_pool(PoolName="readers")["UserPool"]["Id"]
    scopes = [{"ScopeName": each, "ScopeDescription": each} for each in SCOPES]
    cognito.create_resource_server(UserPoolId=pool, Identifier="calls", Name="calls", Scopes=scopes)
    client = cognito.create_user_pool_client(
        UserPoolId=pool, ClientName="page", GenerateSecret=True, AllowedOAuthFlowsUserPoolClient=True,
        AllowedOAuthFlows=["client_credentials"], AllowedOAuthScopes=[f"calls/{each}" for each in SCOPES],
    )["UserPoolClient"]  # fmt: skip
    issuer = f"https://cognito-idp.us-east-1.amazonaws.com/{pool}"
    url = deploy(emulator, "tokens", {"BucketName": "tokens", "JwtIssuer": issuer, "JwtAudience": client["ClientId"]})[
        "ApiUrl"
    ]

    def token(*scopes: str) -> str:
        asked = {"grant_type": "client_credentials", "scope": " ".join(f"calls/{each}" for each in scopes)}
        answer = httpx.post(
            f"{pipeline.outputs['AwsEndpointUrl']}/oauth2/token", data=asked,
            auth=(client["ClientId"], client["ClientSecret"]), trust_env=False,
        )  # fmt: skip
        return str(answer.json()["access_token"])

    def status(target: str, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(url + target, headers=headers, trust_env=False).status_code

    reads, knows = token("calls:read"), token("calls:read", "numbers:read")
    assert (status("/calls", reads), status("/callers/12025550123", reads)) == (200, 403)
    assert status("/callers/12025550123", knows) == 200
    assert status("/calls", token("recordings:read")) == 403
    assert [status("/calls", each) for each in ("", "x.y.z", f"{reads[:-8]}AAAAAAAA")] == [401, 401, 401]
    signed = reader(pipeline, url=url).get("/calls")
    assert (signed.status, "JwtIssuer" in signed.json["detail"]) == (401, True)
