"""boto3's client, as far as the code uses one: each operation is a function call."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.faults.services.secrets import ResourceExistsException, ResourceNotFoundException

Call = Callable[[str, dict[str, Any]], dict[str, Any]]

# For each parameter of the next page, the field of the last page that has its value.
PAGES = {
    "list_objects_v2": {"ContinuationToken": "NextContinuationToken"},
    "list_object_versions": {"KeyMarker": "NextKeyMarker", "VersionIdMarker": "NextVersionIdMarker"},
}
EXCEPTIONS = {
    "secretsmanager": SimpleNamespace(
        ResourceExistsException=ResourceExistsException, ResourceNotFoundException=ResourceNotFoundException
    )
}


class Client:
    """`client.put_object(Key=...)` is `call("put_object", {"Key": ...})`. `service` is boto3's name of the service."""

    def __init__(self, service: str, call: Call) -> None:
        self._call, self.exceptions = call, EXCEPTIONS.get(service, SimpleNamespace())

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        if operation.startswith("_"):
            raise AttributeError(operation)

        def do(**parameters: Any) -> dict[str, Any]:
            return self._call(operation, parameters)

        self.__dict__[operation] = do
        return do

    def get_paginator(self, operation: str) -> "Paginator":
        if operation not in PAGES:
            raise NotImplementedError(f"a paginator for {operation}")
        return Paginator(partial(self._call, operation), PAGES[operation])


class Paginator:
    """The pages of a listing, each read when it is asked for."""

    def __init__(self, read: Callable[[dict[str, Any]], dict[str, Any]], next_page: dict[str, str]) -> None:
        self._read, self._next_page = read, next_page

    def paginate(self, PaginationConfig: dict[str, int] | None = None, **parameters: Any) -> Iterator[dict[str, Any]]:
        paging = PaginationConfig or {}
        if paging.keys() - {"PageSize"}:
            raise NotImplementedError(f"PaginationConfig {sorted(paging)}")
        if paging:
            parameters["MaxKeys"] = paging["PageSize"]
        while True:
            page = self._read(dict(parameters))
            yield page
            if not page["IsTruncated"]:
                return
            parameters |= {name: page[field] for name, field in self._next_page.items() if field in page}
