"""`make messages`: brings the catalogue of vendctl's sentences up to date, and says what it lacks.

The English sentences stand in the code (`controller/cli`). A sentence is what is passed to
`say`, `say_count` and `later`; the summary of a `Line` and the note of a `Verb`; the heads of
a table and the names of pairs, which `screen` says itself. argparse's own are listed here.
From the rest of `controller` come the sentences with which the daemon refuses, and `prose`.
Babel reads and writes the catalogues: `vendctl.po` is for translators, `vendctl.mo` beside it
is what the program reads.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from controller import config_prose
from controller.prose import PROSE

ROOT = Path(__file__).parents[2]
DAEMON = ROOT / "controller"
CLI = DAEMON / "cli"
MANUAL = ROOT / "tests" / "tooling" / "manual.py"
PO = CLI / "locale" / "zh_CN" / "LC_MESSAGES" / "vendctl.po"

ARGPARSE: tuple[str | tuple[str, str], ...] = (
    "usage: ",
    "%(prog)s: error: %(message)s\n",
    "positional arguments",
    "options",
    "show this help message and exit",
    "argument %(argument_name)s: %(message)s",
    "the following arguments are required: %s",
    "unrecognized arguments: %s",
    "invalid choice: %(value)r (choose from %(choices)s)",
    "invalid %(type)s value: %(value)r",
    "expected one argument",
    "expected at least one argument",
    "expected at most one argument",
    ("expected %s argument", "expected %s arguments"),
    "ignored explicit argument %r",
    "ambiguous option: %(option)s could match %(matches)s",
    "not allowed with argument %s",
    "one of the arguments %s is required",
    "unknown parser %(parser_name)r (choices: %(choices)s)",
)
"""What argparse can say of vendctl's arguments, from its source in Python 3.11 to 3.14."""

PAIRS = "list[tuple[str, object]]"
"""A function that returns this makes facts for `screen.pairs`."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """`text` is (one, many) where it has a plural."""

    text: str | tuple[str, str]
    file: str
    line: int


def sentences() -> list[Sentence]:
    """Every sentence of the program, in the order of the files."""
    found = [
        sentence
        for path in [*sorted(CLI.rglob("*.py")), MANUAL]
        for sentence in sentences_in(
            path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        )
    ]
    return [
        *found,
        *refusals(),
        *(Sentence(text, "controller/prose.py", 0) for text in PROSE),
        *settings(),
        *(Sentence(text, "argparse", 0) for text in ARGPARSE),
    ]


TEMPLATE_AT = {"Refused": 1, "Rejected": 2, "ClockUnset": 0}
"""Exception with which the daemon refuses -> which of its arguments is the sentence."""


def refusals() -> list[Sentence]:
    """The daemon's own sentences, which vendctl says in the technician's language."""
    return [
        Sentence(text, path.relative_to(ROOT).as_posix(), call.lineno)
        for path, call in refusing()
        for text in _literals(call.args[TEMPLATE_AT[called(call)] :][:1])
    ]


def settings() -> list[Sentence]:
    """What `vendctl config check` says of a file: the halves of its findings."""
    stated = [
        Sentence(text, path.relative_to(ROOT).as_posix(), node.lineno)
        for path in (DAEMON / "config.py", DAEMON / "config_rules.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and called(node) in {"Finding", "_twice"}
        for text in _literals([part for given in node.args[1:3] for part in _branches(given)])
    ]
    named = (*config_prose.FINDINGS, *config_prose.OF_THE_FILE)
    return [*stated, *(Sentence(text, "controller/config_prose.py", 0) for text in named)]


def _branches(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def refusing() -> list[tuple[Path, ast.Call]]:
    """Every place of the daemon that refuses."""
    return [
        (path, node)
        for path in sorted(DAEMON.rglob("*.py"))
        if CLI not in path.parents
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and called(node) in TEMPLATE_AT
    ]


def sentences_in(source: str, file: str) -> list[Sentence]:
    tree = ast.parse(source)
    named = _constants(tree)
    found = [
        Sentence(text, file, node.lineno)
        for node in ast.walk(tree)
        for text in _texts(node, named)
        if text
    ]
    return sorted(found, key=lambda sentence: sentence.line)


def _constants(tree: ast.AST) -> dict[str, list[ast.expr]]:
    """Name -> what is assigned to it anywhere in the file."""
    named: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, []).append(node.value)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            named.setdefault(node.target.id, []).append(node.value)
    return named


def _texts(node: ast.AST, named: dict[str, list[ast.expr]]) -> Iterator[str | tuple[str, str]]:
    if isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) == PAIRS:
        yield from _names_of_pairs(node)
    if not isinstance(node, ast.Call):
        return
    match called(node):
        case "say" | "later":
            yield from _literals(node.args[:1])
        case "say_count":
            one, many = _literals(node.args[:2])
            yield one, many
        case "Line":
            yield from _literals(node.args[1:2])
            yield from _keyword(node, "summary")
        case "Verb":
            yield from _keyword(node, "note")
        case "table":
            heads = node.args[0]
            tuples = named.get(heads.id, []) if isinstance(heads, ast.Name) else [heads]
            for given in tuples:
                if isinstance(given, ast.Tuple | ast.List):
                    yield from _literals(given.elts)
        case "pairs":
            yield from _names_of_pairs(node)


def called(call: ast.Call) -> str:
    """The last word of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _literals(nodes: list[ast.expr]) -> list[str]:
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def _keyword(call: ast.Call, name: str) -> list[str]:
    return _literals([keyword.value for keyword in call.keywords if keyword.arg == name])


