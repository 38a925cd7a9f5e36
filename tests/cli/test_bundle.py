"""`vendctl doctor --bundle`: what is in it, and that nothing in it is secret."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from controller.cli import bundle
from controller.cli.bundle import Part
from controller.cli.exits import Exit, Trouble
from controller.cli.secrets_out import sieve_for
from controller.errors import Refused
from controller.service import shapes
from controller.service.server import Service
from tests.cli.conftest import Vendctl
from tests.service.memory_machine import MemoryMachine, checkup, status_view

MARK = "Zx9secret"
"""In every planted secret; no other text has it."""

PRIVATE_KEY = f"-----BEGIN PRIVATE KEY-----\n{MARK}key0\n-----END PRIVATE KEY-----\n"

pytestmark = pytest.mark.system


def unpacked(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        return {
            Path(entry.name).name: opened.extractfile(entry).read()  # type: ignore[union-attr]
            for entry in opened.getmembers()
        }


def plant(directory: Path) -> Path:
    """A settings file with a secret in every place where a person may have put one."""
    password, key = directory / f"{MARK}-path", directory / "machine.key"
    password.write_text(f"{MARK}password\n")
    key.write_text(PRIVATE_KEY)
    file = directory / "config.toml"
    file.write_text(
        f"""
[machine]
machine_no = "16327129"
api_token = "{MARK}token1"
[mqtt]
host = "localhost"
username = "{MARK}user"
client_id = "{MARK}client"
password = "{MARK}inline"
password_file = "{password}"
[mqtt.tls]
key_file = "{key}"
[cloud]
login = ["{MARK}in a list", {{ inner = "{MARK}nested" }}]
[[board]]
name = "main"
protocol = "vbp"
port = "tcp://{MARK}u:{MARK}p@127.0.0.1:4001"
note = "{MARK}note"
"""
    )
    return file


async def test_no_planted_secret_is_anywhere_in_the_archive(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    """The daemon's answers carry them too, as a bug or a person's typing might make them."""
    file = plant(tmp_path)
    told = {
        "url": f"mqtts://{MARK}a:{MARK}b@broker/",
        "line": f'password="{MARK}quoted words" token={MARK}bare secret: {MARK}colon',
        "pem": PRIVATE_KEY,
        "access_token": f"{MARK}keyed",
        f"{MARK}user": "a secret as a key",
        "said": f"user {MARK}user may not, nor {MARK}password, nor {MARK}nested",
    }
    machine.answers["doctor"] = checkup(config={**checkup()["config"], "file": str(file)})
    machine.answers["events"]["events"][0]["detail"] = told
    machine.answers["extract"] = {"tables": {"audit": [{"detail": json.dumps(told)}]}}
    machine.answers["status"] = status_view(
        broker={**status_view()["broker"], "connected": False, "problem": f"bad {MARK}user"}
    )
    archive = tmp_path / "out.tar.gz"
    ran = await vendctl("doctor", "--bundle", str(archive))
    assert ran.code == 0, ran.err
    contents = unpacked(archive)
    assert [name for name, content in contents.items() if MARK.encode() in content] == []
    assert MARK not in ran.out
    assert b"16327129" in contents["status.json"], "what is no secret is still there"

    again = await vendctl("doctor", "--config", str(file), "--bundle", str(tmp_path / "2.tar.gz"))
    assert again.code == 0, again.err
    own = unpacked(tmp_path / "2.tar.gz")
    assert [name for name, content in own.items() if MARK.encode() in content] == []
    assert b"unknown key" in own["doctor.json"], "the mistake itself is told"


async def test_the_manifest_lists_what_is_inside_and_what_is_not(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    archive = tmp_path / "out.tar.gz"
    ran = await vendctl("doctor", "--bundle", str(archive), "--json")
    assert ran.code == 0, ran.err
    told: Any = json.loads(ran.out)
    assert TypeAdapter(shapes.Bundle).validate_python(told) == told
    contents = unpacked(archive)
    manifest = contents.pop("MANIFEST.txt").decode()
    assert {member["name"]: member["bytes"] for member in told["members"]} == {
        name: len(content) for name, content in contents.items()
    }
    assert all(name in manifest for name in contents)
    assert json.loads(contents["trace.jsonl"].splitlines()[1])["name"] == "DISPENSING"
    assert told["bytes"] == archive.stat().st_size
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as opened:
        (folder,) = {Path(entry.name).parts[0] for entry in opened.getmembers()}
    assert folder.startswith("vending-16327129-")
    checks = json.loads(contents["doctor.json"])
    assert TypeAdapter(shapes.Checks).validate_python(checks) == checks
    assert json.loads(contents["order-details.json"])[0]["orders"][0]["order_id"] == 1111111


async def test_people_are_numbered_everywhere_in_the_archive(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    """The one who is told in the events is in the doctor's page, in a message and in JSON within
    JSON as well; who did what can still be followed."""
    (event,) = machine.answers["events"]["events"]
    machine.answers["events"] = {
        "events": [
            {**event, "event_seq": 1, "detail": {"who": "tanja.h", "reason": "as jo-max said"}},
            {**event, "event_seq": 2, "detail": {"who": "daemon"}},
        ]
    }
    audit = {"who": "jo-max", "detail": json.dumps({"by": json.dumps({"who": "piet"})})}
    machine.answers["extract"] = {"tables": {"audit": [audit, {"who": "jo"}]}}
    machine.answers["status"] = status_view(
        service_mode={"who": "tanja.h", "since": 1.0, "idle_left_s": 9.0}
    )
    machine.answers["doctor"] = checkup()
    archive = tmp_path / "home" / "piet.tar.gz"
    archive.parent.mkdir()
    ran = await vendctl("doctor", "--bundle", str(archive))
    assert ran.code == 0, ran.err
    contents = unpacked(archive)
    for name in (b"tanja", b"jo-max", b"piet"):
        assert [part for part, content in contents.items() if name in content] == []
    status, page = json.loads(contents["status.json"]), contents["doctor.txt"].decode()
    who = status["service_mode"]["who"]
    assert who.startswith("user-")
    assert f"(by {who})" in page
    first, second = json.loads(contents["events.json"])["events"]
    assert (first["detail"]["who"], second["detail"]["who"]) == (who, "daemon")
    (row, other) = json.loads(contents["journal.json"])["tables"]["audit"]
    assert first["detail"]["reason"] == f"as {row['who']} said"
    assert len({who, row["who"], other["who"]}) == 3
    assert b"user-1" in contents["MANIFEST.txt"]


JOURNALCTL: dict[str, str] = {
    "echo '-- No entries --'": "no line of vending-controller",
    "echo '-- No entries --'; echo 'No journal files were opened due to insufficient permissions.'"
    " >&2": "may not read the system's log",
    "echo 'own'; echo 'Hint: You are currently not seeing messages from other users and the"
    " system.' >&2": "may not read the system's log",
    "echo 'Failed to add match' >&2; exit 1": "did not tell: Failed to add match",
}
"""What journalctl of systemd 252 prints -> what is told in its place."""


@pytest.mark.parametrize("says", JOURNALCTL)
def test_a_log_that_is_not_there_is_explained(says: str, tmp_path: Path) -> None:
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    with pytest.raises(Trouble) as trouble:
        bundle._log(str(program))
    assert JOURNALCTL[says] in str(trouble.value)
    with pytest.raises(Trouble, match="no journalctl"):
        bundle._log(str(tmp_path / "absent"))
    program.write_text("#!/bin/sh\necho a line\n")
    assert bundle._log(str(program)) == "a line\n"


async def test_nothing_is_overwritten_and_no_half_is_left(
    service: Service, vendctl: Vendctl, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.tar.gz"
    taken.write_text("dear")
    ran = await vendctl("doctor", "--bundle", str(taken))
    assert ran.code == 4
    assert "is there already" in ran.err
    assert taken.read_text() == "dear"
    link = tmp_path / "link.tar.gz"
    link.symlink_to(tmp_path / "elsewhere")
    assert (await vendctl("doctor", "--bundle", str(link))).code == 4
    assert not (tmp_path / "elsewhere").exists()
    ran = await vendctl("doctor", "--bundle", str(tmp_path / "no" / "where.tar.gz"))
    assert (ran.code, "cannot be written" in ran.err) == (4, True)


async def test_a_bundle_is_bounded_whatever_the_daemon_says(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    event = machine.answers["events"]["events"][0]
    machine.answers["events"] = {"events": [{**event, "detail": {"x": "y" * 5_000_000}}]}
    archive = tmp_path / "out.tar.gz"
    ran = await vendctl("doctor", "--bundle", str(archive))
    assert ran.code == 0, ran.err
    assert len(unpacked(archive)["events.json"]) == 4 << 20
    assert "events.json: too large" in ran.out


async def test_what_one_route_refuses_is_a_gap_and_not_the_end(
    service: Service, machine: MemoryMachine, vendctl: Vendctl, tmp_path: Path
) -> None:
    async def refused(_rows: int) -> Any:
        raise Refused("busy", "ask later")

    machine.journal_extract = refused  # type: ignore[method-assign]
    ran = await vendctl("doctor", "--bundle", str(tmp_path / "out.tar.gz"))
    assert ran.code == 0, ran.err
    assert "journal.json: ask later" in ran.out


async def test_without_a_daemon_there_is_still_a_bundle(vendctl: Vendctl, tmp_path: Path) -> None:
    file = plant(tmp_path)
    archive = tmp_path / "out.tar.gz"
    ran = await vendctl("doctor", "--config", str(file), "--bundle", str(archive))
    assert ran.code == 0, ran.err
    assert {"doctor.txt", "settings.json", "versions.json"} <= unpacked(archive).keys()
    assert "status.json: Cannot reach" in ran.out


def test_a_part_that_an_older_daemon_lacks_is_a_gap() -> None:
    def lacking() -> Any:
        raise Trouble(Exit.BAD_NEWS, "no_such_path", "there is no /v1/trace")

    asked, missing = bundle._asked([Part("trace.jsonl", "last frames", lacking)])
    assert asked == []
    assert missing[0][1] == "this daemon does not have it"


def test_the_sieve_leaves_what_is_no_secret(tmp_path: Path) -> None:
    """A user name that is the machine's number does not blacken the number everywhere."""
    file = tmp_path / "config.toml"
    file.write_text('[machine]\nmachine_no = "16327129"\n[mqtt]\nusername = "16327129"\n')
    text = "machine 16327129, password_file, tokens of the broker: see page 5"
    assert sieve_for(str(file)).text(text) == text
    assert sieve_for(str(tmp_path / "none")).content({"password_file": "(set)"}) == {
        "password_file": "(set)"
    }
