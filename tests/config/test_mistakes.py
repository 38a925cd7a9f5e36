"""Every mistake is named with file, line, key and remedy; nothing starts half-configured."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from controller import config
from controller.cli.checks_facts import config_facts
from controller.cli.secrets_out import sieve_for
from controller.errors import ConfigError
from tests.config.conftest import GOOD, changed, line_with

SHAPE = re.compile(r"config\.toml:\d+: [^:]+(\[[^\]]*\][^:]*)?: .+; .+")

MISTAKES = {
    "machine_no too short": (
        '"16327129"',
        '"1632712"',
        "machine.machine_no: must be eight ASCII digits ('1632712'); write it in quotes",
    ),
    "machine_no in other digits": ('"16327129"', '"1632712\u0669"', "eight ASCII digits"),
    "machine_no a number": ('"16327129"', "16327129", "must be text (16327129); put it in quotes"),
    "unknown key": ("state_dir =", "state_dri =", "machine.state_dri: unknown key; did you mean"),
    "unknown table": ("[service]", "[servise]", "servise: unknown table; did you mean service?"),
    "text for a number": ("skew_s = 30", 'skew_s = "30"', "must be a number ('30')"),
    "not finite": ("skew_s = 30", "skew_s = inf", "clock.skew_s: must be a finite number (inf)"),
    "bool for a number": ("skew_s = 30", "skew_s = true", "clock.skew_s: must be a number"),
    "too large": ("idle_minutes = 10", "idle_minutes = 9999", "write at most 1440"),
    "table for a value": ("idle_minutes = 10", "idle_minutes = {}", "must be a number"),
    "wrong kind": (
        '"track"',
        '"belt"',
        "cabinet[A].kind: is not a possible value ('belt'); use one of 'track', 'spiral'",
    ),
    "mqtt version": (
        'host = "localhost"',
        'protocol = "4"',
        "mqtt.protocol: is not a possible value ('4'); use one of '5' or '3.1.1'",
    ),
    "mqtt version as a number": ('host = "localhost"', "protocol = 5", "use one of '5' or '3.1.1'"),
    "prefix with wildcard": ('host = "localhost"', 'prefix = "a/#"', "no wildcards"),
    "session that ends at once": ('host = "localhost"', "session_expiry_s = 0", "at least 1"),
    "host with port": ('"localhost"', '"mq example"', "mqtt.host: is no host name"),
    "password in the file": (
        'host = "localhost"',
        'password = "hunter2"',
        "mqtt.password: unknown key; secrets stay out of this file",
    ),
    "password without user": (
        'host = "localhost"',
        'password_file = "/p"',
        "a password without a user; add username",
    ),
    "half a certificate": (
        'host = "localhost"',
        'tls.cert_file = "/c"',
        "mqtt.tls.cert_file: stands without key_file; add key_file",
    ),
    "unknown tls key": (
        'host = "localhost"',
        'tls.cafile = "/c"',
        "mqtt.tls.cafile: unknown key; did you mean ca_file?",
    ),
    "unknown verb": (
        "idle_minutes = 10",
        'remote_verbs = ["fly"]',
        "the list may hold only: stock.set, lane.enable, lane.disable, mode.set, lane.test",
    ),
    "socket too long": (
        "idle_minutes = 10",
        f'socket = "/{"s" * 107}"',
        "longer than the 107 bytes",
    ),
    "signed commands": (
        "[service]",
        '[security]\ncommand_keys = "/k"\n[service]',
        "security.command_keys: signed commands are not supported by this version; remove it",
    ),
    "a list of keys": (
        "[service]",
        '[security]\ncommand_keys = ["k"]\n[service]',
        "security.command_keys: signed commands are not supported by this version; remove it",
    ),
    "protocol of a later version": (
        '"vbp"',
        '"tcn"',
        "board[main].protocol: a protocol that this version does not serve yet ('tcn')",
    ),
    "unknown protocol": ('"vbp"', '"vpb"', "no protocol that we know ('vpb')"),
    "protocol of the emulator's port": (
        '"/dev/serial/by-path/one"',
        '"pty:/tmp/x"',
        "pty: is no port of the daemon; a path or tcp://host:port is",
    ),
    "tcp without port": ("tcp://127.0.0.1:4001", "tcp://127.0.0.1", "must be tcp://host:port"),
    "tcp port out of range": ("127.0.0.1:4001", "127.0.0.1:70000", "must be tcp://host:port"),
    "no port at all": ('"/dev/serial/by-path/one"', '"COM3"', "neither the path of a device"),
    "one port twice": (
        '"tcp://127.0.0.1:4001"',
        '"/dev/serial/by-path/../by-path/one"',
        "board[side].port: two boards with one port",
    ),
    "option of another protocol": (
        'protocol = "vbp"',
        'protocol = "vbp"\ndrive_length = 5',
        "board[main].drive_length: unknown key; remove it; it belongs to protocol xy",
    ),
    "drive length": (
        'protocol = "xy"',
        'protocol = "xy"\ndrive_length = 8',
        "board[side].drive_length: is not a possible value (8); use one of 5, 6 or 7",
    ),
    "resend": ('"xy"', '"xy"\nresend_same_packno = 5', "resend_same_packno: is too large (5)"),
    "two boards of one name": ('"side"\nprotocol', '"main"\nprotocol', "two boards with one name"),
    "unknown board": (
        'board = "side"',
        'board = "sid"',
        (
            "cabinet[B].board: names a board that no [[board]] table defines ('sid'); "
            "use one of: main, side"
        ),
    ),
    "no board": ('kind = "spiral"\nboard = "side"', 'kind = "spiral"', "cabinet[B].board: is miss"),
    "two cabinets of one name": ('name = "B"', 'name = "A"', "two cabinets with one name ('A')"),
    "cabinet's name": ('name = "B"', 'name = "b"', "must be one capital letter ('b')"),
    "track without a word": (
        "drop_sensor = true\n",
        "\n",
        "cabinet[A].drop_sensor: a track cabinet without a word on its drop sensor; write drop",
    ),
    "one channel in two spellings": (
        '"A02"',
        '"A01"',
        "cabinet[A].lane[A01].channel: two lanes with one channel ('A1'); renumber",
    ),
    "channel of another cabinet": (
        '"B1"',
        '"C1"',
        "cabinet[B].lane[C1].channel: a channel of cabinet B must begin with B ('C1'); write B1",
    ),
    "no channel": ('"B1"', '"1B"', "a capital letter and a number, like A1"),
    "one number twice": (
        "number = 2",
        "number = 1",
        "cabinet[A].lane[A02].number: two lanes with one number on one board (1)",
    ),
    "lane 0 on xy": (
        'channel = "B1"\n  number = 1',
        'channel = "B1"\n  number = 0',
        "lanes of a board with protocol xy count from 1 (0)",
    ),
    "more than fits": ("initial_stock = 8", "initial_stock = 9", "the lane's capacity of 8 (9)"),
    "single brackets": (
        '  [[cabinet.lane]]\n  channel = "B1"',
        '  [cabinet.lane]\n  channel = "B1"',
        "cabinet[B].lane: must be an array of tables; write [[cabinet.lane]] above each",
    ),
    "run longer than the cycle": (
        'name = "A"',
        'name = "A"\nmax_run_ms = 60000\ncycle_timeout_s = 66',
        (
            "max_run_ms 60000 + drop_wait_ms 3000 + 3000 = 66000 ms is not below "
            "cycle_timeout_s 66 = 66000 ms; raise cycle_timeout_s above 66"
        ),
    ),
}


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistake(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = changed(old, new)
    verdict = config.judge(text, "config.toml")
    assert verdict.settings is None
    assert any(said in line for line in verdict.errors), verdict.errors
    assert all(SHAPE.fullmatch(line) for line in verdict.errors), verdict.errors
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.toml"):
        config.load(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("skew_s = 30", "skew_s = 'x'", "skew_s"),
        ("number = 2", "number = -2", "number = -2"),
        ('"B1"', '"B1"\n  colour = 1', "colour"),
        ('protocol = "xy"', 'protocol = "xz"', '"xz"'),
        ("[service]", "  [ mqtt . tls ] # tls\n  'ca_fil' = 1\n[service]", "ca_fil'"),
        ('"spiral"', '"spiral"\nsettle_ms = 1.5', "settle_ms"),
    ],
)
def test_the_line_is_that_of_the_key(old: str, new: str, words: str) -> None:
    text = changed(old, new)
    (line,) = config.judge(text, "f").errors[:1]
    assert line.startswith(f"f:{line_with(text, words)}: ")


def test_no_name_in_the_file_moves_the_terminals_cursor() -> None:
    text = changed("skew_s = 30", '"\\u001b[2J\\u202e" = 1').replace('"main"', '"ma\\nin"')
    errors = config.judge(text, "f").errors
    assert len(errors) >= 2
    assert all(error.isprintable() for error in errors)
    assert any("clock.\\x1b[2J\\u202e: unknown key" in error for error in errors)


def test_all_mistakes_at_once_sorted_by_line() -> None:
    text = GOOD
    for old, new in [
        ('"16327129"', '"1"'),
        ("skew_s = 30", "skew_s = -1"),
        ("drop_sensor = true", "drop_sensor = 1"),
        ('"A02"', '"A1"'),
        ("capacity = 10", "capacity = 0\n  colour = 'red'"),
    ]:
        text = text.replace(old, new)
    errors = config.judge(text, "f").errors
    lines = [int(error.split(":")[1]) for error in errors]
    keys = [error.split(": ")[1] for error in errors]
    assert lines == sorted(lines)
    assert keys == [
        "machine.machine_no",
        "clock.skew_s",
        "cabinet[A].drop_sensor",
        "cabinet[A].lane[A1].channel",
        "cabinet[B].lane[B1].capacity",
        "cabinet[B].lane[B1].colour",
    ]


def test_a_broken_table_hides_no_mistake_between_tables() -> None:
    """The duplicate is named although both tables have other mistakes as well."""
    text = changed("capacity = 6", "capacity = 0").replace("capacity = 8", "capacity = 0")
    text = text.replace("number = 2", "number = 1")
    assert len(config.judge(text, "f").errors) == 3


def test_lanes_of_an_inline_array_are_judged_like_others() -> None:
    head = GOOD.split("[[cabinet]]")[0].replace('"xy"', '"vbp"')
    text = head + (
        '[[cabinet]]\nname = "A"\nkind = "locker"\nboard = "main"\nlane = [\n'
        ' {channel = "A1", number = 1, product_id = 1, capacity = 1},\n'
        ' {channel = "A1", number = 2, product_id = 1, capacity = 1},\n]\n'
    )
    (error,) = config.judge(text, "f").errors
    assert "cabinet[A].lane[A1].channel: two lanes with one channel" in error
    assert error.startswith(f"f:{line_with(text, 'lane = [')}:")


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    text = changed(
        'host = "localhost"',
        'username = "u"\npassword = "hunter2"\npasswrd = "hunter2"\npassword_file = "hunter2"',
    )
    path = tmp_path / "config.toml"
    path.write_text(text)
    errors, warnings = config.check_text(path)
    assert len(errors) == 3
    assert "hunter2" not in "\n".join(errors + warnings)


WARNINGS = {
    "unused board": (
        'board = "side"\n\n  [[cabinet.lane]]\n  channel = "B1"\n  number = 1',
        'board = "main"\n\n  [[cabinet.lane]]\n  channel = "B1"\n  number = 9',
        "board[side].name: no cabinet uses this board ('side')",
    ),
    "name that moves": ("/dev/serial/by-path/one", "/dev/ttyUSB0", "this name changes when USB"),
    "clear text": ('"localhost"', '"mqtt.example.com"', "cross the network in clear text"),
    "longer than the platform waits": (
        'name = "A"',
        'name = "A"\nsecond_cycles = 1',
        "a unit may take 220 s (eye 10 + 2 x cycle 90 + 1 x late drop 30)",
    ),
    "time to live": ("[clock]", "order_ttl_s = 120\n[clock]", "platform gives up after 120 s"),
    "limit that nobody obeys": ('name = "B"', 'name = "B"\nmax_run_ms = 1', "has no effect"),
    "relative path": ('"/var/lib/vending-controller"', '"state"', "a relative path"),
}


@pytest.mark.parametrize(("old", "new", "said"), WARNINGS.values(), ids=WARNINGS)
def test_warning(old: str, new: str, said: str) -> None:
    verdict = config.judge(changed(old, new), "config.toml")
    assert verdict.errors == ()
    assert verdict.settings is not None
    (warning,) = verdict.warnings
    assert said in warning
    assert SHAPE.fullmatch(warning)


def test_exactly_at_the_bounds_of_time() -> None:
    """Not below is an error; 120 s is not yet above."""
    just = changed('name = "A"', 'name = "A"\nmax_run_ms = 60000\ncycle_timeout_s = 66.001')
    assert config.judge(just, "f").errors == ()
    whole = changed('name = "A"', 'name = "A"\ncycle_timeout_s = 90\neye_clear_timeout_s = 30')
    assert config.judge(whole, "f").warnings == ()


def test_a_short_cycle_on_a_board_with_its_own_limit_is_fine() -> None:
    """XY boards take no max_run_ms, so its default is no reason against a short cycle."""
    verdict = config.judge(changed('name = "B"', 'name = "B"\ncycle_timeout_s = 3'), "f")
    assert (verdict.errors, verdict.warnings) == ((), ())


# --------------------------------------------------------------------------- the file itself


def errors_of(path: Path) -> list[str]:
    errors, warnings = config.check_text(path)
    assert warnings == []
    assert all(error.startswith(str(path)) for error in errors)
    return errors


def test_toml_syntax_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[machine]\nmachine_no = 163x\n")
    (error,) = errors_of(path)
    assert error.startswith(f"{path}:2: this is not TOML: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[mqtt]\nport = 1\nhost = "a"\nport = 2\n', 4),
        ("[mqtt]\nport = 1\n[mqtt]\n", 3),
        ("[mqtt]\nport = 1\nport = 2", 3),
        ('[cabinet]\nname = "A"\n[[cabinet]]\nname = "B"\n', 3),
    ],
)
def test_what_stands_twice_is_named_so(text: str, line: int) -> None:
    """What copying a table brings; no word of quotes, which are not what is wrong."""
    (error,) = config.judge(text, "f").errors
    assert error.startswith(f"f:{line}: ")
    assert "stands twice" in error
    assert "keep one" in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[machine]\n# \xff\n", ":2: bytes that are not UTF-8"),
        (b"#" * (config.MAX_BYTES + 1), "larger than 1048576 bytes"),
        (b"a = " + b"[" * 100_000, ""),
        (b"a = 1" + b"0" * 5000, ""),
        (b"a = [\n", ":1: this is not TOML"),
        (b"a = 1\nb = ", ":2: this is not TOML"),
        (b"", "machine.machine_no: is missing"),
    ],
    ids=["utf8", "size", "depth", "number", "open", "end", "empty"],
)
def test_files_that_are_no_settings(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert any(said in error for error in errors_of(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in errors_of(tmp_path / "none.toml")[0]
    assert "Is a directory" in errors_of(tmp_path)[0]


def test_files_named_in_the_settings_must_be_there(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    text = changed('host = "localhost"', f'username = "u"\npassword_file = "{secret}"')
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert config.check_text(path) == ([], [])
    secret.unlink()
    (error,) = errors_of(path)
    assert "mqtt.password_file: cannot be read: no such file" in error
    secret.mkdir()
    (error,) = errors_of(path)
    assert "not a file" in error


def test_a_pipe_is_no_settings_file(tmp_path: Path) -> None:
    """Nobody writes into it, and who opened it would wait for ever."""
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    (error,) = errors_of(pipe)
    assert "is no file" in error
    assert config.state_dir(pipe) == Path("/var/lib/vending-controller")
    assert config_facts(str(pipe))["errors"] == [error]
    assert sieve_for(str(pipe)).text("a") == "a"


def test_credentials_exist_only_inside_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = "/run/credentials/vending-controller.service/mqtt"
    path = tmp_path / "config.toml"
    path.write_text(
        changed('"localhost"', f'"localhost"\nusername = "u"\npassword_file = "{file}"')
    )
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    errors, (warning,) = config.check_text(path)
    assert errors == []
    assert "exists only inside the running service" in warning
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/vending-controller.service")
    assert "cannot be read" in errors_of(path)[0]


def test_a_hopeless_file_has_a_bounded_message() -> None:
    text = GOOD + "\n[service.x]\n" + "".join(f"k{n} = 1\n" for n in range(10))
    lanes = "".join(f'[[cabinet.lane]]\nchannel = "{n}"\nnumber = 1\n' for n in range(2000))
    errors = config.judge(text + lanes, "f").errors
    assert len(errors) == 501
    assert errors[-1].startswith("f: and ")
