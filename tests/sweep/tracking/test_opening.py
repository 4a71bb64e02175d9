"""How a sweep opens its directory and its store: at once with others, and on read-only places."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from rdmodels.errors import ConfigError, TrackingError
from sweep.directory import CLAIM, check_output, check_writable, open_sweep, send_unsent
from sweep.spec.spec import make_spec
from sweep.tracking import store
from sweep.tracking.lock import try_lock
from sweep.tracking.spool import FOLDER, LOCK
from tests.analysis.tracked import empty_store
from tests.conftest import CORNER, DATA
from tests.sweep.tracking.tracked import Server, spool_trial

VALUES: dict[str, Any] = {
    "name": "tiny",
    "trial": {"width": 8, "groups": 1, "num_latent_channels": 4},
    "space": {"beta": {"low": 0.001, "high": 0.1, "log": True}},
    "search": {"sampler": "random", "trials": 1},
}

TOGETHER = """
import sys, time
from pathlib import Path
from rdmodels.errors import RdsweepError
from sweep.directory import open_sweep
from sweep.spec.spec import make_spec
from tests.conftest import CORNER, DATA
from tests.sweep.tracking.test_opening import VALUES

ready, others, directory = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
spec = make_spec(VALUES)
ready.touch()
while not others.exists():
    time.sleep(0.001)
try:
    print(open_sweep(spec, VALUES, directory, None, CORNER, DATA).experiment_id)
except RdsweepError as error:
    print(type(error).__name__, error)
"""


def open_two_at_once(tmp_path: Path, first: Path, second: Path) -> list[str]:
    """What two processes say that open a sweep in these directories at one moment."""
    one, two = tmp_path / "one.ready", tmp_path / "two.ready"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in ((one, two, first), (two, one, second))
    ]
    return [process.communicate(timeout=150)[0].strip() for process in processes]


@pytest.mark.slow
def test_two_first_launches_make_one_database(tmp_path: Path) -> None:
    sweeps = tmp_path / "sweeps"
    said = open_two_at_once(tmp_path, sweeps / "a", sweeps / "b")
    assert said[0] == said[1]
    assert said[0].isdecimal()
    client = MlflowClient(f"sqlite:///{sweeps}/mlflow.db")
    assert len(client.search_runs(said[:1], "tags.role = 'sweep'")) == 2


def test_of_two_launches_into_one_directory_one_wins(tmp_path: Path) -> None:
    sweeps = tmp_path / "sweeps"
    sweeps.mkdir()
    (sweeps / "mlflow.db").write_bytes(empty_store())
    said = sorted(open_two_at_once(tmp_path, sweeps / "a", sweeps / "a"))
    assert said[0].isdecimal()
    assert said[1].startswith(f"ConfigError --output {sweeps / 'a'} ")
    assert said[1].endswith("choose a new directory")
    assert [path.name for path in (sweeps / "a").iterdir()] == ["sweep.json"]
    client = MlflowClient(f"sqlite:///{sweeps}/mlflow.db")
    assert len(client.search_runs([said[0]], "tags.role = 'sweep'")) == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_store_that_does_not_answer_leaves_the_directory_as_it_was(
    there: bool, tmp_path: Path, server: Server
) -> None:
    directory = tmp_path / "sweeps" / "a"
    if there:
        directory.mkdir(parents=True)
    server.answer(503, to="")
    with pytest.raises(TrackingError, match="does not answer"):
        open_sweep(make_spec(VALUES), VALUES, directory, server.uri, CORNER, DATA)
    assert directory.exists() == there
    assert not there or not list(directory.iterdir())
    server.fault = None
    open_sweep(make_spec(VALUES), VALUES, directory, server.uri, CORNER, DATA)
    assert [path.name for path in directory.iterdir()] == ["sweep.json"]


def test_a_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    check_output(directory)
    directory.mkdir()
    check_output(directory)
    assert not list(directory.iterdir())
    (directory / "file").touch()
    with pytest.raises(ConfigError, match="a is in use already: choose a new directory"):
        check_output(directory)
    with pytest.raises(ConfigError, match="file is in use already"):
        check_output(directory / "file")
    (directory / "sweep.json").touch()
    with pytest.raises(ConfigError, match="holds a sweep already"):
        check_output(directory)
    (directory / CLAIM).touch()
    with pytest.raises(ConfigError, match="is taken by another launch"):
        check_output(directory)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder on a read-only disk, with a database in it; root would pass permission bits."""
    path = tmp_path / "read-only"
    (path / "sweeps" / "empty").mkdir(parents=True)
    (path / "sweeps" / "mlflow.db").touch()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "--bind", path, path], capture_output=True).returncode
    ):
        pytest.skip("mounting is not possible")
    try:
        options = [mount, "-o", "remount,bind,ro", path]
        if subprocess.run(options, capture_output=True).returncode:
            pytest.skip("mounting read-only is not possible")
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_read_only_place_is_refused_at_once(read_only: Path, tmp_path: Path) -> None:
    for directory in (read_only / "sweeps" / "new" / "er", read_only / "sweeps" / "empty"):
        with pytest.raises(
            ConfigError, match=r"--output .*sweeps.* cannot be written .*Read-only"
        ):
            check_output(directory)
        with pytest.raises(
            ConfigError, match=r"--output .*sweeps.* cannot be written .*Read-only"
        ):
            check_output(directory, "http://127.0.0.1:1")
    uri = f"sqlite:///{read_only}/sweeps/mlflow.db"
    with pytest.raises(ConfigError, match=r"--tracking-uri .*mlflow\.db cannot be written"):
        check_output(tmp_path / "a", uri)
    with pytest.raises(ConfigError, match=r"--tracking-uri .*other\.db cannot be written"):
        check_output(tmp_path / "a", f"sqlite:///{read_only}/sweeps/other.db")
    check_output(tmp_path / "a", "http://127.0.0.1:1")


