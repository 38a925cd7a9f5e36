"""Lost memory is admitted (P13), and a full disk moves nothing (P12)."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.site import Site
from tests.system.test_doctor import doctor
from tests.system.waiting import wait_for

pytestmark = pytest.mark.system

ONE = [{"product_id": 122, "quantity": 1}]


def birth(site: Site) -> int:
    return int(site.daemon.ctl("status")["journal"]["birth"])


def birth_in(folder: Path) -> int:
    return int(max(json.loads((folder / "journal.marker").read_text())["births"]))


def later_than(unix: int) -> None:
    wait_for(lambda: time.time() > unix + 1.1, "a second has passed")


def wait_for_a_technician(site: Site, order_id: int) -> dict[str, Any]:
    """After a lost journal the cabinets wait for a count; then they sell."""
    skew = 31  # the clock's skew is in the bound: only commands stamped behind it count
    stamp = {"issued_at": birth(site) + skew, "expires_at": birth(site) + skew + 90}
    site.platform.dispense(order_id, ONE, **stamp)
    rejected = site.platform.wait_order(order_id, "rejected")
    started = site.daemon.run_ctl("cabinet", "start", "A", "--yes")
    assert started.returncode == 4
    assert "stock" in started.stderr
    site.daemon.ctl("stock", "fill", "A", "--yes")
    site.daemon.ctl("cabinet", "start", "A", "--yes")
    return rejected


def test_a_lost_journal_refuses_what_it_may_have_executed(site: Site) -> None:
    command = site.platform.dispense(1, ONE)
    site.platform.wait_order(1, "finished")
    first = birth(site)
    site.daemon.terminate()
    for file in (site.directory / "state").glob("journal.db*"):
        file.unlink()
    later_than(first)
    site.daemon.up()
    status = site.daemon.ctl("status")
    assert status["journal"]["lost"]
    assert status["journal"]["birth"] > first
    site.platform.send("dispense", command)
    rejected = site.platform.wait_order(1, "rejected")
    assert (rejected["code"], rejected["command_executed"]) == ("journal_reset", "unknown")
    assert wait_for_a_technician(site, 2)["code"] in ("not_yet_valid", "out_of_service")
    assert len(site.ledger("A2", "drive_frame")) == 1


@pytest.mark.parametrize("where", ["header", "middle"])
def test_a_damaged_journal_is_set_aside_and_never_deleted(site: Site, where: str) -> None:
    site.platform.dispense(3, ONE)
    site.platform.wait_order(3, "finished")
    before = birth(site)
    site.daemon.terminate()
    database = site.directory / "state" / "journal.db"
    with database.open("r+b") as file:
        file.seek(0 if where == "header" else 4096 * 3)
        file.write(b"\xa5" * 4096)
    later_than(before)
    site.daemon.start()
    wait_for(
        lambda: any((site.directory / "state").glob("journal-*.db")) or not site.daemon.alive,
        "it is set aside",
        20,
    )
    if not site.daemon.alive:  # found behind the start: the next start sets it aside
        site.daemon.start()
    site.daemon.wait_ready()
    status = site.daemon.ctl("status")["journal"]
    assert status["lost"]
    assert Path(status["set_aside"]).read_bytes().count(b"\xa5" * 512)


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_restored_copy_is_found_by_the_retained_state(site: Site, end: str) -> None:
    """Whether the forgotten life said goodbye, or its last will spoke for it."""
    state = site.directory / "state"
    site.platform.dispense(4, ONE)
    site.platform.wait_order(4, "finished")
    site.daemon.terminate()
    shutil.copytree(state, site.directory / "copy")
    site.daemon.up()
    old = birth(site)
    command = site.platform.dispense(5, ONE)
    site.platform.wait_order(5, "finished")
    site.wait_rest()
    getattr(site.daemon, end)()
    shutil.rmtree(state)
    shutil.copytree(site.directory / "copy", state)
    later_than(old)
    site.daemon.up()
    wait_for(lambda: birth(site) > old, "it took a new birth", 20)
    site.platform.send("dispense", command)
    rejected = site.platform.wait_order(5, "rejected")
    assert (rejected["code"], rejected["command_executed"]) == ("journal_reset", "unknown")
    assert len(site.ledger("A2", "drive_frame")) == 2
    assert site.daemon.ctl("status")["cabinets"]["A"]["state"] == "stopped"


def test_p2_a_unit_that_waits_in_a_restored_copy_is_not_given_out_again(site: Site) -> None:
    """It is still in time; the life that is forgotten gave it out already. The boards are there
    before the broker is."""
    state = site.directory / "state"
    late = int(time.time()) + 600
    three = [{"product_id": 122, "quantity": 3}]
    site.platform.dispense(6, three, expires_at=late)
    site.wait_ledger("A2", "drive_frame")
    site.daemon.terminate()
    shutil.copytree(state, site.directory / "copy")
    old = birth_in(site.directory / "copy")
    site.daemon.up()
    site.platform.wait_order(6, "finished")
    site.wait_rest()
    site.daemon.terminate()
    site.broker.save()
    site.broker.kill()
    shutil.rmtree(state)
    shutil.copytree(site.directory / "copy", state)
    later_than(old)
    site.daemon.up()
    site.broker.up()
    wait_for(lambda: birth(site) > old, "it took a new birth", 20)
    wait_for(lambda: site.daemon.ctl("status")["open_units"] == 0, "its units have ended", 20)
    assert len(site.ledger("A2", "drive_frame")) == 3


def test_a_newer_journal_stops_the_daemon_with_a_remedy(site: Site) -> None:
    site.daemon.terminate()
    database = site.directory / "state" / "journal.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    site.daemon.start()
    assert site.daemon.wait(20) == 1
    words = site.daemon.output()
    assert str(database) in words
    assert "newer" in words
    assert "Traceback" not in words


@pytest.fixture
def small_disk(short_dir: Path) -> Iterator[Path]:
    """A file system of 12 MiB below the site's directory."""
    state = short_dir / "0" / "state"
    state.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", state],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    yield state
    subprocess.run(["umount", "-l", state], check=True)


