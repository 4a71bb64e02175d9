"""The one seam between the platform and the codec: `run_trial`, and how Ray runs it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rdmodels import checkpoint
from rdmodels.coding.integer_context import INTEGER_CONTEXT
from rdmodels.config import TrialConfig, override
from rdmodels.data.splits import Splits
from rdmodels.errors import ConfigError
from rdmodels.model.storage import load_codec
from rdmodels.results.images import TEST_IMAGES, VALIDATION_IMAGES
from rdmodels.results.quality import quality_of
from rdmodels.results.sweep import TRIALS
from rdmodels.results.trial import EpochRecord, Metrics, TrialResult
from rdmodels.training.finish import finish
from rdmodels.training.fit import fit
from rdmodels.training.reconstructions import write_reconstructions
from rdmodels.training.target import DEFAULT_H_TARGET
from sweep.tracking.spool import Spool

RECONSTRUCTIONS = "reconstructions.png"


def run_trial(
    config: TrialConfig,
    splits: Splits,
    directory: Path,
    on_epoch: Callable[[EpochRecord], None],
    *,
    device: str = "cpu",
    resume: bool = False,
) -> TrialResult:
    """Train one trial in `directory`, calling `on_epoch` after each epoch; its final figures.

    The directory ends up with the model, the last checkpoint and sample reconstructions of test
    images. Whatever `on_epoch` raises ends the trial.

    Raises:
        NonFiniteLossError, EvaluationError, ConfigError: as `rdmodels.training.fit.fit`.
    """
    for record in fit(config, splits, directory, device=device, resume=resume):
        on_epoch(record)
    result = finish(directory, splits, device=device)
    codec, _ = load_codec(directory, device)
    write_reconstructions(directory / RECONSTRUCTIONS, codec, splits.test)
    return result


def run_trial_on_ray(
    params: Mapping[str, Any],
    *,
    base: TrialConfig,
    splits: Splits,
    sweep: Path,
    device: str,
    threads: int,
) -> None:
    """One trial as Ray runs it: `run_trial` with its spool and Ray's own report.

    What it raises, Ray hands to the launching process, which writes it down.
    """
    torch.set_num_threads(threads)
    trial_id: str = params["trial_id"]
    spool = Spool(sweep, trial_id)
    directory = sweep / TRIALS / trial_id
    write_start(spool, trial_id, base, params["overrides"])
    try:
        config = override(base, params["overrides"])

        def on_epoch(record: EpochRecord) -> None:
            spool.metrics(record.metrics(), record.epoch)
            val = record.val
            bpp = {} if val is None else {"bpp_estimated": val.bpp_estimated}
            tune.report({"epoch": record.epoch, **bpp})

        result = run_trial(config, splits, directory, on_epoch, device=device)
        spool.metrics(result.metrics())
        if result.collapsed is not None:
            spool.tags({"collapsed": result.collapsed})
        spool.artifact(directory / RECONSTRUCTIONS)
        spool.image(directory / RECONSTRUCTIONS, "reconstructions")
        spool.artifact(directory / VALIDATION_IMAGES)
        spool.artifact(directory / TEST_IMAGES)
        spool.model(directory, [checkpoint.MODEL, INTEGER_CONTEXT, checkpoint.CONFIG])
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
    tune.report(
        {
            "final": True,
            "epoch": result.epochs,
            "bpp": result.best.bpp,
            "distortion": objective(result.best, config.distortion),
            "quality": quality(result.best, config.distortion),
            "collapsed": result.collapsed,
        }
    )


def write_start(
    spool: Spool, trial_id: str, base: TrialConfig, overrides: Mapping[str, Any]
) -> None:
    """The record that a trial begins with: its name and all its parameters."""
    shown = " ".join(f"{key}={_short(value)}" for key, value in overrides.items())
    try:
        params = _params(override(base, overrides))
    except ConfigError:
        # The trial is about to fail for it; what was asked of it is told all the same.
        params = {**base.model_dump(), **overrides}
    spool.start(f"{trial_id} {shown}", params, {"status": "running"})


def _params(config: TrialConfig) -> dict[str, Any]:
    """All fields of a trial; its target too where it has the default."""
    params = config.model_dump()
    if config.h_target is None and config.target_bpp is None:
        params["h_target"] = DEFAULT_H_TARGET
    return params


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def quality(metrics: Metrics, distortion: str) -> float | None:
    """What the frontier maximises, in dB: of PSNR or of MS-SSIM."""
    value: float | None = getattr(metrics, quality_of(distortion).name)
    return value


def objective(metrics: Metrics, distortion: str) -> float:
    """The distortion that the search minimises: MSE on [0, 1], or 1 - MS-SSIM."""
    if distortion == "ms_ssim":
        assert metrics.ms_ssim is not None
        return 1.0 - metrics.ms_ssim
    return metrics.mse
