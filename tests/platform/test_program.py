"""platform-sim as a program: its settings, its words, and bodies for curl."""

from __future__ import annotations

import json
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest

from platform_sim.main import main
from platform_sim.payload import Signing, open_payload
from platform_sim.settings import load
from tests.system.process import PROGRAMS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "platform-sim.toml"


def test_the_example_settings_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(EXAMPLE), "--check"]) == 0
    assert "1 machines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('machine_no = "16327129"', 'machine_no = "1632712"'), "machines.0.machine_no"),
        (('channel = "A1"', 'channel = "C1"'), "channel C1 is in no cabinet"),
        (('appid = "ds0123456789abcdef"\nname', 'appid = "who"\nname'), "no merchant who"),
        (("[rules]", "[rules]\ncommand_ttl_s = 120"), "command_ttl_s must be less"),
        (("[http]", "[http]\nprot = 1"), "http.prot"),
        (("[http]", "[http"), "platform-sim.toml"),
        (('["127.0.0.1"]', '["http://x"]'), "allowed_hosts"),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], words: str
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert change[0] in text
    file = tmp_path / "platform-sim.toml"
    file.write_text(text.replace(*change, 1), encoding="utf-8")
    assert main(["--config", str(file), "--check"]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "/nowhere/platform.toml"]) == 2
    assert "/nowhere/platform.toml: cannot be read" in capsys.readouterr().err


def test_a_signed_body_for_curl(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sign", "--key", "k", "machine_no=16327129", "name=a b"]) == 0
    fields = open_payload(capsys.readouterr().out.encode(), Signing("k"), 0.0)
    assert (fields["machine_no"], fields["name"]) == ("16327129", "a b")
    with pytest.raises(SystemExit, match="2"):
        main(["sign", "--key", "k", "novalue"])


@pytest.mark.parametrize("what", ["port", "database"])
def test_what_it_cannot_have_is_told_in_a_line(tmp_path: Path, what: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    file = tmp_path / "platform-sim.toml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if what == "port" else 0
        file.write_text(text.replace("[http]", f"[http]\nport = {port}"), encoding="utf-8")
        if what == "database":
            (tmp_path / "platform-sim.db").write_bytes(b"no database" * 1000)
        done = subprocess.run(
            [PROGRAMS / "platform-sim", "--config", file],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    words = f"cannot listen on 127.0.0.1:{port}" if what == "port" else "platform-sim.db"
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_its_answers_are_json_that_curl_can_show() -> None:
    """The committed document names the same root as the program."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert all(path.startswith("/api/openapi/v1/") for path in document["paths"])


def test_the_example_is_the_machine_of_the_daemons_example() -> None:
    """Same machine, cabinets and lanes: both files together are a whole that can be tried."""
    (machine,) = load(EXAMPLE).machines
    daemon = tomllib.loads((ROOT / "config" / "vending-controller.toml").read_text("utf-8"))
    lanes = {
        lane["channel"]: (lane["product_id"], lane["capacity"], cabinet["drop_sensor"])
        for cabinet in daemon["cabinet"]
        for lane in cabinet["lane"]
    }
    eyes = {cabinet.name: cabinet.light_eye for cabinet in machine.cabinets}
    assert machine.machine_no == daemon["machine"]["machine_no"]
    for product in machine.products:
        known = (product.product_id, product.capacity, eyes[product.channel[0]])
        assert known == lanes[product.channel]
