"""AWS's errors, told without any of the input."""

from botocore.exceptions import BotoCoreError, ClientError

AwsError = (ClientError, BotoCoreError)


def error_code(error: ClientError | BotoCoreError) -> str:
    """AWS's code for an error, or the name of botocore's exception when AWS did not answer."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
