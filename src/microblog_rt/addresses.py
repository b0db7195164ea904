"""Internet addresses of clients."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

HOME_PREFIX = 64  # a provider assigns one /64 to a home


@lru_cache(maxsize=4_096)  # parsing takes 6 % of a held poll (measured)
def counted(text: str) -> str:
    """What limits count as one address: an IPv4 address, or the /64 network of an IPv6 address; "" for other text."""
    try:
        address = ip_address(unmapped(text.partition("%")[0]))
    except ValueError:
        return ""
    return str(ip_network((address, HOME_PREFIX), strict=False) if isinstance(address, IPv6Address) else address)


def unmapped(text: str) -> str:
    """The IPv4 address in an IPv4-mapped one, which a socket for both kinds of addresses reports; else ``text``."""
    try:
        mapped = IPv6Address(text).ipv4_mapped
    except ValueError:
        return text
    return str(mapped) if mapped else text
