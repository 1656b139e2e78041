"""The hosts that a key may be sent to."""

import pytest

from shared.hosts import may_get_key


@pytest.mark.parametrize(
    "address",
    [
        "https://api.mem0.ai", "https://api.eu.residency.elevenlabs.io", "HTTPS://API.MEM0.AI/base", "https://10.0.0.7:8443",
        "http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080", "http://127.9.9.9",
        "http://127.0.0.1:65535",
    ],
)  # fmt: skip
def test_a_key_may_be_sent_over_tls_or_to_this_machine(address):
    assert may_get_key(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.mem0.ai", "http://10.0.0.7", "http://localhost.example.com", "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com", "http://0.0.0.0", "ftp://127.0.0.1", "//api.mem0.ai", "api.mem0.ai",
        "https://", "https:api.mem0.ai", "https://example.com:port", "https://\u2100.example", "", "none",
        "http://127.0.0.1:99999", "https://api.mem0.ai:65536", "http://127.0.0.1:0",
    ],
)  # fmt: skip
def test_a_key_may_be_sent_nowhere_else(address):
    assert not may_get_key(address)
