"""The pictures of `watch` in the documents: `python -m tests.cli.watch.pictures`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from controller.cli.watch.app import WatchApp
from controller.cli.watch.page import Look
from controller.cli.watch.shelves import UTF8
from tests.cli.watch.snapshots import MOMENTS, lines_of

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
OF = {"moving": "watch.svg", "in_trouble": "watch-trouble.svg"}


async def picture(moment: str) -> str:
    """The real screen with a recorded moment on it, as SVG that loads nothing from elsewhere."""
    lines_of(moment, "80x24")  # sets the time zone
    app = WatchApp(None, UTF8)
    async with app.run_test(size=(80, 24)) as pilot:
        app.seen = MOMENTS[moment]()
        app.look = Look("A12")
        app.draw()
        await pilot.pause()
        svg = app.export_screenshot(title="vendctl watch")
    return re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)


def write() -> None:
    for moment, name in OF.items():
        (PICTURES / name).write_text(asyncio.run(picture(moment)), encoding="utf-8")


if __name__ == "__main__":
    write()
