"""Checks before anything is made. Each one passes, or raises OpsError that says what is wrong and what to do."""

import shutil
import subprocess

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from scripts.aws_session import OpsError, explained, first_client
from shared.aws_errors import error_code

LAMBDA_PYTHON = "python3.13"  # what `sam build` calls to fetch the functions' packages


def check_python() -> None:
    """`sam build` needs Lambda's Python, under this name, on the PATH. A shim of pyenv may exist and not run."""
    cure = f"Install it, for example with: pyenv install {LAMBDA_PYTHON.removeprefix('python')}"
    if not shutil.which(LAMBDA_PYTHON):
        raise OpsError(f"The functions are built with {LAMBDA_PYTHON}, which is not on the PATH. {cure}")
    try:
        ran = subprocess.run([LAMBDA_PYTHON, "-m", "pip", "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        ran = None
    if ran is None or ran.returncode:
        raise OpsError(f"The functions are built with {LAMBDA_PYTHON}, but it does not run here, or has no pip. {cure}")


def check_credentials(session: Session) -> str:
    """The account of the credentials."""
    try:
        return str(first_client(session, "sts").get_caller_identity()["Account"])
    except (ClientError, BotoCoreError) as error:
        raise explained(error) from None


def check_region(session: Session, region: str) -> str:
    """The region itself, if botocore lists it as one with Lambda."""
    partitions = session.get_available_partitions()
    if not any(region in session.get_available_regions("lambda", partition) for partition in partitions):
        raise OpsError(f"{region!r} is not a known AWS region. Write it like us-east-1 or eu-central-1.")
    return region


def check_bucket(session: Session, name: str) -> None:
    """A new stack makes its bucket, so the name must be free. AWS answers HEAD with a status, without a reason."""
    other = 'Choose another name: make deploy PARAMETERS="BucketName=my-calls"'
    try:
        session.client("s3").head_bucket(Bucket=name)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchBucket"):
            return
        if error_code(error) in ("301", "403"):
            raise OpsError(
                f"The bucket name {name} is not free: another account or region has it, or your credentials may not "
                f"look at it (s3:ListBucket). {other}"
            ) from None
        raise explained(error) from None
    except BotoCoreError as error:
        raise explained(error) from None
    raise OpsError(
        f"The bucket {name} exists in your account already, perhaps from a deleted stack. Its calls are safe and stay "
        f"there. {other}"
    )
