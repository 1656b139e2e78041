"""AWS's errors, described without any of the request."""

from botocore.exceptions import BotoCoreError, ClientError

AwsError = (ClientError, BotoCoreError)


def error_code(error: ClientError | BotoCoreError) -> str:
    """AWS's error code, or the name of botocore's exception if AWS did not answer."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
