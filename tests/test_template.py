"""The template's options: each deploys alone and with all others, and makes exactly what it promises."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import BytesIO
from itertools import count
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import ingest.handler
from ingest.handler import lambda_handler
from scripts.deployment import create, deploy, wait
from scripts.embedded import EmbeddedAws
from scripts.translation import emulate
from scripts.webhooks import send
from shared.bucket import Bucket
from tests.alarms import Deployed, translated
from tests.conftest import Stack, fixture_body
from tests.ingest.conftest import signed
from tests.options import EVERYTHING, KEY, OPTIONS, OTHER_KEY, REPLICA, WITH_ALL_FUNCTIONS
from tests.pipeline.conftest import wait_until
from tests.test_readme import shown

# AWS's managed policy AWSLambdaVPCAccessExecutionRole has these, besides those for logs.
INTERFACES = [
    "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
]  # fmt: skip
NUMBERS = count()  # of stacks, whose buckets have names of their own
PLACE = {
    "AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
}  # fmt: skip

Json = dict[str, Any]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as started:
        yield started


def stack_of(emulator: EmbeddedAws, parameters: dict[str, str]) -> Stack:
    name = f"options-{next(NUMBERS)}"
    return Stack(emulator.client, deploy(emulator, name, {"BucketName": name} | parameters))


def ask(emulator: EmbeddedAws, name: str, parameters: dict[str, str]) -> None:
    """Ask for a stack whose functions have no code, which is quickly made or refused."""
    create(emulator, name, emulate(translated(), parameters, emulator.endpoint_url), parameters, {})


def bucket(**parameters: str) -> Json:
    return Deployed(**parameters).of("AWS::S3::Bucket")["Bucket"]


def rules(**parameters: str) -> dict[str, Json]:
    """The bucket's lifecycle rules by their names."""
    return {rule["Id"]: rule for rule in bucket(**parameters)["LifecycleConfiguration"]["Rules"]}


def rights(**parameters: str) -> dict[str, list[Json]]:
    """What each role may do, with actions and resources as lists."""
    deployed = Deployed(**parameters)
    found = {name: list(role.get("Policies", [])) for name, role in deployed.of("AWS::IAM::Role").items()}
    for policy in deployed.of("AWS::IAM::Policy").values():
        found[policy["Roles"][0]].append(policy)
    return {
        name: [
            statement | {key: listed(statement[key]) for key in ("Action", "Resource")}
            for policy in policies for statement in policy["PolicyDocument"]["Statement"]
        ] for name, policies in found.items()
    }  # fmt: skip


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def rights_to(service: str, **parameters: str) -> dict[str, set[tuple[str, str]]]:
    """The actions of one service that each role may take, with their resources; roles that may not are left out."""
    found = {
        role: {
            (action, resource)
            for statement in statements for action in statement["Action"] for resource in statement["Resource"]
            if action.startswith(f"{service}:")
        } for role, statements in rights(**parameters).items()
    }  # fmt: skip
    return {role: actions for role, actions in found.items() if actions}


# ---------------------------------------------------------------- all options


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_deploys_alone(emulator, option):
    name = f"options-{next(NUMBERS)}"

    ask(emulator, name, {"BucketName": name} | OPTIONS[option])

    assert wait(emulator, name)["BucketName"] == name


