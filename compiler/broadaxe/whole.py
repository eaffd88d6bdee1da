"""Files that are there whole or not at all, whenever an interrupt comes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until this is over: for renames that belong together, which are quick."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[-1])


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files beside their places and rename them: all of them are there, or what was there before.

    Raises:
        OSError: what the file system says.
    """
    partial = {final: final.with_name(f".{final.name}.{os.getpid()}.partial") for final in contents}
    try:
        for final, content in contents.items():
            partial[final].write_bytes(content)
        with uninterrupted():
            for final, written in partial.items():
                written.replace(final)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)
