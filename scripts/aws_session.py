"""The operator's session with AWS, for all commands that work on a deployed stack."""

import os

import botocore.session
from boto3.session import Session
from botocore.exceptions import BotoCoreError, ProfileNotFound


class SessionError(Exception):
    """The operator's AWS settings cannot be used; the text says why and what to do."""


def aws_session(otherwise: str = "") -> Session:
    """A session in the region of AWS_REGION, else of AWS_DEFAULT_REGION, of the profile, or `otherwise`.

    boto3 by itself does not read AWS_REGION. Raises SessionError for an unknown profile, and if there is no region.
    """
    session = botocore.session.get_session()
    try:
        profile_region = session.get_scoped_config().get("region")
    except ProfileNotFound:
        name = session.get_config_variable("profile")
        raise SessionError(
            f"There is no AWS profile {name!r}: set AWS_PROFILE to a profile of your AWS configuration, or unset it."
        ) from None
    except BotoCoreError as error:
        raise SessionError(f"The AWS configuration cannot be read: {error}.") from None
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile_region or otherwise
    if not region:
        raise SessionError("No AWS region is set: set AWS_REGION, or give the profile a region.")
    return Session(botocore_session=session, region_name=region)
