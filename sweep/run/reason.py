"""Why a trial or a task failed, in one line, out of Ray's exceptions."""

import re
from pathlib import Path

from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.tune.experiment import Trial

LONGEST = 1000
PROCESS_DIED = "The actor is dead because"
CREATION = "in its creation task"
"""How Ray's texts tell a process that died from one that could not start."""
STARTING = " (while the trial's process started)"
EXCEPTION = re.compile(r"^([A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*): ", re.MULTILINE)


def reason_of(error: BaseException) -> str:
    """`Class: message` of what went wrong, in one line of at most 1000 characters.

    An exception that the trial raised is told as the trial raised it; of a process that died, Ray
    says how it exited.
    """
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return reason_of(error.cause)
    if isinstance(error, RayTaskError):
        return _cut(_told_at_the_end(str(error)))
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _cut(_told_at_the_end(str(error)) + STARTING)
    message = str(error)
    if isinstance(error, RayActorError):
        message = message[max(0, message.find(PROCESS_DIED)) :]
    return _cut(f"{type(error).__name__}: {message}")


def trial_reason(trial: Trial) -> str:
    """Why a Ray trial failed, from the text that Ray left of its exception on this machine.

    The exception itself lies beside it as a pickle, and is not loaded.
    """
    if trial.error_file is None or not Path(trial.error_file).is_file():
        return "Ray has left no error text"
    # Each failure of a trial is appended.
    told = Path(trial.error_file).read_text(errors="replace").rpartition("Failure # ")[2]
    died = told.find(PROCESS_DIED)
    if died >= 0:
        return _cut(f"{ActorDiedError.__name__}: {told[died:]}")
    return _cut(_told_at_the_end(told) + (STARTING if CREATION in told else ""))


def _told_at_the_end(trace: str) -> str:
    """The exception at the end of a trace: from its class on, or else the last line."""
    starts = [match.start("name") for match in EXCEPTION.finditer(trace)]
    return trace[starts[-1] :] if starts else trace.strip().rpartition("\n")[2]


def _cut(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