def test_a_read_only_folder_around_the_directory_cannot_have_the_default_store(
    read_only: Path, tmp_path: Path
) -> None:
    inside = read_only / "sweeps" / "empty"
    subprocess.run(["mount", "-t", "tmpfs", "none", inside], check=True)
    try:
        check_output(inside, "http://127.0.0.1:1")
        with pytest.raises(ConfigError, match=r"--output .*mlflow\.db cannot be written"):
            check_output(inside)
    finally:
        subprocess.run(["umount", inside], check=True)


def test_a_place_below_a_file_or_in_a_virtual_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/a/b cannot be written .*Not a directory"):
        check_writable(tmp_path / "file" / "a" / "b")
    with pytest.raises(ConfigError, match=r"--output /proc/sweeps/a cannot be written \(/proc: "):
        check_writable(Path("/proc/sweeps/a"))


def test_probing_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    (tmp_path / "mlflow.db").write_bytes(b"kept")
    check_writable(tmp_path / "mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert (tmp_path / "mlflow.db").read_bytes() == b"kept"


def test_an_experiment_that_another_launch_made_meanwhile_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = store.open_experiment(server.uri, "contested", tmp_path)
    by_name, calls = MlflowClient.get_experiment_by_name, iter([True])

    def late(client: MlflowClient, name: str) -> Any:
        return None if next(calls, False) else by_name(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    _, second = store.open_experiment(server.uri, "contested", tmp_path)
    assert first == second


def test_a_database_that_somebody_else_is_making_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CREATION_SECONDS", 0.2)
    held = try_lock(tmp_path / ".mlflow.db.lock")
    assert held is not None
    with held, pytest.raises(TrackingError, match="another process has held"):
        store.open_experiment(f"sqlite:///{tmp_path}/mlflow.db", "exp", tmp_path)
    assert not (tmp_path / "mlflow.db").exists()


def test_what_an_earlier_launch_left_is_sent_and_counted(tmp_path: Path, server: Server) -> None:
    directory = tmp_path / "sweeps" / "a"
    open_sweep(make_spec(VALUES), VALUES, directory, server.uri, CORNER, DATA)
    spool = spool_trial(directory)
    spool.artifact(directory / "gone.txt")
    with try_lock(directory / FOLDER / LOCK) as lock:  # type: ignore[union-attr]
        assert lock is not None
        # A launch is running, which sends for itself.
        assert send_unsent(directory) == (0, 0)
    server.answer(401)
    assert send_unsent(directory) == (5, 0)
    assert not (directory / "report").exists()
    server.fault = None
    spool.end("complete")
    assert send_unsent(directory) == (0, 1)
    assert (directory / "report" / "report.html").exists()
    assert send_unsent(directory) == (0, 1)
