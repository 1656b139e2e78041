"""Secrets Manager in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from tests.faults.services.operations import Operations, aws_error, utc_time

CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"


class ResourceNotFoundException(ClientError):
    pass


class ResourceExistsException(ClientError):
    pass


@dataclass
class Value:
    """One version of a secret. A version without a stage can still be found by its id."""

    text: str
    created_at: datetime


@dataclass
class Secret:
    changed_at: datetime
    values: dict[str, Value] = field(default_factory=dict)  # by version id
    stages: dict[str, str] = field(default_factory=dict)  # version ids


class SecretsManager(Operations):
    """A secret's ARN is its name."""

    NAMES = ("get_secret_value", "put_secret_value", "describe_secret", "update_secret_version_stage")

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock, self._secrets = clock, dict[str, Secret]()
        self._number = 0

    def create(self, name: str, text: str) -> str:
        """A secret with a current value and no previous one; returns its ARN."""
        self._secrets[name] = Secret(utc_time(self._clock()))
        self._put(self._secrets[name], self._new_id(), text)
        return name

    def _get_secret_value(self, SecretId: str, VersionStage: str = CURRENT) -> dict[str, Any]:
        secret = self._secret("GetSecretValue", SecretId)
        version = secret.stages.get(VersionStage)
        if version is None:
            message = f"Secrets Manager can't find the specified secret value for staging label: {VersionStage}"
            raise _error(ResourceNotFoundException, "GetSecretValue", message)
        value = secret.values[version]
        return {
            "ARN": SecretId, "Name": SecretId, "SecretString": value.text, "CreatedDate": value.created_at,
            "VersionId": version, "VersionStages": [stage for stage, id in secret.stages.items() if id == version],
        }  # fmt: skip

    def _put_secret_value(self, SecretId: str, SecretString: str, ClientRequestToken: str = "") -> dict[str, Any]:
        """The token is the new version's id. The same token with the same value changes nothing."""
        secret = self._secret("PutSecretValue", SecretId)
        version = ClientRequestToken or self._new_id()
        if version not in secret.values:
            self._put(secret, version, SecretString)
        elif secret.values[version].text != SecretString:
            message = "You can't use a client request token for two different values."
            raise _error(ResourceExistsException, "PutSecretValue", message)
        stages = [stage for stage, id in secret.stages.items() if id == version]
        return {"ARN": SecretId, "Name": SecretId, "VersionId": version, "VersionStages": stages}

    def _describe_secret(self, SecretId: str) -> dict[str, Any]:
        secret = self._secret("DescribeSecret", SecretId)
        return {"ARN": SecretId, "Name": SecretId, "LastChangedDate": secret.changed_at}

    def _update_secret_version_stage(
        self, SecretId: str, VersionStage: str, RemoveFromVersionId: str
    ) -> dict[str, Any]:
        operation = "UpdateSecretVersionStage"
        secret = self._secret(operation, SecretId)
        if VersionStage == CURRENT:
            raise aws_error("InvalidParameterException", operation, "AWSCURRENT can only be moved.")
        if RemoveFromVersionId not in secret.values:
            raise _error(ResourceNotFoundException, operation, "Secrets Manager can't find the version.")
        if secret.stages.get(VersionStage) != RemoveFromVersionId:
            raise aws_error("InvalidParameterException", operation, "The version does not have the staging label.")
        del secret.stages[VersionStage]
        secret.changed_at = utc_time(self._clock())
        return {"ARN": SecretId, "Name": SecretId}

    def _put(self, secret: Secret, version: str, text: str) -> None:
        now = utc_time(self._clock())
        secret.values[version] = Value(text, now)
        if CURRENT in secret.stages:
            secret.stages[PREVIOUS] = secret.stages[CURRENT]
        secret.stages[CURRENT] = version
        secret.changed_at = now

    def _secret(self, operation: str, name: str) -> Secret:
        if name not in self._secrets:
            message = "Secrets Manager can't find the specified secret."
            raise _error(ResourceNotFoundException, operation, message)
        return self._secrets[name]

    def _new_id(self) -> str:
        self._number += 1
        return f"value-{self._number:026d}"


def _error(kind: type[ClientError], operation: str, message: str) -> ClientError:
    return kind({"Error": {"Code": kind.__name__, "Message": message}}, operation)
