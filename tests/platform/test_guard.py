"""Where callbacks may go: judged by text, by address, and at the connection itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_sim.guard import (
    Allowed,
    Forbidden,
    GuardedResolver,
    allowed,
    is_public,
    look_at,
)

NOBODY = Allowed()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "ff02::1",
    ],
)
def test_no_public_address(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "114.114.114.114", "2400:3200::1"])
def test_a_public_address(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "merchant.example",
        "//merchant.example/x",
        "ftp://merchant.example/",
        "file:///etc/passwd",
        "gopher://merchant.example/",
        "http://",
        "http:///x",
        "http://:80/",
        "http://user@merchant.example/",
        "http://user:word@merchant.example/",
        "http://:word@merchant.example/",
        "http://merchant.example:0/",
        "http://merchant.example:65536/",
        "http://merchant.example:port/",
        "http://merchant.example\\@127.0.0.1/",
        "http://merchant.example/\r\nHost: other",
        "http://merchant.example/a b",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://1.1.1.1.1/",
        "http://\uff10.0.0.0/",
        "http://①②⑦.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25lo]/",
        "http://[::1/",
        "http://[1.1.1.1]:x/",
        f"http://merchant.example/{'x' * 2048}",
        f"http://{'x' * 254}/",
    ],
)
def test_a_url_that_its_text_forbids(url: str) -> None:
    with pytest.raises(Forbidden):
        look_at(url, NOBODY)


@pytest.mark.parametrize(
    "url",
    [
        "http://merchant.example",
        "https://merchant.example:8443/notify?a=1&b=%20#c",
        "HTTPS://Merchant.Example/",
        "http://8.8.8.8/x",
        "http://[2400:3200::1]:8080/",
        "http://商户.example/",
    ],
)
def test_a_url_that_is_worth_a_lookup(url: str) -> None:
    assert look_at(url, NOBODY).host


@settings(max_examples=100)
@given(text=st.text(max_size=40), front=st.sampled_from(["", "http://", "https://["]))
def test_any_text_is_a_url_or_forbidden(text: str, front: str) -> None:
    try:
        url = look_at(front + text, NOBODY)
    except Forbidden:
        return
    assert url.host


def test_what_an_operator_allows() -> None:
    trusted = allowed(["Inside.Example.", "10.1.0.0/16", "127.0.0.1", "::1", "fd00::/8"])
    assert trusted.names == {"inside.example"}
    for url in ("http://10.1.2.3/", "http://127.0.0.1:9/", "http://[::1]/", "http://[fd00::5]/"):
        look_at(url, trusted)
    for url in ("http://10.2.0.1/", "http://127.0.0.2/", "http://[fc00::5]/"):
        with pytest.raises(Forbidden):
            look_at(url, trusted)


@pytest.mark.parametrize("entry", ["", "http://a", "a:80", "*.example", "10.0.0.1/8", "a b"])
def test_what_an_operator_may_not_write(entry: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        allowed([entry])


async def answers(resolver: GuardedResolver, host: str = "merchant.example") -> list[str]:
    try:
        return [result["host"] for result in await resolver.resolve(host, 80)]
    finally:
        await resolver.close()


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (["127.0.0.1"], "127.0.0.1 is not a public address"),
        (["8.8.8.8", "10.0.0.1"], "10.0.0.1 is not a public address"),
        (["8.8.8.8", "::1"], "::1 is not a public address"),
        (["fe80::1%2"], "fe80::1%2 is not a public address"),
        (["nonsense"], "not an address"),
        ([], "0 addresses"),
        ([f"8.8.8.{number}" for number in range(17)], "17 addresses"),
    ],
)
async def test_every_address_of_a_name_must_be_public(found: list[str], why: str) -> None:
    with pytest.raises(OSError, match=why):
        await answers(GuardedResolver(NOBODY, lambda _host: found))


async def test_addresses_of_a_good_name_and_of_a_trusted_one() -> None:
    good = ["8.8.8.8", "2400:3200::1"]
    assert await answers(GuardedResolver(NOBODY, lambda _host: good)) == good
    by_name = GuardedResolver(allowed(["inside.example"]), lambda _host: ["10.0.0.1"])
    assert await answers(by_name, "INSIDE.example.") == ["10.0.0.1"]
    by_network = GuardedResolver(allowed(["10.0.0.0/8"]), lambda _host: ["10.0.0.1"])
    assert await answers(by_network) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("localhost", "not a public address"),
        ("0x7f.1", "127.0.0.1 is not a public address"),
        ("a..example", "no name"),
        ("x" * 64, "no name"),
    ],
)
async def test_what_the_system_s_resolver_makes_of_a_name_is_judged(host: str, why: str) -> None:
    with pytest.raises(OSError, match=why):
        await answers(GuardedResolver(NOBODY), host)


async def test_a_name_without_an_answer_holds_one_thread_for_everybody() -> None:
    released, calls = threading.Event(), []

    def silent(host: str) -> Sequence[str]:
        calls.append(host)
        if host == "silent.example":
            assert released.wait(10)
        return ["8.8.8.8"]

    resolver = GuardedResolver(NOBODY, silent, timeout_s=0.05)
    waiting = [resolver.resolve("silent.example", 80) for _ in range(40)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all("no answer" in str(each) for each in found)
    assert (await resolver.resolve("other.example", 80))[0]["host"] == "8.8.8.8"
    assert calls == ["silent.example", "other.example"]
    released.set()
    await resolver.close()


async def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """Rebinding: a second answer of the name servers is loopback, and is refused as such."""
    hits: list[str] = []

    async def hit(request: web.Request) -> web.Response:
        hits.append(request.headers["Host"])
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/", hit)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.5", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    told = iter([["127.0.0.5"], ["127.0.0.1"], ["127.0.0.5", "127.0.0.1"]])
    resolver = GuardedResolver(allowed(["127.0.0.5"]), lambda _host: next(told))
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://rebinding.example:{port}/"
        async with session.post(url) as response:
            assert response.status == 200
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectorError, match="not a public address"):
                await session.post(url)
    assert hits == [f"rebinding.example:{port}"]
    await resolver.close()
    await runner.cleanup()
