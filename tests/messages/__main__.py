"""python -m tests.messages: write docs/errors.md again."""

from __future__ import annotations

import sys
from pathlib import Path

# Modules of cases import the tests' own helpers by their plain names, as under pytest.
sys.path[:0] = [str(Path(__file__).parents[1])]


def main() -> None:
    from messages.page import PAGE, page

    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(PAGE)


if __name__ == "__main__":
    main()
