"""Whom the template's policies allow."""

import re
from typing import Any

import pytest

from scripts.embedded.deployment import TEMPLATE
from tests.alarms import Deployed
from tests.policies import (
    listed,
    present,
    rights,
    role_of,
)
from tests.template.scenes import EVERYTHING, OTHER_ROLES, SCENES


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_every_function_has_a_role_of_its_own_that_lambda_alone_may_take(stack):
    functions = list(stack.of("AWS::Lambda::Function"))
    roles = stack.of("AWS::IAM::Role")

    assert set(functions) <= set(SCENES)
    assert sorted(set(roles) - OTHER_ROLES) == sorted(role_of(stack, function) for function in functions)
    for role in (roles[role_of(stack, function)] for function in functions):
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_only_the_memory_writer_may_be_given_a_policy_from_elsewhere():
    def managed(stack: Deployed) -> dict[str, Any]:
        roles = stack.of("AWS::IAM::Role").items()
        return {name: arns for name, role in roles if (arns := present(listed(role.get("ManagedPolicyArns", []))))}

    of_aws = "arn:AWS::Partition:iam::aws:policy/service-role/AWSCodeDeployRoleForLambdaLimited"
    assert managed(EVERYTHING) == {"DeploymentRole": [of_aws]}  # which CodeDeploy takes
    arn = "arn:aws:iam::000000000000:policy/bedrock"
    assert managed(Deployed(MemoryPolicyArn=arn)) == {"MemoryWriterRole": [arn]}


def resource_policies(stack: Deployed) -> list[tuple[str, dict[str, Any]]]:
    """The statements of all policies that say who may use a resource, by the resource that has them."""
    kinds = {each["Type"] for each in stack.resources.values() if not each["Type"].startswith("AWS::IAM::")}
    return [
        (name, statement)
        for kind in kinds for name, properties in stack.of(kind).items() for document in properties.values()
        if isinstance(document, dict) for statement in present(listed(document.get("Statement", [])))
    ]  # fmt: skip


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_policies_allow_nobody_unnamed_and_services_of_aws_only_for_our_resources(stack):
    found = resource_policies(stack)

    assert {"BucketPolicy", "MemoryQueuePolicy"} <= {name for name, _ in found}
    for name, statement in found:
        principal = statement["Principal"]
        if statement["Effect"] != "Deny":
            assert "*" not in [each for kind in dict(principal).values() for each in listed(kind)], name
            assert "Service" not in principal or re.search(
                "aws:SourceArn|:logs:arn", str(statement.get("Condition"))
            ), name


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_sns_may_send_what_our_topic_announces_to_its_subscribers_and_their_dead_letter_queues(stack):
    delivered = {
        (queue, subscription["TopicArn"])
        for subscription in stack.of("AWS::SNS::Subscription").values() if subscription["Protocol"] == "sqs"
        for queue in (subscription["Endpoint"], subscription["RedrivePolicy"]["deadLetterTargetArn"])
    }  # fmt: skip

    allowed = set()
    for policy in stack.of("AWS::SQS::QueuePolicy").values():
        (statement, *_) = policy["PolicyDocument"]["Statement"]
        assert (statement["Principal"], statement["Action"]) == ({"Service": "sns.amazonaws.com"}, "sqs:SendMessage")
        assert set(statement["Resource"]) == {f"{queue}.Arn" for queue in policy["Queues"]}
        assert list(statement["Condition"]) == ["ArnEquals"]
        allowed |= {(queue, statement["Condition"]["ArnEquals"]["aws:SourceArn"]) for queue in statement["Resource"]}
    assert allowed == delivered


def test_eventbridge_may_send_only_what_our_rule_lets_through_to_the_transcriber():
    (_, statement) = EVERYTHING.of("AWS::SQS::QueuePolicy")["TranscribeQueuePolicy"]["PolicyDocument"]["Statement"]
    rule = EVERYTHING.of("AWS::Events::Rule")["TranscriptionEndedRule"]

    assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert statement["Resource"] == "TranscribeQueue.Arn" == rule["Targets"][0]["Arn"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": "TranscriptionEndedRule.Arn"}}
    assert rule["EventPattern"]["detail"]["TranscriptionJobName"] == [{"prefix": "0123abcd-0123-abcd."}]


@pytest.mark.parametrize(
    ("stack", "ingest"),
    [(Deployed(CanaryMinutes="15"), {"IngestFunction"}), (EVERYTHING, {"IngestFunction", "IngestAlias"})],
    ids=["at once", "gradually"],
)
def test_aws_runs_a_function_only_for_apis_of_the_account_and_our_schedules(stack, ingest):
    permissions = stack.of("AWS::Lambda::Permission").values()
    schedules = {f"{rule}.Arn" for rule in stack.of("AWS::Events::Rule")}

    assert {(each["Principal"], each["FunctionName"]) for each in permissions} == {
        *(("apigateway.amazonaws.com", each) for each in {*ingest, "ReadFunction"}),
        ("events.amazonaws.com", "ReconcilerFunction"), ("events.amazonaws.com", "CanaryFunction"),
        ("events.amazonaws.com", "IndexerFunction"),
    }  # fmt: skip
    ours = "arn:AWS::Partition:execute-api:AWS::Region:AWS::AccountId:*/*/POST/post-call"
    reading = "arn:AWS::Partition:execute-api:AWS::Region:AWS::AccountId:ReadApi/*/GET/*"
    assert all(each["SourceArn"] in schedules | {ours, reading} for each in permissions)
    assert [each["SourceArn"] for each in permissions if each["FunctionName"] == "ReadFunction"] == [reading]


@pytest.mark.parametrize("stack", [Deployed(), EVERYTHING], ids=["by default", "with everything"])
def test_no_role_may_set_acls_and_the_template_says_why(stack):
    roles = stack.of("AWS::IAM::Role")

    assert not any(re.fullmatch("s3:Put.*Acl", action) for role in roles for action, _ in rights(stack, role))
    (ownership,) = stack.of("AWS::S3::Bucket")["Bucket"]["OwnershipControls"]["Rules"]
    assert ownership == {"ObjectOwnership": "BucketOwnerEnforced"}
    archiver = TEMPLATE.read_text().partition("ArchiverRole:\n")[2].partition("ArchiverLogGroup:\n")[0]
    assert re.search(r"# No s3:PutObjectAcl: .*BucketOwnerEnforced", archiver)
