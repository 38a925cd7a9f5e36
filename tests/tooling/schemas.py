"""Writes the JSON schema of what each verb prints with `--json`: `make generated`.

From the TypedDicts of `controller.service.shapes`, their docstrings as descriptions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import is_typeddict

from controller.service import shapes

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"

SHAPES: Mapping[str, Any] = {
    "status": shapes.Status,
    "watch": shapes.WatchLine,
    "clock accept": shapes.ClockActed,
    "orders": shapes.Orders,
    "events": shapes.Events,
    "lanes": shapes.Lanes,
    "lane": shapes.LaneDetails | shapes.LaneActed,
    "order": shapes.OrderDetails | shapes.OrderCancelled,
    "resolve": shapes.Resolved,
    "outbox": shapes.OutboxView,
    "doctor": shapes.Checks | shapes.Bundle,
    "eye": shapes.EyeLine,
    "journal check": shapes.CheckStep,
    "journal backup": shapes.BackedUp,
    "journal restore": shapes.Restored,
    "journal prune": shapes.PruneStep,
    "stock undo-test": shapes.TestsUndone,
    "stock set": shapes.LaneActed,
    "stock fill": shapes.LanesActed,
    "service on": shapes.ServiceActed,
    "service off": shapes.ServiceActed,
    "link": shapes.Link,
    "cabinet stop": shapes.CabinetActed,
    "cabinet start": shapes.CabinetActed,
    "board accept": shapes.BoardActed,
    "test": shapes.VendStep,
    "config check": shapes.ConfigChecked,
    "config show": shapes.ConfigShown,
    "config schema": shapes.ConfigSchema,
    "trace": shapes.TraceLine,
    "completion": shapes.CompletionScript,
}
"""Verb -> what it prints. `lane` has two acts beside its reading."""

LINES = {"test", "trace", "watch", "eye", "journal check", "journal prune"}
"""They print an object a line."""

FAILURE = "failure"
"""The file of what any verb prints instead, with exit codes 1 and 3 to 5."""


def file_of(name: str) -> Path:
    return SCHEMAS / f"{name.replace(' ', '-')}.json"


def documents() -> dict[Path, str]:
    """Every file of docs/schemas, with its text."""
    for shape in vars(shapes).values():
        if is_typeddict(shape):
            shape.__pydantic_config__ = ConfigDict(use_attribute_docstrings=True)
    texts = {file_of(verb): _text(verb, shape) for verb, shape in SHAPES.items()}
    return texts | {file_of(FAILURE): _text(FAILURE, shapes.Failure)}


def _text(name: str, shape: Any) -> str:
    title = (
        "vendctl --json, when there is no answer" if name == FAILURE else f"vendctl {name} --json"
    )
    schema = TypeAdapter(shape).json_schema()
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title + (" (an object a line)" if name in LINES else ""),
    }
    return json.dumps({**schema, **head}, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
