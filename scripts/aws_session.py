"""The operator's session with AWS, and what can be done about AWS's errors: for all commands on a deployed stack."""

import os

import botocore.session
from boto3.session import Session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from shared.aws_errors import error_code

_FORBIDDEN = (
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "UnrecognizedClientException",
    "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403",  # 403: HEAD has no body
)  # fmt: skip
_SIGNED_OUT = (NoCredentialsError, CredentialRetrievalError, SSOError, TokenRetrievalError)


class OpsError(Exception):
    """The command cannot be done; the text says why and what to do. `code` is the exit code."""

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
    return Session(botocore_session=session, region_name=region)


def explained(error: ClientError | BotoCoreError, stack: str = "", region: str | None = None) -> OpsError:
    """What an operator can do about an error of AWS; `stack` is the one that was looked for, if any."""
    if isinstance(error, _SIGNED_OUT):
        return OpsError("There are no AWS credentials: sign in (aws sso login), set AWS_PROFILE, or use --local.")
    if error_code(error).startswith("ExpiredToken"):
        return OpsError("Your AWS credentials have expired: sign in again (aws sso login).")
    if isinstance(error, NoRegionError):
        return OpsError("No AWS region is set: set AWS_REGION, or use --local.")
    if stack and error_code(error) == "ValidationError" and "does not exist" in str(error):
        return OpsError(f"There is no stack {stack} in {region}. Name it with --stack, or use --local.")
    operation = error.operation_name if isinstance(error, ClientError) else "the request"
    if error_code(error) in _FORBIDDEN:
        return OpsError(f"AWS refused {operation} ({error_code(error)}): your credentials may not do this.")
    return OpsError(f"AWS did not do {operation}: {error_code(error)}.", code=1)
