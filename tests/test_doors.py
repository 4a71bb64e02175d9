"""Which room may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("rdmodels", "sweep", "analysis")


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_imports(room: str) -> dict[str, set[str]]:
    files = sorted((ROOT / room).glob("*.py"))
    assert files
    return {file.name: imports_of(file) for file in files}


def test_rdmodels_knows_nothing_of_the_platform() -> None:
    strangers = {"ray", "optuna", "mlflow", "sweep", "analysis", "typer", "plotly"}
    for name, imports in room_imports("rdmodels").items():
        assert not {module.split(".")[0] for module in imports} & strangers, name


def test_analysis_takes_only_results_metrics_and_data_from_rdmodels() -> None:
    allowed = ("rdmodels.results", "rdmodels.metrics", "rdmodels.data")
    for name, imports in room_imports("analysis").items():
        assert not any(module.split(".")[0] == "sweep" for module in imports), name
        for module in imports:
            if module.startswith("rdmodels."):
                assert module.startswith(allowed), f"{name} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_mlflow_has_one_writer_and_one_reader(room: str) -> None:
    doors = {"sweep": {"tracking.py"}, "analysis": {"runs.py"}, "rdmodels": set()}[room]
    for name, imports in room_imports(room).items():
        if any(module.split(".")[0] == "mlflow" for module in imports):
            assert name in doors, f"{room}/{name} imports mlflow"


def test_only_search_and_space_import_optuna() -> None:
    for room in ROOMS:
        for name, imports in room_imports(room).items():
            if any(module.split(".")[0] == "optuna" for module in imports):
                assert name in {"search.py", "space.py"}, f"{room}/{name} imports optuna"
