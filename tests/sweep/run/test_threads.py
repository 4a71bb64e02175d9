import os

import pytest

from rdmodels.config import make_trial
from rdmodels.data.splits import load_splits
from sweep.run.threads import thread_environment
from sweep.spec.spec import Resources


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("OMP_", "GOMP_", "KMP_")):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("silent")
def test_a_trial_is_told_its_threads() -> None:
    assert thread_environment(3)["OMP_NUM_THREADS"] == "3"
    assert all(isinstance(value, str) for value in thread_environment(3).values())


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_a_user_who_has_said_anything_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert thread_environment(3) == {}


@pytest.mark.usefixtures("silent")
def test_reading_the_digits_chooses_nothing() -> None:
    # scikit-learn sets variables of its own.
    load_splits(make_trial({}))
    assert thread_environment(1)


def test_a_trial_takes_one_thread_unless_told_otherwise() -> None:
    # The default that keeps a sweep on a busy machine from spinning at barriers.
    assert Resources().cpu == 1
