"""The report that a build folder holds, read without the compiler."""

from __future__ import annotations

from pathlib import Path

from broadaxe.errors import RequestError
from broadaxe.manifest import check_files
from broadaxe.reports.schema import Report


def read_report(folder: Path) -> Report:
    """The report that compilation left in a build folder; VerificationError where a file there has changed since."""
    check_files(folder)
    try:
        return Report.model_validate_json((folder / "report.json").read_text())
    except (OSError, ValueError):  # of pydantic, or no UTF-8
        raise RequestError(
            f"{folder / 'report.json'}: is missing, damaged or of another version of Broadaxe; compile again"
        ) from None
