"""A cluster of several nodes on this machine, which do not see the same files."""

import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from tests.sweep.cli.test_cli import CODE, ROOT
from tests.sweep.run.test_launch import study_of, write_config
from tests.sweep.tracking.test_tracking import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]

START_SECONDS = 90
NO_PACKAGE = 'raise ModuleNotFoundError("No module named \'sweep\'", name="sweep")\n'
THREADS = """
import os, sys
if any("default_worker" in argument for argument in sys.orig_argv):
    with open(os.environ["THREADS"], "a") as file:
        print(os.environ.get("OMP_NUM_THREADS", "not told"), file=file)
"""
"""What a worker process knows before it imports anything."""


def may_unshare() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Cluster:
    """Nodes of one CPU each, in the folder `root`, whose `private` every node has for itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = f"127.0.0.1:{free_port()}"
        # Short: Ray's sockets are in it, whose paths may not be long.
        self.temporary = tempfile.mkdtemp(prefix="rdc", dir="/tmp")
        token = secrets.token_hex(16)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "OMP_" not in name},
            "COLUMNS": "120",
            "PYTHONPATH": os.pathsep.join([str(root / "site"), str(ROOT)]),
            "THREADS": str(root / "threads"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_TMPDIR": self.temporary,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.nodes: dict[str, subprocess.Popen[str]] = {}
        for name in ("private", "shared", "site"):
            (root / name).mkdir()
        (root / "site" / "sitecustomize.py").write_text(THREADS)

    def start(self, name: str, **environment: str) -> None:
        """Start a node; the first is the head and sees what this process sees."""
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block"]
        command += ["--num-cpus=1", f"--node-name={name}"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        if not self.nodes:
            port = self.address.rpartition(":")[2]
            command += ["--head", f"--port={port}", "--include-dashboard=false"]
        else:
            mount = f"mount -t tmpfs none {self.root / 'private'}"
            command += [f"--address={self.address}"]
            command = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
        log = Path(self.temporary) / f"{name}.log"
        self.nodes[name] = subprocess.Popen(
            command,
            env={**self.environment, **environment},
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert self.nodes[name].poll() is None, log.read_text()
            time.sleep(0.2)

    def stop(self, name: str) -> None:
        """End a node with all its processes, and no others."""
        process = self.nodes.pop(name)
        below = descendants(process.pid)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def launch(self, config: str, output: str, *options: str) -> subprocess.CompletedProcess[str]:
        arguments = ["launch", config, "--address", self.address, "--output", output, *options]
        return subprocess.run(
            [sys.executable, "-c", CODE, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )


class Process(NamedTuple):
    pid: int
    parent: int


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, now."""
    processes = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        processes.append(Process(int(stat.parent.name), int(text.rpartition(")")[2].split()[1])))
    found = [pid]
    for each in found:
        found += [process.pid for process in processes if process.parent == each]
    return found[1:]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not may_unshare():
        pytest.skip("a mount namespace of one's own is not permitted here")
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start("head")
        cluster.start("second")
        yield cluster
    finally:
        for name in reversed(list(cluster.nodes)):
            cluster.stop(name)
        shutil.rmtree(cluster.temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def config(cluster: Cluster) -> str:
    return write_config(
        cluster.root / "c.yaml", search={"sampler": "random", "trials": 2, "seed": 3}
    )


def assert_refused(done: subprocess.CompletedProcess[str], output: Path) -> None:
    """One line and exit code 2, before there is a sweep or a run."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert not output.exists()
    assert not (output.parent / "mlflow.db").exists()


def test_nodes_that_cannot_take_part_are_named(
    cluster: Cluster, config: str, tmp_path: Path
) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "__init__.py").write_text(NO_PACKAGE)
    cluster.start("bare", PYTHONPATH=str(tmp_path))
    try:
        done = cluster.launch(config, "private/a")
    finally:
        cluster.stop("bare")
    output = cluster.root / "private" / "a"
    assert_refused(done, output)
    assert "node head" not in done.stderr
    for words in (
        "node second (",
        f"cannot see {output} as this machine does",
        "give --output a folder on a file system that all nodes share",
        "node bare (",
        "cannot import rdsweep's packages (ModuleNotFoundError: No module named 'sweep')",
        "install rdsweep there",
    ):
        assert words in done.stderr


def test_a_trial_larger_than_every_node_is_refused(cluster: Cluster, config: str) -> None:
    done = cluster.launch(config, "shared/large", "--set", "resources.cpu=2")
    assert_refused(done, cluster.root / "shared" / "large")
    assert "resources.cpu is 2" in done.stderr
    assert "second (" in done.stderr


def times_of(spool: Path) -> tuple[int, int]:
    records: list[dict[str, Any]] = [json.loads(line) for line in spool.read_text().splitlines()]
    return records[0]["timestamp_ms"], records[-1]["timestamp_ms"]


def test_a_folder_that_all_nodes_share_will_do(cluster: Cluster, config: str) -> None:
    done = cluster.launch(config, "shared/a", "--set", "trial.epochs=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 complete, 0 failed" in done.stdout
    sweep = cluster.root / "shared" / "a"
    assert not [path for path in sweep.iterdir() if path.name.startswith(".")]
    info = json.loads((sweep / "sweep.json").read_text())
    runs = MlflowClient(info["tracking_uri"]).search_runs([info["experiment_id"]])
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert run.data.params["width"] == "8"
        if run.data.tags["role"] == "trial":
            assert {"best/bpp", "test/bpp"} <= set(run.data.metrics)
            assert run.data.tags["model_uri"]
    assert "1" in (cluster.root / "threads").read_text().splitlines()
    # A node has one CPU: of trials that ran at the same time, each had its own.
    times = sorted(times_of(path) for path in (sweep / "spool").glob("t*.jsonl"))
    assert any(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))
    assert len(study_of(sweep)) == 2