def test_all_options_together_archive_a_call(emulator):
    deployed = stack_of(emulator, EVERYTHING)

    response = send(deployed.outputs["PostCallUrl"], deployed.outputs["WebhookSecret"], fixture_body("02"))

    assert response.status_code == 200
    wait_until(lambda: any(key.endswith(".json") for key in deployed.object_keys()))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        pytest.param({"ReplicationKmsKeyArn": KEY}, "there are none without ReplicationBucketArn", id="key, no copies"),
        pytest.param(
            {"KmsKeyArn": "create", "ReplicationBucketArn": REPLICA}, "Give its ARN as ReplicationKmsKeyArn",
            id="copies in clear of what is encrypted",
        ),
        pytest.param({"KmsKeyArn": "alias/mine"}, "KmsKeyArn.*must be the ARN of a KMS key", id="alias"),
        pytest.param({"ReplicationBucketArn": "replica"}, "must be the ARN of a bucket", id="name of a bucket"),
        pytest.param({"ExpireAfterDays": "27"}, "28 days or more", id="expiry before a call is surely remembered"),
        pytest.param({"ObjectLockDays": "-1"}, "ObjectLockDays", id="negative days"),
        pytest.param({"ObjectLockMode": "LEGAL"}, "ObjectLockMode", id="unknown mode"),
        pytest.param({"AccessLogging": "yes"}, "AccessLogging", id="neither true nor false"),
        pytest.param({"VpcSubnetIds": "subnet-01234567"}, "Give VpcSubnetIds and", id="subnets alone"),
        pytest.param({"VpcSecurityGroupIds": "sg-01234567"}, "Give VpcSubnetIds and", id="security groups alone"),
        pytest.param({"VpcSubnetIds": "subnet-01234567, subnet-12345678"}, "no blanks", id="blanks between subnets"),
        pytest.param(
            {"SourceAddresses": "filter", "CanaryMinutes": "15"}, "AllowedSources, or set CanaryMinutes to 0",
            id="a canary that would be refused",
        ),
        pytest.param(
            {"ObjectLockDays": "7", "CanaryMinutes": "15"}, "Set one of them to 0", id="a canary that cannot clean up"
        ),
        pytest.param(
            {"GradualDeployment": "AllAtOnce"}, "Give each update another DeploymentId", id="an update without a name"
        ),
        pytest.param({"SourceAddresses": "on"}, "SourceAddresses", id="unknown use of addresses"),
        *(
            pytest.param({"AllowedSources": addresses}, "must be IPv4 addresses", id=f"addresses {addresses!r}")
            for addresses in (" ", "203.0.113", "203.0.113.256", "203.0.113.0/33", "203.0.113.1,", "203.0.113.1, ::1")
        ),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_a_sentence_before_anything_is_made(emulator, parameters, reason):
    with pytest.raises(ClientError, match=reason):
        ask(emulator, "refused", parameters)


HOSTS = ["Mem0Host", "ElevenLabsApiHost"]


