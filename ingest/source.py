"""Checks a webhook's source address: ElevenLabs publishes the addresses that it sends from."""

from ipaddress import ip_address, ip_network


def is_listed(source: str, allowed: str) -> bool:
    """Whether the address `source` is in `allowed`, a comma-separated list of addresses and networks."""
    try:
        address = ip_address(source)
    except ValueError:
        return False
    return any(address in ip_network(each, strict=False) for each in allowed.split(","))
