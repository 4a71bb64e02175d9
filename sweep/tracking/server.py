"""rdsweep ui: an MLflow server for the store of a sweep, and the link to it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from rich.console import Console

from analysis.store.sweeps import find_sweep, store_uri
from rdmodels.errors import ConfigError
from rdmodels.results.sweep import ARTIFACTS, SWEEP_FILE, SweepInfo, read_info

START_SECONDS = 90.0
STOP_SECONDS = 10.0


def newest_sweep(root: Path) -> str:
    """The directory of the sweep that was launched last.

    Raises:
        ConfigError: if there is none.
    """
    files = sorted(root.glob(f"*/{SWEEP_FILE}"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise ConfigError(f"no sweep under {root}: launch one, or name its directory")
    return str(files[-1].parent)


def print_links(console: Console, base: str, info: SweepInfo) -> None:
    """The addresses of a sweep and of its trials in MLflow's UI, in its machine-learning mode."""
    experiment = f"{base}/#/experiments/{info.experiment_id}/runs"
    trials = {
        "workflowType": "machine_learning",
        "searchFilter": f"tags.sweep_id = '{info.sweep_id}' AND tags.role = 'trial'",
    }
    query = urllib.parse.urlencode(trials, quote_via=urllib.parse.quote)
    sweep = f"{experiment}/{info.parent_run_id}?workflowType=machine_learning"
    console.print(f"Sweep:  {sweep}", soft_wrap=True, highlight=False)
    console.print(f"Trials: {experiment}?{query}", soft_wrap=True, highlight=False)


def serve(sweep: str, root: Path, host: str, port: int, console: Console) -> None:
    """Serve until interrupted; a sweep on a remote server only has its link printed.

    Raises:
        ConfigError: if the port is taken or the server does not start.
    """
    directory = find_sweep(sweep, root)
    info = read_info(directory)
    uri = store_uri(directory, info)
    if not uri.startswith("sqlite:"):
        print_links(console, uri.rstrip("/"), info)
        return
    check_port(host, port)
    server = start_server(uri, host, port)
    # Without this a plain `kill`, or the terminal's end, would leave the server behind.
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.default_int_handler)
    try:
        base = f"http://{host}:{port}"
        with console.status("Starting MLflow …"):
            wait_until_healthy(base, server)
        print_links(console, base, info)
        console.print("Ctrl-C to stop")
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        stop_server(server)


def check_port(host: str, port: int) -> None:
    """Raise ConfigError if something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"--port {port} on {host} cannot be used ({error.strerror}): choose another"
            ) from error


def start_server(tracking_uri: str, host: str, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server process of one worker, which is enough for one user and fast to start."""
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    artifacts = Path(tracking_uri.removeprefix("sqlite:///")).parent / ARTIFACTS
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--backend-store-uri", tracking_uri]
    command += ["--default-artifact-root", artifacts.as_uri()]
    command += ["--host", host, "--port", str(port)]
    # A session of its own, so that its workers can be ended with it.
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers; one that still waits for its clients is killed."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=STOP_SECONDS)


def wait_until_healthy(base: str, server: subprocess.Popen[bytes]) -> None:
    """Block until the server answers.

    Raises:
        ConfigError: if it ends, or takes longer than `START_SECONDS`.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigError(f"mlflow server ended with exit code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError(f"mlflow server did not answer within {START_SECONDS:.0f} s")
