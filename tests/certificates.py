"""Certificates with dates of one's choice, made by the `openssl` command."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

CA_CONFIG = """
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
x509_extensions = extensions
unique_subject = no
[any]
commonName = supplied
[extensions]
subjectAltName = IP:127.0.0.1,DNS:localhost
basicConstraints = critical,CA:TRUE
"""


def self_signed(directory: Path, name: str, *, begins: timedelta, ends: timedelta) -> Path:
    """`name.pem` and `name.key`: a certificate for 127.0.0.1 that trusts itself; its dates count
    from now. The path of the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    work = directory / f"{name}.ca"
    work.mkdir()
    (work / "ca.cnf").write_text(CA_CONFIG)
    (work / "index.txt").touch()
    (work / "serial").write_text("01\n")
    now = datetime.now(UTC)
    first, last = ((now + each).strftime("%Y%m%d%H%M%SZ") for each in (begins, ends))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for words in (
        ("req", *curve, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=127.0.0.1"),
        (
            "ca", "-config", "ca.cnf", "-selfsign", "-keyfile", "own.key", "-in", "own.csr",
            "-startdate", first, "-enddate", last, "-out", "own.pem", "-batch", "-notext",
        ),
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=work, check=True, capture_output=True)
    for kind in ("pem", "key"):
        (work / f"own.{kind}").rename(directory / f"{name}.{kind}")
    return directory / f"{name}.pem"


class Authority:
    """A private authority, as a fleet's owner has one: signs certificates by their CN."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl on this machine")
        self.directory = directory
        self._run("req", "-x509", *self._key("ca"), "-out", "ca.pem", "-subj", "/CN=test authority")

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def sign(self, name: str, *, server: bool = False) -> Path:
        """`name.pem` and `name.key`, with the CN `name`; a server's is for 127.0.0.1 too."""
        extensions = self.directory / f"{name}.ext"
        extensions.write_text("subjectAltName = IP:127.0.0.1\n" if server else "")
        self._run("req", *self._key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._run(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "1", "-extfile", extensions, "-out", f"{name}.pem",
        )  # fmt: skip
        return self.directory / f"{name}.pem"

    def _key(self, name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*curve, "-keyout", f"{name}.key")

    def _run(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *words], cwd=self.directory, check=True, capture_output=True)
