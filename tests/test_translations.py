"""The Chinese pages keep step with the English ones: headings, commands, names, tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PAIRS = [("README.md", "README.zh-CN.md"), ("docs/operating.md", "docs/operating.zh-CN.md")]

BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def headings(text: str) -> list[int]:
    """The level of each, in their order."""
    return [len(found) for found in re.findall(r"^(#+) ", BLOCK.sub("", text), re.MULTILINE)]


def commands(text: str) -> list[str]:
    """The code blocks, without comments: those may be translated."""
    return [
        re.sub(r"[ \t]*(^|[ \t])#.*$", "", block, flags=re.MULTILINE)
        for block in BLOCK.findall(text)
    ]


def names(text: str) -> set[str]:
    """What stands in backquotes: keys, commands, paths, codes."""
    return {" ".join(name.split()) for name in re.findall(r"`([^`]+)`", BLOCK.sub("", text))}


def rows(text: str) -> list[str]:
    """The first cell of each row of a table that is a name, in their order."""
    return re.findall(r"^\| (`[^|]*`) \|", BLOCK.sub("", text), re.MULTILINE)


def bold(text: str) -> int:
    """Paragraphs that begin with a bold word."""
    return len(re.findall(r"^\*\*", BLOCK.sub("", text), re.MULTILINE))


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_they_have_the_same_headings_paragraphs_and_rows(english: str, chinese: str) -> None:
    en, zh = read(english), read(chinese)
    assert headings(en) == headings(zh)
    assert bold(en) == bold(zh)
    assert [row.replace(", ", "、") for row in rows(en)] == rows(zh)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_they_have_the_same_commands(english: str, chinese: str) -> None:
    assert commands(read(english)) == commands(read(chinese))


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_they_name_the_same_things(english: str, chinese: str) -> None:
    en, zh = names(read(english)), names(read(chinese))
    assert en - zh == set(), "missing in Chinese"
    assert zh - en == set(), "only in Chinese"


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_links_of_the_chinese_page_lead_somewhere(english: str, chinese: str) -> None:
    text = read(chinese)
    titles = {
        title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / chinese).parent.joinpath(path).exists(), target
        assert not anchor or path or anchor in titles, target


def test_a_page_that_fell_behind_is_found() -> None:
    assert headings("# a\n## b\n") != headings("# a\n# b\n")
    assert commands("```\nmake demo   # watch\n```") == commands("```\nmake demo   # 看\n```")
    assert commands("```\nmake demo\n```") != commands("```\nmake test\n```")
    assert names("say `vendctl\nstatus` and `x`") == {"vendctl status", "x"}
