"""Each walk of the drill finds its fault: `doctor` first, then one look at the cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drill.faults import FAULTS
from tests.system.conftest import SiteMaker, make_site, short_dir  # noqa: F401 - fixtures
from tests.system.test_doctor import doctor, finds

pytestmark = [pytest.mark.system, pytest.mark.slow]

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.mark.parametrize("name", FAULTS)
def test_a_walk_finds_its_fault(make_site: SiteMaker, name: str) -> None:  # noqa: F811
    fault = FAULTS[name]
    site = make_site().up()
    assert fault.code not in doctor(site), "it is well before"
    fault.come_about(site)
    finding = finds(site, fault.code)
    assert finding["remedy"]
    first = site.daemon.run_ctl("doctor")
    assert fault.code in first.stdout, first.stdout
    second = site.daemon.run_ctl(*fault.look_closer)
    assert fault.shows in second.stdout, second.stdout + second.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_a_walk_is_written_down(name: str) -> None:
    page = OPERATING.read_text(encoding="utf-8")
    fault = FAULTS[name]
    assert f"`{fault.code}`" in page
    assert f"vendctl {' '.join(fault.look_closer)}" in page
