"""What is made from the code and committed: man pages and schemas are of today, and sound."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from controller.cli.main import VERBS
from controller.cli.words import LANGUAGE, say
from tests.tooling import manual, schemas
from tests.tooling.messages import PO

ROOT = Path(__file__).parents[2]

PAGES = list(manual.PAGES.items())


@pytest.mark.parametrize(("language", "path"), PAGES)
def test_the_man_page_is_of_today(language: str, path: Path) -> None:
    assert path.read_text(encoding="utf-8") == manual.page(language), "make generated"


@pytest.mark.parametrize(("language", "path"), PAGES)
def test_the_man_page_has_every_verb_with_an_example(language: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    LANGUAGE.set(language)
    for verb in VERBS:
        for line in verb.lines:
            assert f"\\fBvendctl {manual.roff(line.usage)}\\fR" in text
            assert manual.roff(line.example) in text
            assert manual.roff(say(line.summary)).split("\n")[0] in text
    LANGUAGE.set("en")


@pytest.mark.parametrize(("language", "path"), PAGES)
def test_only_requests_of_man_7_begin_a_line(language: str, path: Path) -> None:
    known = {".TH", ".SH", ".TP", ".TQ", ".IP", ".PP", ".RS", ".RE", ".EX", ".EE", ".ad", '.\\"'}
    lines = path.read_text(encoding="utf-8").splitlines()
    begun = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert begun <= known


@pytest.mark.skipif(shutil.which("man") is None, reason="no man-db here")
@pytest.mark.parametrize(("language", "path"), PAGES)
def test_man_shows_it_without_a_warning(language: str, path: Path) -> None:
    ran = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", path],
        env={"LC_ALL": "C.UTF-8", "MANWIDTH": "60", "PATH": "/usr/bin:/bin", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert "vendctl" in ran.stdout


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="no mandoc here")
@pytest.mark.parametrize(("language", "path"), PAGES)
def test_mandoc_finds_no_error_in_it(language: str, path: Path) -> None:
    ran = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "error", path], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_a_wheel_carries_the_catalogue() -> None:
    """So an installed vendctl speaks Chinese without a step more."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["controller"]
    packed = {path for pattern in patterns for path in (ROOT / "controller").glob(pattern)}
    assert PO.with_suffix(".mo") in packed


def test_the_schemas_are_of_today() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in schemas.SCHEMAS.glob("*.json")}
    assert there == schemas.documents(), "make generated"


def test_each_verb_has_a_schema() -> None:
    verbs = {verb.name for verb in VERBS}
    assert verbs - set(schemas.SHAPES) == set(), "name its shape in tests/tooling/schemas.py"
    assert set(schemas.SHAPES) - verbs == set()


@pytest.mark.parametrize("path", sorted(schemas.SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_a_schema_is_a_schema(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))