def _names_of_pairs(node: ast.AST) -> Iterator[str]:
    for pair in ast.walk(node):
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
            yield from (name.strip() for name in _literals(pair.elts[:1]))


def catalogue(path: Path = PO) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="zh_CN")


def missing(known: Catalog) -> list[Sentence]:
    """The sentences that this catalogue does not translate."""
    found: list[Sentence] = []
    for sentence in sentences():
        message = known.get(sentence.text)
        if message is None or message.fuzzy or not all(strings(message.string)):
            found.append(sentence)
    return found


def strings(text: str | tuple[str, ...] | list[str] | None) -> list[str]:
    """Of a sentence or its translation: one, or its plural forms."""
    return list(text) if isinstance(text, list | tuple) else [text or ""]


def renewed(known: Catalog) -> Catalog:
    """With every sentence of today and none of yesterday, translated as far as it was."""
    fresh = Catalog(
        locale="zh_CN",
        domain="vendctl",
        project="vending-controller",
        version="1",
        header_comment="# The sentences of vendctl in Chinese. Renewed by `make messages`.",
        creation_date=known.creation_date,
        revision_date=known.revision_date,
        msgid_bugs_address="none",
        last_translator="none",
        language_team="zh_CN",
        fuzzy=False,
        charset="utf-8",
    )
    for sentence in sentences():
        before = known.get(sentence.text)
        if before and bool(before.pluralizable) != isinstance(sentence.text, tuple):
            before = None  # the same words, once with a count and once without
        fresh.add(
            sentence.text,
            before.string if before else "",
            locations=[(sentence.file, sentence.line)],
            flags=("fuzzy",) if before and before.fuzzy else (),
        )
    return fresh


def po_text(known: Catalog) -> bytes:
    """Sorted by sentence and without line numbers: a change of the code changes few lines."""
    written = io.BytesIO()
    write_po(written, known, width=90, sort_output=True, include_lineno=False)
    return written.getvalue()


def mo_text(known: Catalog) -> bytes:
    written = io.BytesIO()
    write_mo(written, known)
    return written.getvalue()


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    known = renewed(catalogue())
    PO.write_bytes(po_text(known))
    PO.with_suffix(".mo").write_bytes(mo_text(known))
    gaps = missing(known)
    for gap in gaps:
        print(f"{gap.file}:{gap.line}: not translated: {gap.text!r}")
    where = PO.relative_to(ROOT)
    if gaps:
        print(f"{len(gaps)} sentences to translate in {where}; then make messages again")
    else:
        print(f"{where}: all {len(known)} sentences are translated")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
