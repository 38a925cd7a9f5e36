"""Where a merchant's URL may lead us: into the public internet, and nowhere else.

A `notify_url` is a wish of somebody outside that we send a POST from inside. So each name is
looked up by us, every address of the answer must be a public one, and the connection goes to
exactly the addresses that were looked at: a name that changes its address between the look and
the connection (DNS rebinding) wins nothing. Who follows redirects undoes all of this: nobody
here does. What an operator names in `allowed_hosts` is trusted wherever it leads.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

LONGEST_URL = 2_048
"""Characters; what browsers and proxies take."""

LONGEST_HOST = 253
"""Characters of a DNS name (RFC 1035, 2.3.4)."""

LOOKUP_S = 5.0
"""One try of the system's resolver. It leaves as much again of a callback's ten seconds."""

LOOKUP_THREADS = 16
"""Names that are looked up at one time. A name whose servers are silent holds one of them."""

MOST_ADDRESSES = 16
"""Of one name. More are no service but an attempt."""

Address = IPv4Address | IPv6Address
Lookup = Callable[[str], Sequence[str]]

NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host (RFC 1122)
        "100.64.0.0/10",  # behind a carrier's NAT (RFC 6598)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "2001::/23",  # protocol assignments, Teredo among them: carries an IPv4 address
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4: carries an IPv4 address (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
"""Beside what `ipaddress` calls private, loopback and so on: its tables differ by version."""

IPV6_IN_USE = IPv6Network("2000::/3")
"""All that was ever given out (IANA). Outside lie loopback, link-local, unique local, multicast,
the mapped and translated IPv4 addresses, and what is reserved."""


class Forbidden(ValueError):
    """We do not go there; the text says why."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What an operator trusts: names as they stand in the URL, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()


def allowed(entries: Sequence[str]) -> Allowed:
    """From the setting `allowed_hosts`: names, addresses, networks as 10.1.0.0/16.

    Raises ValueError for what is none of these.
    """
    names, networks = set(), []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
            continue
        except ValueError:
            name = entry.lower().rstrip(".")
        if not name or len(name) > LONGEST_HOST or set(name) & set("/:@?#*[] "):
            raise ValueError(
                f"allowed_hosts: {entry!r} is neither a host's name nor an address nor a network"
            )
        names.add(name)
    return Allowed(frozenset(names), tuple(networks))


def look_at(url: str, trusted: Allowed) -> URL:
    """The URL, if nothing in its text forbids it. Raises Forbidden.

    A name in it has still to be looked up; an address written in it has been judged.
    """
    if len(url) > LONGEST_URL:
        raise Forbidden(f"the URL is longer than {LONGEST_URL} characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise Forbidden("the URL has spaces, backslashes or control characters in it")
    try:
        parsed = URL(url)
        port, host = parsed.port, parsed.raw_host
    except ValueError:
        raise Forbidden("this is no URL") from None
    if parsed.scheme not in {"http", "https"}:
        raise Forbidden("only http:// and https:// are spoken")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise Forbidden("the URL has a user or a password in it")
    if not port:  # 0 and above 65535 are none
        raise Forbidden("the URL's port is not within 1..65535")
    if not host or len(host) > LONGEST_HOST or "%" in host:
        raise Forbidden("the URL has no usable host")
    if _is_address(host):
        judge(host, _address(host), trusted)
    return parsed


def judge(host: str, address: Address, trusted: Allowed) -> None:
    """May `host` be reached at `address`? Raises Forbidden."""
    if host.lower().rstrip(".") in trusted.names:
        return
    if any(address in network for network in trusted.networks):
        return
    if not is_public(address):
        raise Forbidden(f"{address} is not a public address; allowed_hosts may allow it")


def is_public(address: Address) -> bool:
    """Some other computer in the public internet, and one computer only."""
    if isinstance(address, IPv6Address) and address not in IPV6_IN_USE:
        return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


class GuardedResolver(AbstractResolver):
    """For aiohttp's connector: gives addresses only after all of them were judged.

    aiohttp connects to what this returns. Addresses written in the URL it does not ask for:
    those `look_at` has judged. Give the connector `use_dns_cache=False`.
    """

    def __init__(
        self, trusted: Allowed, lookup: Lookup | None = None, timeout_s: float = LOOKUP_S
    ) -> None:
        """`lookup`: the addresses of a name, or OSError; called in a thread."""
        self._trusted = trusted
        self._lookup = lookup or system_lookup
        self._timeout_s = timeout_s
        # Threads of our own: names that hang must not hold up what else the program does.
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, "callback names")
        self._running: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError: no answer, or one that leads where we do not go."""
        try:
            async with asyncio.timeout(self._timeout_s):
                texts = await asyncio.shield(self._addresses(host))
        except TimeoutError:
            raise _unreachable(host, "no answer from the name servers") from None
        if not 1 <= len(texts) <= MOST_ADDRESSES:
            raise _unreachable(host, f"has {len(texts)} addresses, wanted 1..{MOST_ADDRESSES}")
        try:
            found = [_address(text) for text in texts]
            for address in found:
                judge(host, address, self._trusted)
        except Forbidden as error:
            raise _unreachable(host, str(error)) from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_family(address),
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
            if family in {socket.AF_UNSPEC, _family(address)}
        ]

    def _addresses(self, host: str) -> asyncio.Future[Sequence[str]]:
        """One lookup per name at a time: a silent name server holds one thread, not all."""
        running = self._running.get(host)
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, self._lookup, host)
            self._running[host] = running
            running.add_done_callback(lambda done: self._done(host, done))
        return running

    def _done(self, host: str, done: asyncio.Future[Sequence[str]]) -> None:
        del self._running[host]
        if not done.cancelled():
            done.exception()  # heard, also where everybody who asked has left

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def system_lookup(host: str) -> Sequence[str]:
    """As this computer resolves names, its hosts file included. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or longer than 63
        raise _unreachable(host, "this is no name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _unreachable(host: str, why: str) -> OSError:
    """In the form in which aiohttp passes it on; of others it tells no text."""
    return OSError(errno.EHOSTUNREACH, f"{host}: {why}")


def _is_address(host: str) -> bool:
    """What somebody may take for an address: 127.1 and 2130706433 too, of which the C library
    makes one and `ipaddress` does not."""
    return ":" in host or host.replace(".", "").isdigit()


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise Forbidden(f"{text[:64]!r} is not an address in its usual form") from None


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
