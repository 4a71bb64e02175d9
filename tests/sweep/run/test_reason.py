"""Why a trial failed, out of the exceptions of a real Ray."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from sweep.run.reason import LONGEST, reason_of, trial_reason

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


STARTING = " (while the trial's process started)"
DIED = "ActorDiedError: "
"""What only the exception itself can tell."""


class Trial:
    """Stands for a trial's process, and for how it goes wrong."""

    def __init__(self, how: str) -> None:
        self.how = how
        if how == "import":
            import nothing_of_this_name  # noqa: F401

    def train(self) -> None:
        match self.how:
            case "raise":
                raise ValueError("loss is nan:\n  lower learning_rate")
            case "long":
                raise ValueError("x" * 5000)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                sys.exit(7)


@pytest.fixture
def error(request: pytest.FixtureRequest, ray_here: None) -> Exception:
    actor = ray.remote(num_cpus=0)(Trial).remote(request.param)
    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(actor.train.remote())
    return caught.value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("raise", "ValueError: loss is nan: lower learning_rate"),
        ("long", "ValueError: " + "x" * (LONGEST - 12)),
        (
            "import",
            f"ModuleNotFoundError: No module named 'nothing_of_this_name'{STARTING}",
        ),
        ("kill", "ActorDiedError: The actor is dead because its worker process has died."),
        ("exit", "exit code 7"),
    ],
    indirect=["error"],
)
def test_the_reason_is_one_line_with_the_class_and_what_it_said(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    said = reason_of(error)
    assert reason in said
    assert "\n" not in said
    assert said.split(":")[0].endswith("Error")
    # As Ray leaves it on this machine: the exception, or only its text.
    pickled, text = tmp_path / "error.pkl", tmp_path / "error.txt"
    pickled.write_bytes(ray.cloudpickle.dumps(error))
    trial = SimpleNamespace(pickled_error_file=str(pickled), error_file=str(text))
    assert trial_reason(trial) == said
    text.write_text(f"Failure # 1 (occurred at noon)\n{error}\n")
    for unreadable in (b"", b"\x80no pickle", b"cnothing_of_this_name\nError\n."):
        pickled.write_bytes(unreadable)
        assert trial_reason(trial) == said.removesuffix(STARTING).removeprefix(DIED)
    trial.pickled_error_file = None
    assert trial_reason(trial) == said.removesuffix(STARTING).removeprefix(DIED)
