"""The settings file as a JSON Schema (draft 2020-12), for editors: `vendctl config schema`.

Made from the tables themselves, so it names every key, its range and its default. What must
hold between values (a name that has to exist, a number that is there twice) only the check
itself can say.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from controller.config_tables import (
    BOARD_TABLES,
    SERVED_PROTOCOLS,
    SINGLE_TABLES,
    CabinetTable,
    LaneTable,
    Table,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WHAT_IS_LEFT = (
    "What must hold between values, and files that must be there, only 'vendctl config check' tells"
)


def settings_schema() -> dict[str, Any]:
    models: list[type[Table]] = [
        *SINGLE_TABLES.values(),
        *BOARD_TABLES.values(),
        CabinetTable,
        LaneTable,
    ]
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/$defs/{model}"
    )
    tables: dict[str, Any] = definitions["$defs"]

    def table(model: type[Table]) -> dict[str, Any]:
        return references[model, "validation"]

    for each in tables.values():
        each["properties"] = {key: _plain(value) for key, value in each["properties"].items()}
    for protocol, model in BOARD_TABLES.items():
        tables[model.__name__]["properties"]["protocol"] = {"const": protocol}
    tables["SecurityTable"]["properties"] = {}  # a key there is refused whatever it holds
    tables["CabinetTable"]["properties"]["lane"] = _array(table(LaneTable))
    tables["CabinetTable"]["required"].append("lane")
    boards = {"oneOf": [table(BOARD_TABLES[name]) for name in SERVED_PROTOCOLS]}
    return {
        "$schema": DIALECT,
        "title": "vending-controller: the settings file",
        "description": WHAT_IS_LEFT,
        "type": "object",
        "properties": {
            **{name: table(model) for name, model in SINGLE_TABLES.items()},
            "board": _array(boards),
            "cabinet": _array(table(CabinetTable)),
        },
        "required": ["machine", "board", "cabinet"],
        "additionalProperties": False,
        "$defs": tables,
    }


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Without pydantic's titles, and without null, which TOML does not have."""
    kept = {key: each for key, each in value.items() if key != "title"}
    choices = [each for each in kept.pop("anyOf", ()) if each != {"type": "null"}]
    if kept.get("default", ...) is None:
        del kept["default"]
    return kept | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def _array(item: dict[str, Any]) -> dict[str, Any]:
    """Of tables, `[[…]]` in the file: at least one."""
    return {"type": "array", "items": item, "minItems": 1}
