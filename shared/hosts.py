"""Other people's APIs: where a key may be sent, and how much of an answer is read."""

import json
import zlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import httpx

from shared.errors import AnswerError

# A page of 100 memories or calls has a tenth of this. The worst JSON, small nested objects, takes 35 times its size in
# memory: 300 MB of a function's 512.
JSON_BYTES = 8 * 2**20


def may_get_key(address: str) -> bool:
    """Whether a key may be sent to this address: over https, or over http to this machine."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    is_private = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))
    return bool(url.host) and is_private and (url.port is None or 0 < url.port < 65536)


def open_client(host: str, headers: dict[str, str], **options: Any) -> httpx.Client:
    """A client for a host that may get the key; http, which is for this machine only, uses no proxy.

    It asks for answers that are not compressed: httpx decompresses without a limit.
    """
    headers = headers | {"Accept-Encoding": "identity"}
    return httpx.Client(base_url=host, headers=headers, trust_env=httpx.URL(host).scheme == "https", **options)


def read_pieces(response: httpx.Response, limit: int) -> Iterator[bytes]:
    """The body of a streamed answer. Raises AnswerError at the piece beyond `limit` bytes, and if it is damaged.

    A server may compress it once, by gzip, though it was not asked to.
    """
    coding = response.headers.get("Content-Encoding", "").lower()
    if coding not in ("", "identity", "gzip"):
        raise AnswerError("the answer is compressed in a way that was not asked for")
    pieces = response.iter_raw()
    size = 0
    for piece in _decompressed(pieces, limit) if coding == "gzip" else pieces:
        size += len(piece)
        if size > limit:
            raise AnswerError(f"the answer is larger than {limit // 10**6} MB")
        yield piece


def _decompressed(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Each piece gives one byte more than the limit at most, however much is packed into it."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        for piece in pieces:
            yield unpacker.decompress(piece, limit + 1)
    except zlib.error:
        raise AnswerError("the answer is damaged") from None
    if not unpacker.eof:
        raise AnswerError("the answer breaks off")


def read_json(response: httpx.Response) -> Any:
    """The JSON of a streamed answer. Raises AnswerError, also for JSON that is nested too deeply."""
    body = b"".join(read_pieces(response, JSON_BYTES))
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("the answer is no JSON") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