def fill_disk(folder: Path) -> Path:
    """To the last page; the file to remove again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536) == 65536:
                pass
            file.write(b"x" * 4096)
        except OSError:
            pass
    return ballast


def test_p12_a_full_disk_at_start_stops_nothing_but_motors(
    small_disk: Path, make_site: Callable[..., Site]
) -> None:
    site = make_site().up()
    assert "disk_full" in doctor(site), "nearly full, and all works"
    site.daemon.terminate()
    (small_disk / "journal.reserve").unlink()
    ballast = fill_disk(small_disk)
    site.daemon.up()
    site.platform.dispense(9, ONE)
    rejected = site.platform.wait_order(9, "rejected")
    assert (rejected["code"], rejected["seq"]) == ("journal_unwritable", None)
    assert {"disk_full", "journal_unwritable"} <= set(doctor(site))
    ballast.unlink()
    wait_for(lambda: site.daemon.ctl("status")["journal"]["writable"], "it can be written")
    site.platform.dispense(10, ONE)
    assert site.platform.wait_results(10, 1)[1]["outcome"] == "delivered"
    site.wait_rest()
    site.judge()


def test_p12_a_full_disk_moves_nothing_and_closes_what_runs(
    small_disk: Path, make_site: Callable[..., Site]
) -> None:
    site = make_site().up()
    assert site.directory / "state" == small_disk
    site.platform.dispense(6, [{"product_id": 122, "quantity": 2}])
    site.wait_ledger("A2", "motor_started")
    ballast = fill_disk(small_disk)
    result = site.platform.wait_results(6, 1)[1]
    assert result["outcome"] == "delivered", "the space to close it was reserved"
    site.platform.dispense(7, ONE)
    rejected = site.platform.wait_order(7, "rejected")
    assert (rejected["code"], rejected["seq"]) == ("journal_unwritable", None)
    assert len(site.ledger("A2", "drive_frame")) == 1
    ballast.unlink()
    results = site.platform.wait_results(6, 2, timeout=40)
    assert results[2]["outcome"] == "delivered"
    site.platform.dispense(8, ONE)
    assert site.platform.wait_results(8, 1)[1]["outcome"] == "delivered"
    site.wait_rest()
    site.judge()
