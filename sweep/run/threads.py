"""What the environment tells a trial's threads, before its process imports torch.

Threads of one training meet at a barrier many times a step, and spin there: where another process
takes one of their cores, they burn the rest of it waiting. What protects them is a trial of one
CPU, the default of `resources.cpu`, and as many at once as there are cores: one thread has no
barrier. Shorter spins were measured as well, and cost a quiet machine more than they give a busy
one (`tests/benchmarks/threads.py`).
"""

import os

OF_THE_USER = ("OMP_", "GOMP_")
"""Whoever has set one of these has chosen how threads behave: nothing is added.

Not KMP_: scikit-learn sets two of those when it is imported, and torch's OpenMP reads none.
"""


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables for the worker processes of a sweep whose trials take `threads` CPUs.

    OpenMP reads them when its library is loaded; later is too late. Empty if the user's own
    environment says anything about OpenMP.
    """
    if any(name.startswith(OF_THE_USER) for name in os.environ):
        return {}
    return {"OMP_NUM_THREADS": str(threads)}
