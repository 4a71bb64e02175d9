"""A sweep's directory and tracking store as a launch leaves them, made through MlflowClient."""

import io
import json
import math
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from PIL import Image

from rdmodels.results.sweep import SweepInfo
from rdmodels.results.trial import WRITTEN, metric_keys

SWEEP_ID = "demo-1a2b3c"
NASTY = '<script>alert("x")</script> & <b>CUDA out of memory</b>'


@dataclass
class Trial:
    """What one trial logs.

    val: figures of every epoch, less those of written streams. best, test: the final ones, which
    only a complete trial has.
    """

    status: str = "complete"
    params: Mapping[str, Any] = field(default_factory=dict)
    val: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] | None = None
    test: Mapping[str, float] | None = None
    epochs: int = 3
    error: str | None = None
    collapsed: str | None = None
    picture: bool = True


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 128), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def figures(bpp: float, psnr_db: float | None) -> dict[str, float]:
    """Figures of images that have a stream each; the estimate is a little lower than the bytes."""
    found = {"bpp": bpp, "bpp_standalone": bpp, "bpp_estimated": estimate(bpp)}
    found |= {"bits_per_symbol_estimated": 1.5, "mse": 0.01, "ssim": 0.9, "loss": 1.0}
    return found if psnr_db is None else found | {"psnr_db": psnr_db}


def estimate(bpp: float) -> float:
    return 0.9 * bpp


def curve(rate: float) -> float:
    """A plausible PSNR in dB at a rate in bpp."""
    return 30.0 + 8.0 * math.log10(rate)


def demo_trials(count: int = 24) -> list[Trial]:
    """Complete trials on and below a curve, then one of each other status."""
    rng = np.random.default_rng(7)
    trials = []
    for _ in range(count):
        params = {
            "beta": float(10 ** rng.uniform(-3, -1)),
            "num_latent_channels": int(rng.choice([8, 16, 32, 64])),
            "h_target": float(rng.uniform(0.2, 2.0)),
            "normalisation": str(rng.choice(["group", "batch"])),
        }
        rate = 0.05 + params["h_target"] * params["num_latent_channels"] / 64
        quality = curve(rate) - float(rng.exponential(0.8))
        best = figures(rate, quality)
        test = figures(rate * 1.03, quality - 0.2)
        trials.append(Trial(params=params, val=best, best=best, test=test))
    params = {
        "beta": 0.01,
        "num_latent_channels": 16,
        "h_target": 1.0,
        "normalisation": "group",
    }
    late = figures(0.4, 19.0)
    trials += [
        Trial("pruned", params, late, epochs=1),
        Trial("stopped", params, figures(0.5, None), epochs=2),
        Trial("failed", params, epochs=0, error=NASTY),
        Trial("running", params, late, epochs=1),
    ]
    return trials


@cache
def empty_store() -> bytes:
    """A store without experiments: MLflow takes seconds to make one."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments()
        with closing(sqlite3.connect(f"{folder}/mlflow.db")) as database:
            database.execute("VACUUM INTO ?", (f"{folder}/copy.db",))
        return Path(folder, "copy.db").read_bytes()


def build_sweep(
    root: Path,
    trials: Sequence[Trial],
    *,
    name: str = "demo",
    sweep_id: str = SWEEP_ID,
    space: Sequence[str] = ("beta", "num_latent_channels", "h_target", "normalisation"),
    distortion: str = "mse",
) -> Path:
    """A sweep under `root`, with its store beside it. Returns the sweep's directory."""
    root.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{root.resolve()}/mlflow.db"
    if not (root / "mlflow.db").exists():
        (root / "mlflow.db").write_bytes(empty_store())
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name("rdsweep")
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment("rdsweep", artifact_location=str(root / "artifacts"))
    )
    parent = client.create_run(
        experiment, start_time=1_000, tags={"role": "sweep", "sweep_id": sweep_id}
    )
    directory = root / name
    for index, trial in enumerate(trials):
        log_trial(client, experiment, parent.info.run_id, sweep_id, directory, index, trial)
    client.set_tag(parent.info.run_id, "status", "complete")
    client.set_terminated(parent.info.run_id, end_time=126_000)
    info = {
        "version": 2,
        "sweep_id": sweep_id,
        "name": name,
        "tracking_uri": uri,
        "experiment_id": experiment,
        "parent_run_id": parent.info.run_id,
        "space": list(space),
        "distortion": distortion,
        "hypervolume_reference": {
            "bpp": 4.0,
            "ms_ssim_db" if distortion == "ms_ssim" else "psnr_db": 10.0,
        },
        "data": {
            split: {"images": images, "sha256": f"{images:064x}"}
            for split, images in (("train", 1_078), ("validation", 359), ("test", 360))
        },
        "created": "2026-05-04T03:02:01+00:00",
        "config": {"name": name, "trial": {"dataset": "digits"}},
    }
    SweepInfo.model_validate(info)
    directory.mkdir(exist_ok=True)
    (directory / "sweep.json").write_text(json.dumps(info))
    return directory


def log_trial(
    client: MlflowClient,
    experiment: str,
    parent: str,
    sweep_id: str,
    directory: Path,
    index: int,
    trial: Trial,
) -> str:
    trial_id = f"t{index:04d}"
    tags = {
        "role": "trial",
        "status": trial.status,
        "sweep_id": sweep_id,
        "trial_id": trial_id,
        "mlflow.parentRunId": parent,
    }
    if trial.error is not None:
        tags["error"] = trial.error
    if trial.collapsed is not None:
        tags["collapsed"] = trial.collapsed
    run_id = client.create_run(experiment, tags=tags, start_time=2_000 + index).info.run_id
    metrics = [
        Metric(f"val/{key}", value if epoch == trial.epochs - 1 else 99.0, 5_000 + epoch, epoch)
        for epoch in range(trial.epochs)
        for key, value in trial.val.items()
        if key not in WRITTEN
    ]
    if trial.status == "complete":
        for split, values in (("best", trial.best), ("test", trial.test)):
            metrics += [
                Metric(f"{split}/{key}", value, 9_000, 0) for key, value in (values or {}).items()
            ]
        metrics.append(Metric("train/seconds", 12.5, 9_000, 0))
        metrics.append(Metric("seconds/training", 12.0, 9_000, 0))
        metrics.append(Metric("seconds/coding", 3.0, 9_000, 0))
        folder = directory / "trials" / trial_id
        folder.mkdir(parents=True)
        if trial.picture:
            (folder / "reconstructions.png").write_bytes(png(index))
            client.log_artifact(run_id, str(folder / "reconstructions.png"))
    assert {metric.key for metric in metrics} <= set(metric_keys())
    params = {"dataset": "digits", "epochs": 3, **trial.params}
    client.log_batch(
        run_id, metrics=metrics, params=[Param(key, str(value)) for key, value in params.items()]
    )
    end = {"failed": "FAILED", "stopped": "KILLED", "running": None}.get(trial.status, "FINISHED")
    if end:
        client.set_terminated(run_id, end)
    return run_id


def client_of(directory: Path) -> tuple[MlflowClient, dict[str, Any]]:
    info = json.loads((directory / "sweep.json").read_text())
    uri = info["tracking_uri"]
    return MlflowClient(tracking_uri=uri, registry_uri=uri), info


def rewrite(directory: Path, **values: object) -> None:
    """Change keys of a sweep's description."""
    file = directory / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def set_tags(client: MlflowClient, run_id: str, **tags: str) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
