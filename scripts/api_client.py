"""The stack's API, asked with the operator's AWS credentials: the page and the commands read calls through it."""

import json
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

TIMEOUT = (5, 35)  # seconds to connect, and to answer: the API itself gives up after 30
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Answer:
    """What the API answered. An error is always problem details, also if the API's gateway said something else."""

    status: int
    content: bytes
    content_type: str

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True, eq=False)
class Api:
    """The API at `url`. Credentials are looked up for each request, so that those that expire are renewed."""

    url: str
    session: Session

    def get(self, target: str) -> Answer:
        """GET a path with its query, percent-encoded. Raises botocore's errors if it cannot be signed or sent."""
        request = AWSRequest("GET", self.url + target, headers={"Accept": "application/json"})
        credentials = self.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", self.session.region_name).add_auth(request)
        response = self._http.send(request.prepare())
        content_type = response.headers.get("content-type", "application/octet-stream")
        if response.status_code >= 400 and not content_type.startswith(PROBLEM):
            return problem(response.status_code, REFUSALS.get(response.status_code, ""))
        return Answer(response.status_code, response.content, content_type)

    @cached_property
    def _http(self) -> Any:
        is_here = urlsplit(self.url).scheme == "http"  # only the embedded AWS is: a proxy does not reach it
        return URLLib3Session(proxies={} if is_here else get_environ_proxies(self.url), timeout=TIMEOUT)


# What the API's gateway refuses before its function is asked.
REFUSALS = {
    401: "The API of this stack accepts tokens of its JwtIssuer, and no credentials of AWS (docs/read.md).",
    403: "These AWS credentials may not read this. They need the right execute-api:Invoke for it (docs/read.md has "
    "policies to paste), and must belong to the account of the stack. This machine's clock must be right.",
    404: "There is nothing at this address.",
    429: "Too many requests at the moment: try again in some seconds.",
    503: "The API is not available at the moment: try again in some seconds.",
}  # fmt: skip


def problem(status: int, detail: str) -> Answer:
    """Problem details (RFC 9457)."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Answer(status, json.dumps(told).encode(), PROBLEM)
