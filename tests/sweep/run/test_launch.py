"""Whole sweeps: a real Ray, a real Optuna study, a real MLflow store, from the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from analysis.store.runs import read_sweep
from sweep.tracking.server import check_port
from tests.sweep.cli.test_cli import CODE, ROOT, rdsweep
from tests.sweep.tracking.test_tracking import free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]

TINY = {
    "name": "tiny",
    "trial": {
        "width": 8,
        "groups": 1,
        "context_features": 6,
        "epochs": 2,
        "train_images": 120,
        "test_images": 20,
        "num_latent_channels": 4,
    },
    "space": {
        "beta": {"low": 0.001, "high": 0.1, "log": True},
        "h_target": {"low": 0.1, "high": 2.0, "log": True},
    },
    "search": {"sampler": "tpe", "trials": 4, "seed": 3},
    "resources": {"cpu": 1, "gpu": 0, "concurrent": 2},
}


def write_config(path: Path, **sections: object) -> str:
    path.write_text(yaml.safe_dump({**TINY, **sections}))
    return str(path)


def study_of(sweep: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(sweep / "study.journal")))
    return optuna.load_study(study_name=None, storage=storage).trials


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in which the trials of one of two learning rates fail, with its report."""
    root = tmp_path_factory.mktemp("mixed")
    space = {**TINY["space"], "learning_rate": [1e-3, 1e30]}  # type: ignore[dict-item]
    search = {"sampler": "grid"}
    points = {name: {**space[name], "points": 2} for name in ("beta", "h_target")}
    points["h_target"] = [1.0]  # type: ignore[assignment]
    # Such short trainings stay below the usual corner.
    corner = {"bpp": 4.0, "psnr_db": 0.0}
    config = write_config(
        root / "c.yaml", space={**space, **points}, search=search, hypervolume_reference=corner
    )
    done = rdsweep("launch", config, "--output", "sweeps/mixed", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "2 complete, 2 failed" in done.stdout
    assert "4/4 t000" in done.stdout
    assert "NonFiniteLossError" in done.stderr
    # A report that cannot be stored is logged, and fails nothing.
    assert "ERROR" not in done.stderr
    done = rdsweep("report", "sweeps/mixed", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "rdsweep ui sweeps/mixed" in done.stdout
    return root / "sweeps" / "mixed"


def test_a_failing_trial_does_not_take_the_sweep_with_it(mixed: Path) -> None:
    states = sorted(trial.state.name for trial in study_of(mixed))
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "FAIL"]


def test_the_store_has_a_parent_and_a_child_for_every_trial(mixed: Path) -> None:
    info = json.loads((mixed / "sweep.json").read_text())
    assert info["tracking_uri"] == f"sqlite:///{mixed.parent / 'mlflow.db'}"
    client = MlflowClient(info["tracking_uri"])
    parent = client.get_run(info["parent_run_id"])
    assert parent.data.tags["role"] == "sweep"
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials/failed"] == 2
    children = client.search_runs(
        [info["experiment_id"]], f"tags.`mlflow.parentRunId` = '{info['parent_run_id']}'"
    )
    assert sorted(run.data.tags["status"] for run in children) == ["complete"] * 2 + ["failed"] * 2
    for run in children:
        assert run.data.params["width"] == "8"
        assert float(run.data.params["beta"]) in {0.001, 0.1}
        if run.data.tags["status"] == "complete":
            steps = client.get_metric_history(run.info.run_id, "val/bpp_estimated")
            assert [metric.step for metric in steps] == [0, 1]
            assert {"best/bpp", "test/bpp", "test/psnr_db"} <= set(run.data.metrics)
            assert run.data.tags["model_uri"].startswith("models:/")
        else:
            assert run.info.status == "FAILED"
            assert "NonFiniteLossError" in run.data.tags["error"]


def test_the_report_has_its_files_and_columns(mixed: Path) -> None:
    report = mixed / "report"
    frontier, trials = read_csv(report / "frontier.csv"), read_csv(report / "trials.csv")
    assert list(frontier[0])[:5] == [
        "trial_id",
        "run_id",
        "beta",
        "num_latent_channels",
        "h_target",
    ]
    for split in ("val", "test"):
        names = ("bpp", "bpp_standalone", "bpp_estimated", "psnr_db")
        assert {f"{split}_{name}" for name in names} <= set(frontier[0])
    # Two epochs are too few for a context model, and so it is said.
    collapsed = {row["trial_id"]: row["collapsed"] for row in trials}
    assert {trial for trial, text in collapsed.items() if "stale" in text} == {"t0000", "t0002"}
    for row in frontier:
        # Thirty-two pixels a side: the images share a stream.
        assert float(row["test_bpp_standalone"]) > 1.2 * float(row["test_bpp"])
    assert {"status", "epochs_done", "train_seconds"} <= set(trials[0])
    rates = [float(row["val_bpp"]) for row in frontier]
    assert rates == sorted(rates)
    assert len(trials) == 4
    data = json.loads((report / "frontier.json").read_text())
    assert json.dumps(data).count('"bpp": 4.0') == 1
    assert data["hypervolume"] > 0
    assert "<html" in (report / "report.html").read_text()


def test_the_whole_folder_can_be_moved(mixed: Path, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "elsewhere"
    shutil.copytree(mixed.parent, moved)
    stored = json.loads((moved / "mixed" / "sweep.json").read_text())
    stored["tracking_uri"] = "sqlite:////nowhere/mlflow.db"
    (moved / "mixed" / "sweep.json").write_text(json.dumps(stored))
    assert len(read_sweep(moved / "mixed").trials) == 4


def test_a_sweep_is_found_by_its_id(mixed: Path) -> None:
    sweep_id = json.loads((mixed / "sweep.json").read_text())["sweep_id"]
    done = rdsweep("report", sweep_id, "-o", "by-id", cwd=mixed.parents[1])
    assert done.returncode == 0, done.stderr
    assert (mixed.parents[1] / "by-id" / "frontier.csv").exists()


def test_a_second_launch_into_the_same_directory_is_refused(mixed: Path) -> None:
    config = str(mixed.parents[1] / "c.yaml")
    done = rdsweep("launch", config, "--output", str(mixed), cwd=mixed.parents[1])
    assert done.returncode == 2
    assert "holds a sweep already" in done.stderr


def test_every_model_of_a_sweep_can_be_evaluated(mixed: Path) -> None:
    done = rdsweep("evaluate", str(mixed / "trials"), cwd=mixed.parents[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("t000") >= 2


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_serves_the_store_and_prints_links_that_find_the_trials(
    mixed: Path, stop: signal.Signals
) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "ui", "sweeps/mixed", "--port", str(port)],
        cwd=mixed.parents[1],
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    links = [process.stdout.readline(), process.stdout.readline()]
    base = f"http://127.0.0.1:{port}"
    for link in links:
        assert link.split()[1].startswith(f"{base}/#/experiments/")
        assert "workflowType=machine_learning" in link
    query = urllib.parse.parse_qs(links[1].split("?")[1])["searchFilter"][0].strip()
    experiment = json.loads((mixed / "sweep.json").read_text())["experiment_id"]
    assert len(MlflowClient(base).search_runs([experiment], query)) == 4
    process.send_signal(stop)
    process.wait(timeout=60)
    check_port("127.0.0.1", port)


@pytest.mark.slow
def test_one_seed_one_at_a_time_is_the_same_sweep_twice(tmp_path: Path) -> None:
    one = {**TINY["resources"], "concurrent": 1}  # type: ignore[dict-item]
    config = write_config(tmp_path / "c.yaml", resources=one)
    tables = []
    for name in ("a", "b"):
        done = rdsweep("launch", config, "--output", f"sweeps/{name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done = rdsweep("report", f"sweeps/{name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = read_csv(tmp_path / "sweeps" / name / "report" / "trials.csv")
        tables.append(
            [
                {
                    k: v
                    for k, v in row.items()
                    if k not in ("run_id", "train_seconds", "training_share")
                }
                for row in rows
            ]
        )
    assert len(tables[0]) == 4
    assert tables[0] == tables[1]


def assert_everything_is_closed(sweep: Path) -> dict[str, int]:
    states = [trial.state for trial in study_of(sweep)]
    assert TrialState.RUNNING not in states
    info = json.loads((sweep / "sweep.json").read_text())
    runs = MlflowClient(info["tracking_uri"]).search_runs([info["experiment_id"]])
    assert all(run.info.status != "RUNNING" for run in runs)
    statuses = [run.data.tags["status"] for run in runs if run.data.tags["role"] == "trial"]
    assert statuses.count("complete") == states.count(TrialState.COMPLETE)
    return {status: statuses.count(status) for status in set(statuses)}


LONG = {**TINY["trial"], "epochs": 1000}  # type: ignore[dict-item]


def test_a_time_budget_closes_everything(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 50, "time_budget_s": 10}
    config = write_config(tmp_path / "c.yaml", trial=LONG, search=search)
    done = rdsweep("launch", config, "--output", "sweeps/a", cwd=tmp_path)
    assert done.returncode == 1
    assert "2 stopped, 48 not started" in done.stdout
    statuses = assert_everything_is_closed(tmp_path / "sweeps" / "a")
    assert statuses == {"stopped": 2}
    # A sweep without a complete trial still has a report that says so.
    done = rdsweep("report", "sweeps/a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_interrupt_closes_everything(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", trial=LONG, search={**TINY["search"], "trials": 9})  # type: ignore[dict-item]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "launch", config, "--output", "sweeps/a"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    spools = tmp_path / "sweeps" / "a" / "spool"
    while time.monotonic() < deadline and not list(spools.glob("t*.jsonl")):
        time.sleep(0.5)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "stopped" in out, err
    assert_everything_is_closed(tmp_path / "sweeps" / "a")


DYING = """
import importlib.abc, os, signal, sys

class Dying(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "sweep.run.trial":
            try:
                with open(os.environ["DIED"], "x") as file:
                    file.write(os.environ.get("OMP_NUM_THREADS", "not told"))
            except FileExistsError:
                return None
            os.kill(os.getpid(), signal.SIGKILL)

if any("default_worker" in argument for argument in sys.orig_argv):
    sys.meta_path.insert(0, Dying())
"""


def test_a_trial_whose_process_dies_before_its_first_word_is_told_with_the_reason(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DYING)
    config = write_config(tmp_path / "c.yaml", search={"sampler": "random", "trials": 3})
    environment = {name: value for name, value in os.environ.items() if "OMP_" not in name}
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", CODE, "launch", config, "--output", "sweeps/a"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": path, "DIED": str(tmp_path / "died")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "2 complete, 1 failed" in done.stdout
    # Before torch was imported there, which comes with the trial.
    assert (tmp_path / "died").read_text() == "1"
    assert "ActorDiedError: The actor is dead because its worker process has died" in done.stderr
    sweep = tmp_path / "sweeps" / "a"
    (failed,) = (t for t in study_of(sweep) if t.state is TrialState.FAIL)
    assert "worker process has died" in failed.user_attrs["reason"]
    assert assert_everything_is_closed(sweep) == {"complete": 2, "failed": 1}
    info = json.loads((sweep / "sweep.json").read_text())
    runs = MlflowClient(info["tracking_uri"]).search_runs(
        [info["experiment_id"]], f"tags.trial_id = '{failed.user_attrs['trial_id']}'"
    )
    assert runs[0].data.params["beta"] == str(failed.params["beta"])
    assert runs[0].data.params["width"] == "8"
    assert runs[0].data.tags["error"] == failed.user_attrs["reason"]
    assert " beta=" in runs[0].info.run_name
