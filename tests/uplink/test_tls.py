"""TLS with a client certificate and a certificate authority of our own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from controller.uplink.link import TlsFiles
from tests.uplink.conftest import MACHINE, Broker, Build, Platform, command, until


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """ca.pem, and for each of broker, machine and platform a certificate and a key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        tmp_path, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem",
        "-subj", "/CN=test authority", "-days", "2",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    names = {"broker": "127.0.0.1", "machine": MACHINE, "platform": "platform"}
    for who, name in names.items():
        openssl(
            tmp_path, "req", *curve, "-keyout", f"{who}.key", "-out", f"{who}.csr",
            "-subj", f"/CN={name}",
        )  # fmt: skip
        (tmp_path / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            tmp_path, "x509", "-req", "-in", f"{who}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{who}.pem", "-days", "2", "-extfile", "extensions",
        )  # fmt: skip
    return tmp_path


@pytest.fixture
def secure(broker: Broker, authority: Path) -> Broker:
    """The broker, now asking for certificates."""
    broker.stop()
    broker.listener_extra = "\n".join(
        [
            f"cafile {authority}/ca.pem",
            f"certfile {authority}/broker.pem",
            f"keyfile {authority}/broker.key",
            "require_certificate true",
        ]
    )
    broker.start()
    return broker


async def test_a_command_through_tls(build: Build, secure: Broker, authority: Path) -> None:
    platform = Platform(
        secure.port,
        ca_certs=str(authority / "ca.pem"),
        certfile=str(authority / "platform.pem"),
        keyfile=str(authority / "platform.key"),
    )
    await until(lambda: platform.subscribed)
    files = TlsFiles(authority / "ca.pem", authority / "machine.pem", authority / "machine.key")
    machine = build(tls=files)
    await machine.uplink.session.ready()
    platform.send("dispense", command(1))
    assert (await until(lambda: platform.on("order")))[0].json["status"] == "accepted"
    platform.close()


async def test_without_a_certificate_there_is_no_connection(
    build: Build, secure: Broker, authority: Path
) -> None:
    machine = build(tls=TlsFiles(authority / "ca.pem"))
    await until(lambda: machine.uplink.session.number >= 2)
    assert not machine.uplink.session.connected


async def test_a_broker_that_is_not_ours_gets_nothing(build: Build, secure: Broker) -> None:
    """Its authority is not the one we were told to trust."""
    machine = build(tls=TlsFiles())
    await until(lambda: machine.uplink.session.number >= 2)
    assert not machine.uplink.session.connected
    assert "certificate verify failed" in machine.uplink.session.last_error


async def test_a_missing_key_file_is_named_and_tried_again(
    build: Build, authority: Path, secure: Broker
) -> None:
    missing = authority / "later.key"
    machine = build(tls=TlsFiles(authority / "ca.pem", authority / "machine.pem", missing))
    await until(lambda: "later.key" in machine.uplink.session.last_error)
    missing.write_bytes((authority / "machine.key").read_bytes())
    await machine.uplink.session.ready()


async def test_a_key_behind_a_passphrase_is_named_and_nobody_is_asked_for_it(
    build: Build, authority: Path, secure: Broker, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenSSL would ask on the terminal, and wait there for ever."""
    locked = authority / "locked.key"
    words = ("ec", "-in", "machine.key", "-out", locked.name, "-aes128", "-passout", "pass:x")
    openssl(authority, *words)
    machine = build(tls=TlsFiles(authority / "ca.pem", authority / "machine.pem", locked))
    await until(lambda: machine.uplink.session.last_error)
    assert "locked.key" in machine.uplink.session.last_error
    assert "passphrase" in machine.uplink.session.last_error
    assert "PEM" not in capfd.readouterr().err
