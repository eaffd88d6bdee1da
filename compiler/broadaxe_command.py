"""The command `broadaxe`: Ctrl-C is no traceback even while the package is being imported, which takes a second."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from broadaxe.cli import main as run

        run()
    except (KeyboardInterrupt, ImportError) as error:
        from broadaxe.errors import interrupted

        if not interrupted(error):
            raise
        print("interrupted; nothing was left half-written", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
