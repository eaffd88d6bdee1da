"""The command `broadaxe`: Ctrl-C is no traceback even while the package is being imported, which takes a second."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from broadaxe.cli import main as run

        run()
    except (KeyboardInterrupt, ImportError) as error:
        if not interrupted(error):
            raise
        print("interrupted; nothing was left half-written", file=sys.stderr)
        sys.exit(130)


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is an interrupt's: modules in C turn one that comes while they begin into an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


if __name__ == "__main__":
    main()
