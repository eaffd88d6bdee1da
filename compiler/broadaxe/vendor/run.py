"""One run of a vendor's tool: its output goes to a log and to whoever watches, and it ends when it has to."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from broadaxe.errors import VerificationError

SECONDS_TO_END = 10
"""Between asking the tool and its children to end, and ending them."""
SECONDS_OF_SILENCE = 5
"""After the tool has ended, for children that hold its output open."""


def run(
    command: Sequence[str],
    folder: Path,
    log: Path,
    said: Callable[[str], None],
    *,
    seconds: float,
    name: str = "",
) -> int:
    """Run a command in a folder; returns its exit status. Its output is appended to `log`.

    The command is the head of a process group of its own. The group is ended when `seconds` are over, which is a
    VerificationError, and when this process is interrupted.
    """
    with log.open("a", encoding="utf-8") as record:
        record.write(f"$ {' '.join(command)}\n")
        record.flush()
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_feed, args=(process, lines), daemon=True).start()
        finished = False
        try:
            finished = _follow(process, lines, record.write, said, time.monotonic() + seconds)
        finally:
            if not finished:
                _end(process)
        if not finished:
            raise VerificationError(
                f"{name or command[0]}: did not end within {seconds:g} s and was stopped; allow more with --timeout, or look"
                f" into its log {log}"
            )
        return process.wait()


def _feed(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _follow(
    process: subprocess.Popen[str],
    lines: queue.Queue[str | None],
    write: Callable[[str], object],
    said: Callable[[str], None],
    deadline: float,
) -> bool:
    """Copy lines until the process has ended; returns whether it did before the deadline."""
    ended: float | None = None
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=min(0.2, max(0.01, deadline - time.monotonic())))
        except queue.Empty:
            if process.poll() is not None:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > SECONDS_OF_SILENCE:
                    return True
            continue
        if line is None:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            return process.poll() is not None
        write(line)
        said(brief(line))
    return False


def brief(line: str) -> str:
    """A line of a log for one line of a terminal: without its class and number, cut to 80 characters."""
    text = re.sub(r"^(INFO|WARNING|ERROR|CRITICAL WARNING): (\[[\w -]+\] )?", "", line.strip())
    return "".join(ch if ch.isprintable() else " " for ch in text)[:80]


def _end(process: subprocess.Popen[str]) -> None:
    """End the whole group: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:  # its children may have been deaf to it
            time.sleep(0.1)
    process.wait()
