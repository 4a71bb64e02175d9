"""What a run's tags say of the code that made it."""

import ast
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from sweep.tracking import origin

SAY = "from sweep.tracking.origin import origin_tags as o; o(); print(o())"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as it lies in a virtual environment inside somebody else's repository."""
    project = tmp_path / "project"
    site = project / ".venv" / "site-packages"
    package = site / "sweep" / "tracking"
    package.mkdir(parents=True)
    here = Path(origin.__file__)
    shutil.copy(here, package / "origin.py")
    shutil.copy(here.with_name("__init__.py"), package / "__init__.py")
    (site / "sweep" / "__init__.py").touch()
    (project / ".gitignore").write_text(".venv/\n")
    git(project, "init", "--quiet")
    git(project, "add", ".gitignore")
    git(project, "commit", "--quiet", "--message", "theirs")
    return site


def tags_and_git_calls(site: Path, tmp_path: Path) -> tuple[dict[str, str], list[str]]:
    real, log = shutil.which("git"), tmp_path / "calls"
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(f'#!/bin/sh\necho "$1" >> {log}\nexec {real} "$@"\n')
    fake.chmod(0o755)
    log.write_text("")
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(site)}
    said = subprocess.check_output(
        [sys.executable, "-c", SAY], env=environment, cwd=tmp_path, text=True
    )
    tags: dict[str, str] = ast.literal_eval(said)
    return tags, log.read_text().split()


def test_an_installed_package_does_not_name_the_repository_around_it(
    installed: Path, tmp_path: Path
) -> None:
    tags, calls = tags_and_git_calls(installed, tmp_path)
    assert "mlflow.source.git.commit" not in tags
    assert tags["rdsweep.version"] == metadata.version("rdsweep")
    assert tags["mlflow.source.name"] == "rdsweep"
    assert calls == ["ls-files"]


def test_the_repository_that_tracks_the_package_is_named_and_asked_once_a_process(
    installed: Path, tmp_path: Path
) -> None:
    git(installed, "add", "--force", "sweep")
    git(installed, "commit", "--quiet", "--message", "with the package")
    tags, calls = tags_and_git_calls(installed, tmp_path)
    assert tags["mlflow.source.git.commit"] == git(installed, "rev-parse", "HEAD")
    assert tags["rdsweep.version"] == metadata.version("rdsweep")
    assert calls == ["ls-files", "rev-parse"]


def test_without_git_there_is_the_version(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(origin, "__file__", str(installed / "sweep" / "tracking" / "origin.py"))
    origin._version_tags.cache_clear()
    try:
        assert set(origin.origin_tags()) >= {"mlflow.user", "rdsweep.version"}
        assert "mlflow.source.git.commit" not in origin.origin_tags()
    finally:
        origin._version_tags.cache_clear()
