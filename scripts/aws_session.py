"""The operator's session with AWS, and what an operator can do about AWS's errors."""

import os
from functools import cache
from typing import Any

import botocore.session
from boto3.session import Session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.loaders import Loader
from botocore.utils import JSONFileCache

from shared.aws_errors import error_code

STACK_NAME = "agentic-memory"  # if no other is given
_FORBIDDEN = (
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "403",  # 403: HEAD has no body
)  # fmt: skip
_NOT_ACCEPTED = (
    "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch",
)  # fmt: skip
_SIGNED_OUT = (NoCredentialsError, CredentialRetrievalError, SSOError, TokenRetrievalError)


class OpsError(Exception):
    """The command cannot be done. The text says why and what to do; `code` is the exit code."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


def aws_session(otherwise: str = "") -> Session:
    """A session in the region of AWS_REGION, else of AWS_DEFAULT_REGION, of the profile, or `otherwise`.

    boto3 by itself does not read AWS_REGION. Raises OpsError for an unknown profile, and if there is no region.
    """
    session = botocore.session.get_session()
    try:
        profile_region = session.get_scoped_config().get("region")
    except ProfileNotFound:
        name = session.get_config_variable("profile")
        raise OpsError(
            f"There is no AWS profile {name!r}: set AWS_PROFILE to a profile of your AWS configuration, or unset it."
        ) from None
    except BotoCoreError as error:
        raise OpsError(f"The AWS configuration cannot be read: {error}.") from None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile_region or otherwise
    if not region:
        raise OpsError("No AWS region is set: set AWS_REGION, or give the profile a region.")
    # Like the SAM CLI and the AWS CLI: a role with MFA asks for a code once, not for each session.
    session.get_component("credential_provider").get_provider("assume-role").cache = JSONFileCache()
    return Session(botocore_session=session, region_name=region)


def isolated_session() -> botocore.session.Session:
    """A session that reads no AWS profile and no file, so that a broken one on this machine has no effect."""
    session = botocore.session.Session({"profile": (None, None, None, None)})
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """One for all sessions: it keeps the models of AWS's services. Reading a model takes longer than most requests."""
    return Loader()


def first_client(session: Session, service: str, **options: Any) -> Any:
    """A session's first client. Raises OpsError for unusable settings, such as an endpoint that is not a URL."""
    try:
        return session.client(service, **options)
    except ValueError as error:
        raise OpsError(f"The AWS settings cannot be used: {error}.") from None


def is_forbidden(error: ClientError | BotoCoreError) -> bool:
    return error_code(error) in _FORBIDDEN


def explained(error: ClientError | BotoCoreError, stack: str = "", region: str | None = None) -> OpsError:
    """What an operator can do about an error of AWS. `stack` is the stack that was looked for, if any."""
    code = error_code(error)
    if isinstance(error, _SIGNED_OUT):
        return OpsError("There are no AWS credentials: sign in (aws sso login), or set AWS_PROFILE.")
    if code.startswith("ExpiredToken"):
        return OpsError("Your AWS credentials have expired: sign in again (aws sso login).")
    if code in _NOT_ACCEPTED:
        return OpsError(
            f"AWS does not accept these credentials ({code}): the access key is wrong or inactive, or the region is "
            "not enabled for the account (console: Account, AWS Regions)."
        )
    if stack and code == "ValidationError" and "does not exist" in str(error):
        return OpsError(f"There is no stack {stack} in {region}. Name it with --stack, or use --local.")
    if isinstance(error, ConnectionError | HTTPClientError):
        return OpsError(f"AWS cannot be reached ({code}): look at the network, and at AWS_REGION.", code=1)
    operation = error.operation_name if isinstance(error, ClientError) else "the request"
    if is_forbidden(error):
        return OpsError(f"AWS refused {operation} ({code}): your credentials may not do this.")
    return OpsError(f"The AWS request {operation} failed ({code}).", code=1)
