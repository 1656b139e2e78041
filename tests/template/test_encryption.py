"""One key for everything at rest."""

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.alarms import Deployed
from tests.options import KEY, WITH_ALL_FUNCTIONS
from tests.template.stacks import PLACE, Json, listed, rights_to
from tests.test_examples import shown


def bucket_key(properties: Json) -> Any:
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption.get("BucketKeyEnabled", False) is (
        "KMSMasterKeyID" in encryption["ServerSideEncryptionByDefault"]
    )
    return encryption["ServerSideEncryptionByDefault"].get("KMSMasterKeyID")


# Where CloudFormation's types have their key.
KEY_OF = {
    "AWS::S3::Bucket": bucket_key,
    "AWS::DynamoDB::Table": lambda properties: properties["SSESpecification"].get("KMSMasterKeyId"),
    "AWS::SQS::Queue": lambda properties: properties.get("KmsMasterKeyId"),
    "AWS::SNS::Topic": lambda properties: properties.get("KmsMasterKeyId"),
    "AWS::SecretsManager::Secret": lambda properties: properties.get("KmsKeyId"),
    "AWS::Logs::LogGroup": lambda properties: properties.get("KmsKeyId"),
    "AWS::Lambda::Function": lambda properties: properties.get("KmsKeyArn"),
}


@pytest.mark.parametrize(("choice", "key"), [("create", "Key.Arn"), (KEY, KEY)], ids=["the stack's", "the user's"])
@pytest.mark.parametrize("kind", KEY_OF)
def test_one_key_encrypts_everything_at_rest(kind, choice, key):
    found = Deployed(KmsKeyArn=choice, **WITH_ALL_FUNCTIONS).of(kind)

    assert found
    assert {name: KEY_OF[kind](properties) for name, properties in found.items()} == dict.fromkeys(found, key)


@pytest.mark.parametrize("kind", KEY_OF)
def test_without_a_key_aws_encrypts_with_its_own(kind):
    found = Deployed(**WITH_ALL_FUNCTIONS).of(kind)

    assert {KEY_OF[kind](properties) for properties in found.values()} <= {None, "alias/aws/sns"}


def test_a_queue_has_one_kind_of_encryption():
    with_key = Deployed(KmsKeyArn=KEY, **WITH_ALL_FUNCTIONS).of("AWS::SQS::Queue").values()
    without = Deployed(**WITH_ALL_FUNCTIONS).of("AWS::SQS::Queue").values()

    assert {queue.get("SqsManagedSseEnabled") for queue in with_key} == {None}
    assert {queue.get("SqsManagedSseEnabled") for queue in without} == {True}


def test_every_function_may_use_the_key_and_no_other():
    roles = {name.replace("Function", "Role") for name in Deployed(**WITH_ALL_FUNCTIONS).of("AWS::Lambda::Function")}
    use = {("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY)}
    reads = {"ReadRole": {("kms:Decrypt", KEY)}}  # and writes nothing

    assert rights_to("kms", KmsKeyArn=KEY, **WITH_ALL_FUNCTIONS) == dict.fromkeys(roles, use) | reads
    assert rights_to("kms", **WITH_ALL_FUNCTIONS) == {}


def test_the_stacks_own_key_is_rotated_and_allows_the_services_that_write_by_themselves():
    key = Deployed(KmsKeyArn="create").of("AWS::KMS::Key")["Key"]

    assert key["EnableKeyRotation"] is True
    services = {
        service: statement["Condition"]
        for statement in key["KeyPolicy"]["Statement"] if "Service" in statement["Principal"]
        for service in listed(statement["Principal"]["Service"])
    }  # fmt: skip
    assert set(services) == {
        "sns.amazonaws.com", "cloudwatch.amazonaws.com", "events.amazonaws.com", "logs.AWS::Region.AWS::URLSuffix",
    }  # fmt: skip
    assert all("stack-*" in str(condition) for condition in services.values())  # for this stack's resources only


def policy_in_the_documentation() -> list[Json]:
    """The statements that docs/deploy.md asks for in the policy of a user's own key, for the stack of these tests."""
    return list(json.loads(json.dumps(shown("kms:Decrypt")).replace("agentic-memory", "stack")))


def test_the_policy_in_the_documentation_allows_the_same_services_as_the_stacks_own_key():
    key = Deployed(KmsKeyArn="create", **PLACE).of("AWS::KMS::Key")["Key"]

    services = [statement for statement in key["KeyPolicy"]["Statement"] if "Service" in statement["Principal"]]

    assert policy_in_the_documentation() == [
        {name: value for name, value in statement.items() if name != "Sid"} for statement in services
    ]


@pytest.mark.parametrize("where", ["template", "documentation"])
def test_the_key_policies_allow_every_log_group_of_the_stack(where):
    stack = Deployed(KmsKeyArn="create", **WITH_ALL_FUNCTIONS, **PLACE)
    policy = (
        stack.of("AWS::KMS::Key")["Key"]["KeyPolicy"]["Statement"]
        if where == "template"
        else policy_in_the_documentation()
    )

    (admits,) = (each["Condition"] for each in policy if str(each["Principal"].get("Service")).startswith("logs."))
    patterns = listed(admits["ArnLike"]["kms:EncryptionContext:aws:logs:arn"])
    groups = stack.of("AWS::Logs::LogGroup")
    names = [each.get("LogGroupName", f"stack-{name}-Ab1Cd2Ef3Gh4") for name, each in groups.items()]
    arns = [f"arn:aws:logs:us-east-1:111122223333:log-group:{name}" for name in names]
    assert len(arns) > 5
    assert [arn for arn in arns if not any(fnmatchcase(arn, pattern) for pattern in patterns)] == []


def test_the_stack_makes_no_key_when_it_is_given_one_or_none():
    assert Deployed(KmsKeyArn=KEY).of("AWS::KMS::Key") == {}
    assert Deployed().of("AWS::KMS::Key") == {}