@pytest.mark.parametrize(
    "address",
    [
        "https://api.mem0.ai", "https://api.eu.residency.elevenlabs.io/", "https://mem0.example:8443/v3/base",
        "http://127.0.0.1", "http://127.0.0.1:9", "http://localhost:8080/api", "http://[::1]:8000/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", HOSTS)
def test_keys_are_sent_over_tls_or_to_this_machine(name, address):
    assert is_accepted(name, address)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.mem0.ai", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://localhostevil",
        "http://127.0.0.1@evil.example", "http://127.0.0.1:80@evil.example", "http://user@127.0.0.1",
        "https://user@evil.example", "https://api.mem0.ai@evil.example/", "http://127.0.0.1\\@evil.example",
        "http://127.0.0.1#@evil.example", "http://127.0.0.1?@evil.example", "http://10.0.0.7", "http://0.0.0.0:80",
        "http://[::1].evil.example", "http://[::2]", "http://127.0.0.1:port", "https://", "https:///path", "ftp://127.0.0.1",
        "https://api.mem0.ai ", "https://api.mem0.ai\nhttp://evil.example", "api.mem0.ai", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", HOSTS)
def test_keys_are_sent_nowhere_else(name, address):
    assert not is_accepted(name, address)


def is_accepted(name: str, value: str) -> bool:
    """CloudFormation wants a pattern to fit the whole value."""
    return re.fullmatch(translated()["Parameters"][name]["AllowedPattern"], value) is not None


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_without_tls_is_refused_with_a_sentence(emulator, name):
    with pytest.raises(ClientError, match=f"{name}.*https://.*http:// on this machine"):
        ask(emulator, "refused", {name: "http://127.0.0.1.evil.example"})


@pytest.mark.parametrize("parameters", [WITH_ALL_FUNCTIONS, EVERYTHING], ids=["default", "everything"])
def test_no_role_has_a_right_to_everything(parameters):
    for role, statements in rights(**parameters).items():
        for statement in statements:
            assert not any("*" in action for action in statement["Action"]), role
            if statement["Action"] != INTERFACES:
                assert "*" not in statement["Resource"], role


def test_deleting_the_stack_leaves_calls_records_and_what_opens_them():
    deletion = {name: each.get("DeletionPolicy") for name, each in Deployed(**EVERYTHING).resources.items()}

    kept = {name for name, policy in deletion.items() if policy == "RetainExceptOnCreate"}
    assert kept == {
        "Bucket", "BucketPolicy", "ConversationTable", "WebhookSecret", "ErasureSecret",
        "Key", "AccessLogBucket", "AccessLogBucketPolicy",
    }  # fmt: skip


def test_by_default_the_other_functions_leave_ingest_two_of_the_ten_that_a_new_account_may_run_at_once():
    """Two, because a call's transcript and audio come at the same moment, and audio is never sent again."""
    stack = Deployed(**WITH_ALL_FUNCTIONS)
    polled = stack.of("AWS::Lambda::EventSourceMapping").values()
    scheduled = stack.of("AWS::Events::Rule").values()

    most = {each["FunctionName"]: int(each["ScalingConfig"]["MaximumConcurrency"]) for each in polled}
    most |= {
        rule["Targets"][0]["Arn"].removesuffix(".Arn"): 1 for rule in scheduled
    }  # a pass ends before the next begins

    assert set(most) == set(stack.of("AWS::Lambda::Function")) - {"IngestFunction"}
    assert sum(most.values()) <= 10 - 2


def test_a_body_that_kills_the_archiver_takes_no_other_along():
    (mapping,) = (
        each for each in Deployed().of("AWS::Lambda::EventSourceMapping").values()
        if each["FunctionName"] == "ArchiverFunction"
    )  # fmt: skip

    assert mapping["BatchSize"] == 1


# ---------------------------------------------------------------- how long calls are kept


def test_the_table_forgets_by_itself_only_what_says_when_it_expires_and_finds_calls_by_their_numbers():
    (table,) = Deployed().of("AWS::DynamoDB::Table").values()
    (by_caller,) = (each for each in table["GlobalSecondaryIndexes"] if each["IndexName"] == "by-caller")

    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert [each["AttributeName"] for each in by_caller["KeySchema"]] == ["caller", "archived_at"]
    assert by_caller["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    defined = {each["AttributeName"] for each in table["AttributeDefinitions"]}
    keyed = {
        key["AttributeName"]
        for schema in [table["KeySchema"], *(each["KeySchema"] for each in table["GlobalSecondaryIndexes"])]
        for key in schema
    }
    assert defined == keyed  # CloudFormation refuses one too many, the emulator does not


def test_the_key_of_the_tombstones_is_random_and_never_rotates():
    stack = Deployed()
    secret = stack.of("AWS::SecretsManager::Secret")["ErasureSecret"]

    assert secret["GenerateSecretString"]["PasswordLength"] == 64
    assert "SecretString" not in secret
    assert not stack.of("AWS::SecretsManager::RotationSchedule")


def test_finished_calls_are_kept_for_ever_with_all_their_versions_unless_told_otherwise():
    for rule in rules().values():
        if rule.get("Prefix") != "staging/":
            assert "ExpirationInDays" not in rule
            assert "NoncurrentVersionExpiration" not in rule


@pytest.mark.parametrize(
    ("parameters", "expiry", "old_versions"),
    [
        pytest.param({"ExpireAfterDays": "400"}, "400", 30, id="expiry alone"),
        pytest.param({"OldVersionDays": "7"}, None, "7", id="old versions alone"),
        pytest.param({"ExpireAfterDays": "400", "OldVersionDays": "7"}, "400", "7", id="both"),
    ],
)
def test_expiry_ends_with_the_versions_and_marks_that_it_leaves(parameters, expiry, old_versions):
    found = rules(**parameters)

    assert found.get("finished-calls-expire", {}).get("ExpirationInDays") == expiry
    assert found["old-versions-of-finished-calls-go"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": old_versions}
    assert found["what-marked-a-deletion-goes"]["ExpiredObjectDeleteMarker"] is True


def test_only_what_is_tagged_as_finished_expires():
    tag = {"Key": "tier", "Value": "archive"}

    for name, rule in rules(**OPTIONS["expiry"]).items():
        if rule.get("Prefix") != "staging/" and ("ExpirationInDays" in rule or "NoncurrentVersionExpiration" in rule):
            assert rule["TagFilters"] == [tag], name


def test_s3_takes_no_tags_beside_delete_markers_or_broken_uploads():
    for name, rule in rules(**OPTIONS["expiry"]).items():
        if "ExpiredObjectDeleteMarker" in rule or "AbortIncompleteMultipartUpload" in rule:
            assert "TagFilters" not in rule, name


def test_a_lock_holds_every_new_object():
    assert "ObjectLockEnabled" not in bucket()
    assert "ObjectLockConfiguration" not in bucket()
    locked = bucket(ObjectLockDays="7", ObjectLockMode="COMPLIANCE")
    assert locked["ObjectLockEnabled"] is True
    assert locked["VersioningConfiguration"] == {"Status": "Enabled"}
    assert locked["ObjectLockConfiguration"]["Rule"]["DefaultRetention"] == {"Mode": "COMPLIANCE", "Days": "7"}


def test_somebody_may_lift_the_lock_unless_told_otherwise():
    assert bucket(ObjectLockDays="7")["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]["Mode"] == "GOVERNANCE"


def test_whatever_is_put_carries_the_checksum_that_a_locked_bucket_asks_for(aws, context):
    lambda_handler(signed(b"warm"), context)
    archive = Bucket(boto3.client("s3"), aws.bucket)
    sums: list[bytes | None] = []
    for client in (ingest.handler.aws().s3, archive._s3):
        client.meta.events.register(
            "before-send.s3.PutObject",
            lambda request, **_: sums.append(request.headers.get("x-amz-sdk-checksum-algorithm")),
        )

    lambda_handler(signed(), context)
    archive.put_newest("12025550123/conv_1.json", BytesIO(b"{}"), "application/json", {"order": "1"})

    assert len(sums) == 2
    assert all(sums)


# ---------------------------------------------------------------- who read what


def test_access_is_logged_into_a_bucket_that_only_log_delivery_for_ours_may_write():
    deployed = Deployed(AccessLogging="true")

    assert deployed.of("AWS::S3::Bucket")["Bucket"]["LoggingConfiguration"] == {
        "DestinationBucketName": "AccessLogBucket"
    }
    policy = deployed.of("AWS::S3::BucketPolicy")["AccessLogBucketPolicy"]["PolicyDocument"]["Statement"]
    (allowed,) = (statement for statement in policy if statement["Effect"] == "Allow")
    assert allowed["Principal"] == {"Service": "logging.s3.amazonaws.com"}
    assert allowed["Action"] == "s3:PutObject"
    assert allowed["Condition"]["ArnEquals"] == {"aws:SourceArn": "Bucket.Arn"}


def test_access_logs_are_private_and_expire_like_the_other_logs():
    logs = Deployed(AccessLogging="true", KmsKeyArn="create", LogRetentionDays="90").of("AWS::S3::Bucket")[
        "AccessLogBucket"
    ]

    assert set(logs["PublicAccessBlockConfiguration"].values()) == {True}
    (encryption,) = logs["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert [rule["ExpirationInDays"] for rule in logs["LifecycleConfiguration"]["Rules"]] == ["90"]


def test_nothing_is_logged_or_copied_by_default():
    assert set(Deployed().of("AWS::S3::Bucket")) == {"Bucket"}
    assert "LoggingConfiguration" not in bucket()
    assert "ReplicationConfiguration" not in bucket()
    assert "ReplicationRole" not in Deployed().of("AWS::IAM::Role")


# API Gateway developer guide, "Customize HTTP API access logs". An HTTP API refuses any other variable, also those that
# REST APIs have. Properties of an authorizer are left out here: they can have any name.
LOG_VARIABLES = """
    accountId apiId authorizer.error awsEndpointRequestId awsEndpointRequestId2 customDomain.basePathMatched
    dataProcessed domainName domainPrefix error.message error.messageString error.responseType extendedRequestId
    httpMethod identity.accountId identity.caller identity.cognitoAuthenticationProvider
    identity.cognitoAuthenticationType identity.cognitoIdentityId identity.cognitoIdentityPoolId
    identity.principalOrgId identity.clientCert.clientCertPem identity.clientCert.subjectDN
    identity.clientCert.issuerDN identity.clientCert.serialNumber identity.clientCert.validity.notBefore
    identity.clientCert.validity.notAfter identity.sourceIp identity.user identity.userAgent identity.userArn
    integration.error integration.integrationStatus integration.latency integration.requestId integration.status
    integrationErrorMessage integrationLatency integrationStatus path protocol requestId requestTime requestTimeEpoch
    responseLatency responseLength routeKey stage status
"""


def test_access_logs_of_http_apis_have_only_variables_that_aws_documents_for_them():
    """By AWS's page "Customize HTTP API access logs"; a stage with another one cannot be made."""
    stages = Deployed().of("AWS::ApiGatewayV2::Stage").values()

    used = [re.findall(r"\$context\.([\w.]+)", each["AccessLogSettings"]["Format"]) for each in stages]

    assert used
    assert all(used)
    assert {name for names in used for name in names} - set(LOG_VARIABLES.split()) == set()


def test_access_logs_of_apis_are_spared_the_accounts_one_resource_policy():
    """API Gateway adds every other log group to it, and it holds 5,120 characters for all of an account's APIs."""
    stack = Deployed()
    groups = [each["AccessLogSettings"]["DestinationArn"] for each in stack.of("AWS::ApiGatewayV2::Stage").values()]

    names = [stack.of("AWS::Logs::LogGroup")[arn.removesuffix(".Arn")].get("LogGroupName", "") for arn in groups]

    assert names
    assert all(name.startswith("/aws/vendedlogs/stack/") for name in names)


# ---------------------------------------------------------------- copies in another region


def test_the_whole_bucket_is_copied_and_deletions_are_not():
    (rule,) = bucket(ReplicationBucketArn=REPLICA)["ReplicationConfiguration"]["Rules"]

    assert rule["Filter"] == {"Prefix": ""}
    assert rule["DeleteMarkerReplication"] == {"Status": "Disabled"}
    assert rule["Destination"] == {"Bucket": REPLICA}
    assert "SourceSelectionCriteria" not in rule


def test_the_replication_role_reads_the_archive_and_writes_copies():
    assert rights_to("s3", ReplicationBucketArn=REPLICA)["ReplicationRole"] == {
        ("s3:GetReplicationConfiguration", "Bucket.Arn"), ("s3:ListBucket", "Bucket.Arn"),
        ("s3:GetObjectVersionForReplication", "Bucket.Arn/*"), ("s3:GetObjectVersionAcl", "Bucket.Arn/*"),
        ("s3:GetObjectVersionTagging", "Bucket.Arn/*"),
        ("s3:ReplicateObject", f"{REPLICA}/*"), ("s3:ReplicateTags", f"{REPLICA}/*"),
    }  # fmt: skip


def test_what_is_locked_is_copied_with_its_lock():
    found = rights_to("s3", ReplicationBucketArn=REPLICA, ObjectLockDays="7")["ReplicationRole"]

    assert {("s3:GetObjectRetention", "Bucket.Arn/*"), ("s3:GetObjectLegalHold", "Bucket.Arn/*")} <= found


def test_what_is_encrypted_is_copied_under_a_key_of_the_other_region():
    parameters = {"ReplicationBucketArn": REPLICA, "KmsKeyArn": KEY, "ReplicationKmsKeyArn": OTHER_KEY}

    (rule,) = bucket(**parameters)["ReplicationConfiguration"]["Rules"]

    assert rule["SourceSelectionCriteria"] == {"SseKmsEncryptedObjects": {"Status": "Enabled"}}
    assert rule["Destination"]["EncryptionConfiguration"] == {"ReplicaKmsKeyID": OTHER_KEY}
    assert rights_to("kms", **parameters)["ReplicationRole"] == {
        ("kms:Decrypt", KEY), ("kms:Encrypt", OTHER_KEY), ("kms:GenerateDataKey", OTHER_KEY),
    }  # fmt: skip


# ---------------------------------------------------------------- what comes in, from where, and where functions run


def test_the_endpoint_takes_as_many_webhooks_as_told_within_what_an_account_has_by_default():
    def limits(**parameters: str) -> Json:
        (stage,) = Deployed(**parameters).of("AWS::ApiGatewayV2::Stage").values()
        return dict(stage["DefaultRouteSettings"])

    assert limits() == {"ThrottlingRateLimit": 500, "ThrottlingBurstLimit": 1000}
    chosen = {"ThrottlingRateLimit": "10000", "ThrottlingBurstLimit": "5000"}
    assert limits(**chosen) == chosen
    most = {name: str(translated()["Parameters"][name]["MaxValue"]) for name in chosen}
    assert most == chosen  # API Gateway's quotas of an account and region


PUBLISHED = {
    "34.67.146.145", "34.59.11.47", "35.204.38.71", "34.147.113.54", "35.185.187.110", "35.247.157.189",
    "34.77.234.246", "34.140.184.144", "34.93.26.174", "34.93.252.69", "34.87.23.17", "34.126.179.103",
}  # fmt: skip


def ingest_settings(**parameters: str) -> Json:
    return dict(Deployed(**parameters).of("AWS::Lambda::Function")["IngestFunction"]["Environment"]["Variables"])


def test_the_published_addresses_are_allowed_and_nothing_is_done_about_others_by_default():
    environment = ingest_settings()

    assert environment["SOURCE_ADDRESSES"] == "off"
    assert set(environment["ALLOWED_SOURCES"].split(",")) == PUBLISHED


def test_chosen_addresses_are_allowed_besides_the_published_ones():
    """The published ones are no default: a stack would keep that for ever, also when an upgrade brings new ones."""
    chosen = {"203.0.113.7", "198.51.100.0/24"}

    environment = ingest_settings(AllowedSources=",".join(chosen))

    assert set(environment["ALLOWED_SOURCES"].split(",")) == PUBLISHED | chosen
    assert translated()["Parameters"]["AllowedSources"]["Default"] == ""


def test_the_filter_refuses_a_rightly_signed_webhook_from_elsewhere(emulator):
    deployed = stack_of(emulator, {"SourceAddresses": "filter"})

    response = send(deployed.outputs["PostCallUrl"], deployed.outputs["WebhookSecret"], fixture_body("02"))

    assert response.status_code == 401
    assert deployed.object_keys("staging/") == set()


def test_all_functions_join_the_vpc_and_may_do_what_that_takes():
    functions = Deployed(**OPTIONS["VPC"], **WITH_ALL_FUNCTIONS).of("AWS::Lambda::Function")
    roles = {name.replace("Function", "Role") for name in functions}

    assert {str(function["VpcConfig"]) for function in functions.values()} == {
        str({"SubnetIds": ["subnet-01234567", "subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-01234567"]})
    }
    join = {(action, "*") for action in INTERFACES}
    assert rights_to("ec2", **OPTIONS["VPC"], **WITH_ALL_FUNCTIONS) == dict.fromkeys(roles, join)


def test_without_a_vpc_no_role_may_touch_network_interfaces():
    assert rights_to("ec2", **WITH_ALL_FUNCTIONS) == {}
    assert all("VpcConfig" not in each for each in Deployed(**WITH_ALL_FUNCTIONS).of("AWS::Lambda::Function").values())


# ---------------------------------------------------------------- one key for everything at rest


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
def test_without_a_key_awss_own_encrypt(kind):
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

    assert rights_to("kms", KmsKeyArn=KEY, **WITH_ALL_FUNCTIONS) == dict.fromkeys(roles, use)
    assert rights_to("kms", **WITH_ALL_FUNCTIONS) == {}


def test_the_stacks_own_key_is_rotated_and_admits_the_services_that_write_by_themselves():
    key = Deployed(KmsKeyArn="create").of("AWS::KMS::Key")["Key"]

    assert key["EnableKeyRotation"] is True
    services = {
        service: statement["Condition"]
        for statement in key["KeyPolicy"]["Statement"] if "Service" in statement["Principal"]
        for service in listed(statement["Principal"]["Service"])
    }  # fmt: skip
    assert set(services) == {"sns.amazonaws.com", "cloudwatch.amazonaws.com", "logs.AWS::Region.AWS::URLSuffix"}
    assert all("stack-*" in str(condition) for condition in services.values())  # for this stack's resources only


def policy_in_readme() -> list[Json]:
    """The statements that README.md asks for in the policy of a user's own key, for the stack of these tests."""
    return list(json.loads(json.dumps(shown("kms:Decrypt")).replace("agentic-memory", "stack")))


def test_the_policy_in_the_readme_admits_whom_the_stacks_own_key_admits():
    key = Deployed(KmsKeyArn="create", **PLACE).of("AWS::KMS::Key")["Key"]

    services = [statement for statement in key["KeyPolicy"]["Statement"] if "Service" in statement["Principal"]]

    assert policy_in_readme() == [
        {name: value for name, value in statement.items() if name != "Sid"} for statement in services
    ]


@pytest.mark.parametrize("where", ["template", "readme"])
def test_the_key_policies_admit_every_log_group_of_the_stack(where):
    stack = Deployed(KmsKeyArn="create", **WITH_ALL_FUNCTIONS, **PLACE)
    policy = stack.of("AWS::KMS::Key")["Key"]["KeyPolicy"]["Statement"] if where == "template" else policy_in_readme()

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


# ---------------------------------------------------------------- what who deploys it is shown


def test_every_parameter_has_a_description_and_a_place_in_a_group():
    groups = translated()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]

    assert sorted(shown) == sorted(translated()["Parameters"])
    assert all(parameter.get("Description") for parameter in translated()["Parameters"].values())


def test_every_exception_from_the_security_rules_has_its_reason():
    skips = [skip for each in translated()["Resources"].values() for skip in checkov(each).get("skip", [])]

    assert skips
    assert all(skip["id"] and skip["comment"] for skip in skips)


def checkov(resource: Json) -> Json:
    return resource.get("Metadata", {}).get("checkov", {})


# ---------------------------------------------------------------- gradual deployment


def target(stack: Deployed) -> str:
    """What the HTTP API calls."""
    (api,) = stack.of("AWS::ApiGatewayV2::Api").values()
    uri = api["Body"]["paths"]["/post-call"]["post"]["x-amazon-apigateway-integration"]["uri"]
    return str(uri).split("/functions/")[1].removesuffix("/invocations")


def test_by_default_an_update_holds_at_once():
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
    """What API Gateway may invoke, by resource."""
    found = stack.of("AWS::Lambda::Permission").items()
    return {name: each for name, each in found if each["Principal"] == "apigateway.amazonaws.com"}


@pytest.mark.parametrize(
    ("option", "invokable"),
    [
        ("default", {"IngestPermission": "IngestFunction"}),
        ("gradual deployment", {"IngestPermission": "IngestFunction", "IngestAliasPermission": "IngestAlias"}),
    ],
    ids=["at once", "gradually"],
)
def test_api_gateway_may_invoke_its_target_before_the_api_points_to_it(option, invokable):
    """Also while GradualDeployment is switched on or off: what the Api pointed to before stays invokable meanwhile."""
    stack = Deployed(**OPTIONS[option], **PLACE)

    found = permissions(stack)

    assert {name: each["FunctionName"] for name, each in found.items()} == invokable
    assert target(stack).removesuffix(".Arn") in invokable.values()
    assert set(invokable) <= made_before(stack, "Api")
    for name, permission in found.items():
        assert "Api" not in made_before(stack, name)
        assert permission["SourceArn"] == "arn:aws:execute-api:us-east-1:111122223333:*/*/POST/post-call"


def test_a_gradual_deployment_goes_over_to_the_version_of_its_id_and_back_if_an_alarm_of_ingest_rings():
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
