"""Which room may enter which: the three packages, their wings, and the doors between them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("rdmodels", "sweep", "analysis")
WINGS_OF_RDMODELS = ("data", "model", "coding", "training")
"""Each stands on those before it."""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import hides where it goes"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


IMPORTS = {
    module_name(file): imports_of(file)
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def within(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def users_of(library: str) -> set[str]:
    return {name for name, imports in IMPORTS.items() if any(within(m, library) for m in imports)}


def test_every_wing_is_looked_at() -> None:
    assert {name.split(".")[0] for name in IMPORTS} == set(PACKAGES)
    for wing in ("rdmodels.coding", "sweep.cli", "sweep.run", "analysis.report", "analysis.store"):
        assert any(name.startswith(f"{wing}.") for name in IMPORTS)


def test_rdmodels_knows_nothing_of_the_platform() -> None:
    strangers = ("ray", "optuna", "mlflow", "sweep", "analysis", "typer", "plotly", "rich")
    for name, imports in IMPORTS.items():
        if within(name, "rdmodels"):
            assert not [m for m in imports if within(m, *strangers)], name


@pytest.mark.parametrize("wing", WINGS_OF_RDMODELS)
def test_the_wings_of_rdmodels_stand_on_each_other_in_order(wing: str) -> None:
    above = WINGS_OF_RDMODELS[WINGS_OF_RDMODELS.index(wing) + 1 :]
    for name, imports in IMPORTS.items():
        if within(name, f"rdmodels.{wing}"):
            up = [m for m in imports if within(m, *(f"rdmodels.{each}" for each in above))]
            assert not up, f"{name} imports {up}"


def test_what_all_wings_share_stands_on_none_of_them() -> None:
    wings = [f"rdmodels.{wing}" for wing in WINGS_OF_RDMODELS]
    for name, imports in IMPORTS.items():
        if within(name, "rdmodels") and not within(name, *wings):
            assert not [m for m in imports if within(m, *wings)], name


def test_analysis_takes_only_results_and_data_from_rdmodels() -> None:
    allowed = ("rdmodels.errors", "rdmodels.results", "rdmodels.metrics", "rdmodels.data")
    for name, imports in IMPORTS.items():
        if within(name, "analysis"):
            assert not [m for m in imports if within(m, "sweep")], name
            inside = [m for m in imports if m.startswith("rdmodels.") and not within(m, *allowed)]
            assert not inside, f"{name} imports {inside}"


def reached_from(start: str) -> set[str]:
    """Every module of ours that importing `start` loads, by what the files say."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in IMPORTS and name not in found:
            found.add(name)
            waiting += IMPORTS[name]
    return found


def test_a_training_worker_loads_no_analysis() -> None:
    reached = reached_from("sweep.run.trial")
    assert "rdmodels.training.fit" in reached
    assert not [module for module in reached if within(module, "analysis")]


def test_mlflow_has_one_writer_and_one_reader() -> None:
    for name in users_of("mlflow"):
        assert within(name, "sweep.tracking", "analysis.store"), f"{name} imports mlflow"


def test_only_the_search_touches_the_study() -> None:
    for name in users_of("optuna"):
        assert within(name, "sweep.search", "sweep.spec.space"), f"{name} imports optuna"


def test_no_package_hides_the_home_of_a_name() -> None:
    for name, imports in IMPORTS.items():
        if (ROOT / name.replace(".", "/")).is_dir():
            assert not [m for m in imports if within(m, *PACKAGES)], f"{name} re-exports"
