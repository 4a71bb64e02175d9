import os

import pytest

from sweep.run.threads import thread_environment


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
@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_user_who_has_said_anything_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert thread_environment(3) == {}
