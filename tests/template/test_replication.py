"""Copies in another region."""

from tests.options import KEY, OTHER_KEY, REPLICA
from tests.template.stacks import bucket, rights_to


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
