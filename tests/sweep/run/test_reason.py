"""Why a trial failed, out of the exceptions of a real Ray."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from sweep.run.reason import LONGEST, STARTING, reason_of, trial_reason

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


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
    # As Ray leaves it on this machine: its text, after that of an earlier try.
    file = tmp_path / "error.txt"
    file.write_text(f"Failure # 1 (occurred at noon)\nOSError: x\nFailure # 2 (at one)\n{error}\n")
    assert trial_reason(SimpleNamespace(error_file=str(file))) == said


def test_a_trial_without_a_text_says_so(tmp_path: Path) -> None:
    for missing in (None, str(tmp_path / "none.txt")):
        assert "no error text" in trial_reason(SimpleNamespace(error_file=missing))
