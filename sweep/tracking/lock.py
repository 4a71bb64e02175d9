"""Locks between processes: files that the system itself unlocks when their holder ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.1


def try_lock(path: Path) -> IO[str] | None:
    """The lock at `path`, held until it is closed; None if someone else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold the lock at `path`.

    Raises:
        TimeoutError: if someone else has it for longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while (file := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has held {path} for {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    with file:
        yield


def is_locked(path: Path) -> bool:
    """Whether someone has the lock at `path`."""
    file = try_lock(path)
    if file is None:
        return True
    file.close()
    return False
