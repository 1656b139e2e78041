"""The stack that an operator works on: deployed on AWS, or run by `make local`."""

import json
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from memory_writer.memory import MemoryBackend
from scripts.aws_session import STACK_NAME, OpsError, aws_session, explained, first_client, isolated_session
from shared.aws_errors import error_code
from shared.bucket import Bucket
from shared.record import Records
from shared.tombstones import Tombstones

_PATIENCE = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 5})
OUTPUTS = Path(__file__).parents[2] / ".local" / "outputs.json"  # written by `make local` once its stack is ready
AT_ONCE = 10  # requests at the same time: as many connections as a client of AWS keeps
MEM0_SECONDS = 30  # how long Mem0 may take to answer
CONNECT_SECONDS = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """The outputs of a stack, and clients that reach what they name."""

    name: str
    outputs: dict[str, str]
    session: Session
    endpoint_url: str | None = None

    def client(self, service: str, config: Config = _PATIENCE) -> Any:
        """The same client each time: to make one takes longer than most requests."""
        made = self._clients.get((service, config))
        if made is None:
            made = self.session.client(service, endpoint_url=self.endpoint_url, config=config)
            self._clients[service, config] = made
        return made

    @cached_property
    def _clients(self) -> dict[tuple[str, Config], Any]:
        return {}

    def output(self, name: str, without: str = "") -> str:
        """Raises OpsError with the sentence `without` if the stack has no such output."""
        if name not in self.outputs:
            raise OpsError(without or f"The stack {self.name} has no output {name}. Is it a stack of AgenticMemory?")
        return self.outputs[name]

    @cached_property
    def table(self) -> Any:
        resource = self.session.resource("dynamodb", endpoint_url=self.endpoint_url, config=_PATIENCE)
        return resource.Table(self.output("ConversationTableName"))

    @cached_property
    def bucket(self) -> Bucket:
        return Bucket(self.client("s3"), self.output("BucketName"))

    @cached_property
    def records(self) -> Records:
        return Records(self.table)

    def metadata(self, key: str) -> dict[str, str] | None:
        """An object's metadata, or None if there is no such object."""
        head = self.head(key)
        return None if head is None else dict(head["Metadata"])

    def head(self, key: str) -> dict[str, Any] | None:
        """What S3 knows about an object, or None if there is no such object."""
        try:
            return dict(self.client("s3").head_object(Bucket=self.bucket.name, Key=key))
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchKey"):
                return None
            raise

    def queue(self, url: str) -> dict[str, int]:
        """How many messages of a queue are waiting, at work and delayed, and its visibility timeout in seconds."""
        names = {
            "waiting": "ApproximateNumberOfMessages", "at_work": "ApproximateNumberOfMessagesNotVisible",
            "delayed": "ApproximateNumberOfMessagesDelayed", "visibility_seconds": "VisibilityTimeout",
        }  # fmt: skip
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(names.values()))
        return {name: int(answer["Attributes"][attribute]) for name, attribute in names.items()}

    @cached_property
    def tombstones(self) -> Tombstones:
        return Tombstones(self.table, lambda: self.secret("ErasureSecretArn"))

    def secret(self, output: str, without: str = "") -> str:
        """The value of the secret whose ARN is that output."""
        arn = self.output(output, without)
        return str(self.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]).strip()


def memory_backend(stack: Stack, without: str = "") -> MemoryBackend:
    """The Mem0 that the stack writes to. Raises OpsError, with the sentence `without` if it does not remember."""
    secret = stack.secret("MemorySecretArn", without)
    if stack.output("MemoryBackend") == "oss":
        from memory_writer.oss import OssBackend

        try:
            return OssBackend(json.loads(secret))
        except ValueError:
            raise OpsError("The stack's parameter MemoryConfig is not JSON.") from None
    from memory_writer.platform import PlatformBackend

    return PlatformBackend(stack.output("Mem0Host"), secret, MEM0_SECONDS)


def find_stack(name: str | None, *, local: bool) -> Stack:
    """Raises OpsError."""
    if not local:
        return deployed_stack(name or STACK_NAME)
    found = local_stack(OUTPUTS)
    check_answers(str(found.endpoint_url))
    return found


def check_answers(url: str) -> None:
    """Raises OpsError if nothing listens there: the local stack's process may have been killed."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=CONNECT_SECONDS).close()
    except OSError:
        raise OpsError(f"Nothing answers at {url}. Start the local stack: make local") from None


def local_stack(path: Path) -> Stack:
    try:
        outputs = json.loads(path.read_text())
    except FileNotFoundError:
        raise OpsError("There is no local stack. Start one in another terminal: make local") from None
    session = Session(
        aws_access_key_id=outputs["AccessKeyId"], aws_secret_access_key=outputs["SecretAccessKey"],
        region_name=outputs["Region"], botocore_session=isolated_session(),
    )  # fmt: skip
    return Stack(outputs["StackName"], outputs, session, outputs["AwsEndpointUrl"])


def deployed_stack(name: str) -> Stack:
    session = aws_session()
    try:
        client = first_client(session, "cloudformation", config=_PATIENCE)
        found = client.describe_stacks(StackName=name)["Stacks"][0]
    except (ClientError, BotoCoreError) as error:
        raise explained(error, name, session.region_name) from None
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}
    return Stack(found["StackName"], outputs, session)  # which may have been named by its ARN
