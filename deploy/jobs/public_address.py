"""Which addresses a webhook may be sent to: public ones, so that no tenant reaches the network of the service."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressError(Exception):
    """A host has no address, or one that is not public. The message does not name the address."""


def resolve(host: str, private_hosts: Collection[str] = ()) -> list[str]:
    """The addresses of ``host``. Blocks while the name server is asked.

    Args:
        private_hosts: names (or literal addresses) that may have addresses that are not public.

    Raises:
        AddressError: there is no address, or one of them is not public.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise AddressError("the host has no address") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host.lower() not in {name.lower() for name in private_hosts} and not all(map(is_public, addresses)):
        raise AddressError("the host has an address that is not public (serving.jobs.webhook_private_hosts allows it)")
    return addresses


def is_public(address: str) -> bool:
    """Whether an address is globally reachable: not loopback, private, link-local (metadata services), shared,
    multicast or reserved. Of an IPv6 address that carries an IPv4 address, that one counts, too."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_multicast or not parsed.is_global:
        return False
    return all(is_public(str(inner)) for inner in _embedded(parsed))


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses within an IPv6 address: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]
