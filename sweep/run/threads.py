"""What the environment tells a trial's threads, before its process imports torch."""

import os

OF_THE_USER = ("OMP_", "GOMP_", "KMP_")
"""Whoever has set one of these has chosen how threads behave: nothing is added."""


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables for the worker processes of a sweep whose trials take `threads` CPUs.

    OpenMP reads them when its library is loaded; later is too late. Empty if the user's own
    environment says anything about OpenMP.
    """
    if any(name.startswith(OF_THE_USER) for name in os.environ):
        return {}
    return {"OMP_NUM_THREADS": str(threads)}
