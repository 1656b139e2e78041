"""Access logs of the bucket and of the APIs."""

import re

from tests.alarms import Deployed
from tests.template.stacks import bucket


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
    claims = {name for names in used for name in names if name.startswith("authorizer.claims.")}  # can have any name
    assert {name for names in used for name in names} - claims - set(LOG_VARIABLES.split()) == set()


def test_access_logs_of_apis_are_spared_the_accounts_one_resource_policy():
    """API Gateway adds every other log group to it, and it holds 5,120 characters for all of an account's APIs."""
    stack = Deployed()
    groups = [each["AccessLogSettings"]["DestinationArn"] for each in stack.of("AWS::ApiGatewayV2::Stage").values()]

    names = [stack.of("AWS::Logs::LogGroup")[arn.removesuffix(".Arn")].get("LogGroupName", "") for arn in groups]

    assert names
    assert all(name.startswith("/aws/vendedlogs/stack/") for name in names)
