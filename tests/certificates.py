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
