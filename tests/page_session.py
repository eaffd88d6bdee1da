"""One Python session for the blocks of a page: source as a line of JSON in, what it printed as a line of JSON out."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        printed, failed = io.StringIO(), ""
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(json.loads(line), "page", "exec"), names)
        except Exception as error:
            failed = "".join(traceback.format_exception_only(error)).strip()
        print(json.dumps({"printed": printed.getvalue(), "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
