"""Signatures of requests to HTTP APIs. The emulator checks those of all callers but its root: this does it for root."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from hmac import compare_digest
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from scripts.embedded.aws import REGION, ROOT_KEY
from scripts.embedded.loopback import App, Receive, Scope, Send

SKEW = timedelta(minutes=15)  # as on AWS
APIS = ("/_aws/execute-api/", "/restapis/")  # where the emulator answers for an API
FORBIDDEN = b'{"message":"Forbidden"}'  # AWS's own answer
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/\d{8}/[^/,\s]*/[^/,\s]*/aws4_request,\s*"
    r"SignedHeaders=(?P<names>[a-z0-9;-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


def signed_by_root(app: App) -> App:
    """The ASGI application, which gets requests of root for an API only if root has signed them."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(APIS) and is_refused(scope, datetime.now(timezone.utc)):
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(FORBIDDEN)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": FORBIDDEN})
        else:
            await app(scope, receive, send)

    return guarded


def is_refused(scope: Scope, now: datetime) -> bool:
    """Whether the request claims to come from root and is not signed by it, or claims anything in another way.

    Other callers' signatures and tokens are left to the emulator. It believes root's key also in a query, or in the
    signatures of old.
    """
    claims = [value for name, value in headers_of(scope) if name == "authorization"]
    in_query = {name.lower() for name in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)}
    if len(claims) > 1 or in_query & {"x-amz-credential", "awsaccesskeyid"}:
        return True
    if not claims:
        return False  # a route that wants a signature refuses it
    claim = AUTHORIZATION.fullmatch(claims[0])
    if claim is None:
        return not claims[0].startswith("Bearer ")
    return claim["key"] == ROOT_KEY and not is_signed(scope, claim, now)


def is_signed(scope: Scope, claim: re.Match[str], now: datetime) -> bool:
    """Whether root's secret gives this signature for an API, over the request as it came without a body, and recently.

    The host is always part of it, also if the claim leaves it out.
    """
    names, query = claim["names"].split(";"), scope["query_string"].decode("latin-1")
    # What a client sends may be escaped less than what it signs.
    escaped = urlencode(parse_qsl(query, keep_blank_values=True), quote_via=quote, safe="-_.~")
    requests = [signed_part(scope, each, names) for each in (query, escaped)]
    if not is_recent(requests[0].context["timestamp"], now):
        return False
    return any(compare_digest(signature(each), claim["signature"]) for each in requests)


def signature(request: AWSRequest) -> str:
    signer = SigV4Auth(Credentials(ROOT_KEY, ROOT_KEY), "execute-api", REGION)
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))


def signed_part(scope: Scope, query: str, names: list[str]) -> AWSRequest:
    """The request with the headers that are signed, and no others."""
    request = AWSRequest(scope["method"], f"http://loopback{scope['raw_path'].decode('latin-1')}{query and '?'}{query}")
    for name, value in headers_of(scope):
        if name in names:
            request.headers.add_header(name, value)
    request.context["timestamp"] = request.headers.get("x-amz-date", "")
    return request


def headers_of(scope: Scope) -> Iterator[tuple[str, str]]:
    for name, value in scope["headers"]:
        yield name.decode("latin-1").lower(), value.decode("latin-1")


def is_recent(date: str, now: datetime) -> bool:
    try:
        return abs(datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc) - now) <= SKEW
    except ValueError:
        return False
