"""The archive's resources on AWS, as four of the functions use them. Ingest has less, and makes its own clients."""

from typing import Any

import boto3
from botocore.config import Config

from shared.bucket import Bucket
from shared.record import Records


class Aws:
    """What one execution environment keeps between its invocations. All clients share one Config."""

    def __init__(self, config: Config, bucket_name: str, table_name: str) -> None:
        self.bucket = Bucket(boto3.client("s3", config=config), bucket_name)
        self.table = boto3.resource("dynamodb", config=config).Table(table_name)
        self.records = Records(self.table)
        self.sqs: Any = boto3.client("sqs", config=config)
        self._secrets_manager = boto3.client("secretsmanager", config=config)

    def read_secret(self, arn: str) -> str:
        """The secret's value as it is now, without blanks around it."""
        return str(self._secrets_manager.get_secret_value(SecretId=arn)["SecretString"]).strip()
