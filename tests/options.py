"""The template's options that are off by default. Run as a program it prints the template with all of them on.

checkov reads that instead of template.yaml, because it passes over much of what depends on a condition.
"""

import json
from typing import Any

from tests.alarms import Deployed

KEY = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = "arn:aws:kms:eu-west-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab"
REPLICA = "arn:aws:s3:::replica"
OPTIONS = {
    "default": {},
    "expiry": {"ExpireAfterDays": "400", "OldVersionDays": "7"},
    "lock": {"ObjectLockDays": "7", "ObjectLockMode": "COMPLIANCE"},
    "access logs": {"AccessLogging": "true"},
    "replication": {"ReplicationBucketArn": REPLICA},
    "a key of the user's": {"KmsKeyArn": KEY},
    "a key of the stack's": {"KmsKeyArn": "create"},
    "gradual deployment": {"GradualDeployment": "Canary10Percent5Minutes", "DeploymentId": "2026-11-22"},
    "filter": {"SourceAddresses": "filter", "AllowedSources": "203.0.113.7,127.0.0.0/8"},
    "tokens": {"JwtIssuer": "https://issuer.example/pool", "JwtAudience": "app-1"},
    "transcription": {"Transcribe": "all"},
    "VPC": {"VpcSubnetIds": "subnet-01234567,subnet-0123456789abcdef0", "VpcSecurityGroupIds": "sg-01234567"},
}
WITH_ALL_FUNCTIONS = {
    "ElevenLabsApiKey": "xi-test", "Mem0ApiKey": "m0-test", "CanaryMinutes": "15", "Transcribe": "missing",
}  # fmt: skip
EVERYTHING = {name: value for option in OPTIONS.values() for name, value in option.items()} | {
    "ReplicationKmsKeyArn": OTHER_KEY,
    "ElevenLabsApiKey": "xi-test",
}


def template(**parameters: str) -> dict[str, Any]:
    """The template as these parameters make it, without parameters and conditions."""
    deployed = Deployed(**parameters)
    resources = {
        name: {key: deployed.resolve(value) for key, value in resource.items() if key != "Condition"}
        for name, resource in deployed.resources.items()
    }
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}


if __name__ == "__main__":
    print(json.dumps(template(**EVERYTHING | WITH_ALL_FUNCTIONS), indent=2))
