"""The exceptions a user can meet. Each message is one line: `<where>: <what is wrong>, <value>; <what to do>`."""

from __future__ import annotations

import re
from typing import Any

LONGEST_MESSAGE = 2000
LONGEST_QUOTE = 100


def one_line(message: str) -> str:
    """A message as one printable line of bounded length."""
    line = "".join(ch if ch.isprintable() else "?" for ch in message)
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 3]}..."


class BroadaxeError(Exception):
    """Base of every error Broadaxe raises on purpose; the command line prints its text and exits with `exit_code`.

    The text is one printable line whatever a model file put into it.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    @property
    def lines(self) -> tuple[str, ...]:
        """What the command line prints: the message, and one line for each further mistake where several were found."""
        return (str(self),)


def elements_of(dtype: Any) -> str:
    """What an array of a numpy type holds, in words: numpy itself writes text as <U5."""
    return {"U": "text", "S": "text", "O": "objects", "M": "dates"}.get(dtype.kind, str(dtype))


def said_by(error: Exception) -> str:
    """What the exception of another library says, for a message of ours: one line, without its codes, shortened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[-1] if "InferenceError]" in lines[-1] else lines[0]
    line = re.sub(r"^(\[\w+\]\s*:?\s*)+(\d+ : \w+ : )?", "", line)
    line = line.rpartition("Status Message: ")[2].replace("; ", ", ").rstrip(" .")
    return line if len(line) <= LONGEST_QUOTE else f"{line[: LONGEST_QUOTE - 3]}..."


class RequestError(BroadaxeError):
    """The request is wrong: a missing file, a bad option, data of the wrong shape."""


class BudgetError(RequestError):
    """No row of a weight grid fits an accumulator budget.

    Attributes:
        bits: what the budget allows.
        needed: what would be enough.
    """

    def __init__(self, bits: int, needed: int) -> None:
        super().__init__(f"no bipolar weights fit {bits} accumulator bits; give it {needed} or more")
        self.bits, self.needed = bits, needed


class UnsupportedModelError(BroadaxeError):
    """The model has something that cannot be lowered exactly; the message names the node and the operator."""


class VerificationError(BroadaxeError):
    """A check failed: a mismatch between two executions, a proof that does not hold."""

    exit_code = 1


class ProofError(VerificationError):
    """A claimed bound, width or requantizer does not hold."""


class GraphError(VerificationError):
    """An integer graph breaks its own contract; the message names the pass that broke it."""


class DataWarning(UserWarning):
    """Data that can be computed and are probably not meant, such as images that were not scaled."""


class MissingToolError(BroadaxeError):
    """A program or package that this step needs is not installed; the message says how to get it."""

    exit_code = 3


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is an interrupt's: modules in C turn one that comes while they begin into an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
