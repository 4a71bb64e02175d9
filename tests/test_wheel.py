"""The built wheel, installed where the source is not: everything is in it, and it works."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.sweep.run.test_launch import TINY

ROOT = Path(__file__).parents[1]
PACKAGES = ("rdmodels", "sweep", "analysis")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: a build leaves folders beside the source.
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    run(*pip, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_every_module_and_template_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".jinja") or file.name == "py.typed"
    }
    assert inside == expected


@pytest.mark.slow
def test_an_installed_wheel_runs_a_sweep(wheel: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=True)
    python = clean / "bin" / "python"
    (site,) = (clean / "lib").glob("python*/site-packages")
    # The dependencies as they are installed here; a plain path runs no editable install's hook.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    where = "import rdmodels, sweep, analysis; print(rdmodels.__file__, sweep.__file__)"
    assert run(python, "-c", where, cwd=tmp_path).count(str(clean)) == 2
    assert "launch" in run(clean / "bin" / "rdsweep", "--help", cwd=tmp_path)
    search = {**TINY["search"], "trials": 2}  # type: ignore[dict-item]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "search": search}))
    command = [clean / "bin" / "rdsweep", "launch", "tiny.yaml", "--output", "sweeps/tiny"]
    assert "2 complete, 0 failed" in run(*command, cwd=tmp_path)
    run(clean / "bin" / "rdsweep", "report", "sweeps/tiny", cwd=tmp_path)
    page = (tmp_path / "sweeps" / "tiny" / "report" / "report.html").read_text()
    assert "<html" in page
