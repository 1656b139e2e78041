"""How an update of ingest goes live."""

import re

import pytest

from tests.alarms import Deployed
from tests.options import OPTIONS
from tests.template.stacks import PLACE, Json


def target(stack: Deployed) -> str:
    """What the HTTP API calls."""
    uri = stack.of("AWS::ApiGatewayV2::Api")["Api"]["Body"]["paths"]["/post-call"]["post"][
        "x-amazon-apigateway-integration"
    ]["uri"]
    return str(uri).split("/functions/")[1].removesuffix("/invocations")


def test_by_default_an_update_is_live_at_once():
    stack = Deployed()

    assert target(stack) == "IngestFunction.Arn"
    assert not {"AWS::Lambda::Alias", "AWS::Lambda::Version"} & {each["Type"] for each in stack.resources.values()}


def made_before(stack: Deployed, name: str) -> set[str]:
    """The resources that CloudFormation makes or updates before this one: those that it refers to, and theirs."""
    found: set[str] = set()
    todo = [name]
    while todo:
        words = set(re.findall(r"\w+", str(stack.resolve(stack.resources[todo.pop()]))))
        todo += (words & set(stack.resources)) - found
        found |= words & set(stack.resources)
    return found


def permissions(stack: Deployed) -> dict[str, Json]:
    """What API Gateway may invoke for webhooks, by resource."""
    found = stack.of("AWS::Lambda::Permission").items()
    return {name: each for name, each in found if str(each["SourceArn"]).endswith("/POST/post-call")}


@pytest.mark.parametrize(
    ("option", "invokable"),
    [
        ("default", {"IngestPermission": "IngestFunction"}),
        ("gradual deployment", {"IngestPermission": "IngestFunction", "IngestAliasPermission": "IngestAlias"}),
    ],
    ids=["at once", "gradually"],
)
def test_api_gateway_may_invoke_its_target_before_the_api_points_to_it(option, invokable):
    """Also while GradualDeployment is switched on or off: the Api's former target can be invoked until then."""
    stack = Deployed(**OPTIONS[option], **PLACE)

    found = permissions(stack)

    assert {name: each["FunctionName"] for name, each in found.items()} == invokable
    assert target(stack).removesuffix(".Arn") in invokable.values()
    assert set(invokable) <= made_before(stack, "Api")
    for name, permission in found.items():
        assert "Api" not in made_before(stack, name)
        assert permission["SourceArn"] == "arn:aws:execute-api:us-east-1:111122223333:*/*/POST/post-call"


def test_a_gradual_deployment_moves_to_the_version_of_its_id_and_back_if_an_alarm_of_ingest_fires():
    stack = Deployed(**OPTIONS["gradual deployment"])
    (group,) = stack.of("AWS::CodeDeploy::DeploymentGroup").values()
    alarms = {each["Name"] for each in group["AlarmConfiguration"]["Alarms"]}

    assert target(stack) == "IngestAlias"
    assert stack.of("AWS::Lambda::Version")["IngestVersion"]["Description"] == "2026-11-22"
    assert stack.of("AWS::Lambda::Function")["IngestFunction"]["Description"] == "2026-11-22"
    assert stack.of("AWS::Lambda::Alias")["IngestAlias"]["FunctionVersion"] == "IngestVersion.Version"
    assert stack.resources["IngestAlias"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"] == {
        "ApplicationName": {"Ref": "DeploymentApplication"}, "DeploymentGroupName": {"Ref": "IngestDeploymentGroup"},
    }  # fmt: skip
    assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"
    assert group["AutoRollbackConfiguration"]["Enabled"] is group["AlarmConfiguration"]["Enabled"] is True
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    assert alarms == {"IngestFunctionErrorsAlarm", "WebhookUnavailableAlarm"}
    assert alarms <= set(stack.alarms)
