"""Fixtures of the system tests. Everything that they start, they end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mqtt_contract import complaints_of_each_kind
from tests.system.site import Site

SiteMaker = Callable[..., Site]
SITES: pytest.StashKey[list[Site]] = pytest.StashKey()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short name: the path of a Unix socket has 107 bytes at most."""
    directory = Path(tempfile.mkdtemp(prefix="vc-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_site(short_dir: Path, request: pytest.FixtureRequest) -> Iterator[SiteMaker]:
    """`make_site(…)` makes a Site, all of it down; `make_site(…).up()` starts it."""
    sites = request.node.stash.setdefault(SITES, [])

    def make(*args: Any, **more: Any) -> Site:
        site = Site(short_dir / str(len(sites)), *args, **more)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()
    for site in sites:
        came = ((message.topic, message.json) for message in site.platform.messages)
        assert complaints_of_each_kind(came) == [], "a message is not what docs/schemas/mqtt says"


@pytest.fixture
def site(make_site: SiteMaker) -> Site:
    """Both cabinets, running, at real speed with short motors."""
    return make_site().up()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows the end of each program's log of its site."""
    report = yield
    if report.when == "call" and report.failed:
        for site in item.stash.get(SITES, []):
            for program in (site.daemon, site.emulator, site.broker):
                report.sections.append((program.log.name, program.output()))
    return report
