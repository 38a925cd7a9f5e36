"""Writes docs/openapi.json, the order API of platform-sim: `make generated`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from platform_sim import openapi

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = json.dumps(openapi.document(), indent=1, ensure_ascii=False)
    FILE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
