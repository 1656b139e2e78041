"""Calls to other hosts' APIs: where a key may be sent, and how much of an answer is read."""

import json
import zlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import httpx

from shared.errors import AnswerError

# A page of 100 memories or calls has a tenth of this. The worst JSON (small nested objects) needs 35 times its size in
# memory: 300 MB of a function's 512 MB.
JSON_BYTES = 8 * 2**20


def may_get_key(address: str) -> bool:
    """Whether a key may be sent to this address: only over https, or over http to this machine."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    is_private = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))
    return bool(url.host) and is_private and (url.port is None or 0 < url.port < 65536)


def open_client(host: str, headers: dict[str, str], **options: Any) -> httpx.Client:
    """A client for a host that may get a key. Over http, which is for this machine only, it uses no proxy.

    It asks for uncompressed answers, because httpx decompresses without a limit.
    """
    headers = headers | {"Accept-Encoding": "identity"}
    return httpx.Client(base_url=host, headers=headers, trust_env=httpx.URL(host).scheme == "https", **options)


def read_pieces(response: httpx.Response, limit: int) -> Iterator[bytes]:
    """The body of a streamed answer. Raises AnswerError once it exceeds `limit` bytes, and if it is damaged.

    Some servers compress it with gzip although they were not asked to; this is read too.
    """
    coding = response.headers.get("Content-Encoding", "").lower()
    if coding not in ("", "identity", "gzip"):
        raise AnswerError("the answer has a compression that is not supported")
    pieces = response.iter_raw()
    size = 0
    for piece in _decompressed(pieces, limit) if coding == "gzip" else pieces:
        size += len(piece)
        if size > limit:
            raise AnswerError(f"the answer is larger than {limit // 10**6} MB")
        yield piece


def _decompressed(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Each piece yields at most one byte more than the limit, so that a small piece cannot fill the memory."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        for piece in pieces:
            yield unpacker.decompress(piece, limit + 1)
    except zlib.error:
        raise AnswerError("the answer is damaged") from None
    if not unpacker.eof:
        raise AnswerError("the answer ends too early")


def read_json(response: httpx.Response) -> Any:
    """The JSON of a streamed answer. Raises AnswerError if it is not JSON or is nested too deeply."""
    body = b"".join(read_pieces(response, JSON_BYTES))
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("the answer is not JSON") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
