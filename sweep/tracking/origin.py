"""Where a run comes from: the tags of its user, its source and its version."""

import getpass
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

GIT_SECONDS = 5.0


def origin_tags() -> dict[str, str]:
    """The tags MLflow's UI shows as user and source, and this package's version."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    tags = {"mlflow.user": user, "mlflow.source.name": "rdsweep", "mlflow.source.type": "LOCAL"}
    return {**tags, **_version_tags()}


@cache
def _version_tags() -> dict[str, str]:
    tags = {"rdsweep.version": _version()}
    commit = _commit(Path(__file__))
    return tags if commit is None else {**tags, "mlflow.source.git.commit": commit}


def _version() -> str:
    try:
        return metadata.version("rdsweep")
    except metadata.PackageNotFoundError:
        return "unknown"


def _commit(file: Path) -> str | None:
    """The commit of the repository that tracks `file`; None if none does.

    An installed package may lie inside somebody else's repository, which says nothing of it.
    """
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=True,
    )
    return done.stdout.strip()
