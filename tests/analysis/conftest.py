"""Fixtures of this room, and the one warning of a library that it lets pass."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from tests.analysis.tracked import build_sweep, demo_trials

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

NOLOAD = "ignore:The ``noload`` loader strategy is deprecated"
"""SQLAlchemy's word on a mapping of MLflow's own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(NOLOAD))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with trials of every status, made once. Not to be written to."""
    return build_sweep(tmp_path_factory.mktemp("built") / "sweeps", demo_trials())


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """The same sweep, moved with its store, to a place of the test's own."""
    shutil.copytree(built.parent, tmp_path / "sweeps")
    return tmp_path / "sweeps" / built.name
