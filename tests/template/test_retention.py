"""How long objects and items are kept, and what a deleted stack leaves."""

from io import BytesIO

import boto3
import pytest

import ingest.handler
from ingest.handler import lambda_handler
from shared.bucket import Bucket
from shared.indexes import INDEXES
from tests.alarms import Deployed
from tests.conftest import projection
from tests.ingest.conftest import signed
from tests.options import EVERYTHING, OPTIONS
from tests.template.stacks import bucket, rules

WORKING = ("staging/", "text/", "transcribe/")  # what is not the archive


def test_deleting_the_stack_leaves_calls_records_and_their_keys():
    deletion = {name: each.get("DeletionPolicy") for name, each in Deployed(**EVERYTHING).resources.items()}

    kept = {name for name, policy in deletion.items() if policy == "RetainExceptOnCreate"}
    assert kept == {
        "Bucket", "BucketPolicy", "ConversationTable", "WebhookSecret", "ErasureSecret",
        "Key", "AccessLogBucket", "AccessLogBucketPolicy",
    }  # fmt: skip


def test_the_table_deletes_only_items_with_an_expiry():
    (table,) = Deployed().of("AWS::DynamoDB::Table").values()

    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}


def test_the_table_has_the_indexes_that_the_functions_use():
    (table,) = Deployed().of("AWS::DynamoDB::Table").values()
    indexes = {each["IndexName"]: each for each in table["GlobalSecondaryIndexes"]}

    keys = {name: tuple(key["AttributeName"] for key in each["KeySchema"]) for name, each in indexes.items()}
    assert keys == INDEXES
    assert {name: each["Projection"] for name, each in indexes.items()} == {name: projection(name) for name in INDEXES}
    defined = {each["AttributeName"] for each in table["AttributeDefinitions"]}
    keyed = {key["AttributeName"] for key in table["KeySchema"]} | {name for pair in keys.values() for name in pair}
    assert defined == keyed  # CloudFormation refuses one too many, the emulator does not
    assert sum(len(each["Projection"].get("NonKeyAttributes", ())) for each in indexes.values()) <= 100  # AWS's limit


def test_the_key_of_the_tombstones_is_random_and_never_rotates():
    stack = Deployed()
    secret = stack.of("AWS::SecretsManager::Secret")["ErasureSecret"]

    assert secret["GenerateSecretString"]["PasswordLength"] == 64
    assert "SecretString" not in secret
    assert not stack.of("AWS::SecretsManager::RotationSchedule")


def test_by_default_finished_calls_are_kept_for_ever_with_all_their_versions():
    for rule in rules().values():
        if rule.get("Prefix") not in WORKING:
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
def test_expiry_deletes_old_versions_and_delete_markers_too(parameters, expiry, old_versions):
    found = rules(**parameters)

    assert found.get("finished-calls-expire", {}).get("ExpirationInDays") == expiry
    assert found["old-versions-of-finished-calls-go"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": old_versions}
    assert found["what-marked-a-deletion-goes"]["ExpiredObjectDeleteMarker"] is True


def test_only_what_is_tagged_as_finished_expires():
    tag = {"Key": "tier", "Value": "archive"}

    for name, rule in rules(**OPTIONS["expiry"]).items():
        if rule.get("Prefix") not in WORKING and ("ExpirationInDays" in rule or "NoncurrentVersionExpiration" in rule):
            assert rule["TagFilters"] == [tag], name


def test_rows_expire_with_their_calls_and_their_old_versions_within_a_day():
    found = rules(**OPTIONS["expiry"])

    assert found["rows-of-expired-calls-expire"] | {"Id": ""} == {
        "Id": "", "Status": "Enabled", "Prefix": "text/", "ExpirationInDays": "400",
    }  # fmt: skip
    assert "rows-of-expired-calls-expire" not in rules()
    assert rules()["old-versions-of-rows-go"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}


def test_rules_for_delete_markers_and_broken_uploads_have_no_tags_because_s3_refuses_them():
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


def test_by_default_somebody_may_lift_the_lock():
    assert bucket(ObjectLockDays="7")["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]["Mode"] == "GOVERNANCE"


def test_every_object_is_put_with_the_checksum_that_a_locked_bucket_requires(aws, context):
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
