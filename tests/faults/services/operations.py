"""How a service in memory answers boto3's calls."""

from datetime import datetime, timezone
from functools import cache
from inspect import signature
from typing import Any, ClassVar

from botocore.exceptions import ClientError


class Operations:
    """Calls the method of an operation, which has the operation's name with an underscore before it."""

    NAMES: ClassVar[tuple[str, ...]]  # of the operations

    def __init__(self) -> None:
        known = _parameters(type(self))
        self._operations = {name: (getattr(self, f"_{name}"), known[name]) for name in self.NAMES}

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Raises ClientError as AWS does, and NotImplementedError for what the code has not used so far."""
        service = type(self).__name__
        if operation not in self._operations:
            raise NotImplementedError(f"{service}.{operation}")
        method, known = self._operations[operation]
        if not parameters.keys() <= known:
            raise NotImplementedError(f"{service}.{operation}: {', '.join(sorted(parameters.keys() - known))}")
        answer: dict[str, Any] = method(**parameters)
        return answer


@cache
def _parameters(service: type[Operations]) -> dict[str, frozenset[str]]:
    return {name: frozenset(signature(getattr(service, f"_{name}")).parameters) - {"self"} for name in service.NAMES}


def aws_error(code: str, operation: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def utc_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
