"""`python -m controller.dispensing.draw > docs/cycle.md`: the diagram from the machine itself."""

from __future__ import annotations

import sys

from controller.dispensing import cycle

PAGE = """# The life of one cycle

Generated from `controller/dispensing/cycle.py` by
`python -m controller.dispensing.draw > docs/cycle.md`; a test holds them together.

```mermaid
{diagram}
```

{theory}
"""


def page() -> str:
    theory = (cycle.__doc__ or "").split("\n", 2)[2].strip()
    return PAGE.format(diagram=cycle.diagram().strip(), theory=theory)


if __name__ == "__main__":
    sys.stdout.write(page())
