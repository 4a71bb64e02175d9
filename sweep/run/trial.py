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
from rdmodels.model.storage import load_codec
from rdmodels.results.quality import quality_of
from rdmodels.results.sweep import TRIALS
from rdmodels.results.trial import EpochRecord, Metrics, TrialResult
from rdmodels.training.finish import TEST_IMAGES, finish
from rdmodels.training.fit import fit
from rdmodels.training.reconstructions import write_reconstructions
from sweep.tracking.spool import Spool

RECONSTRUCTIONS = "reconstructions.png"
ERROR_LENGTH = 5000


def run_trial(
    config: TrialConfig,
    splits: Splits,
    directory: Path,
    report: Callable[[EpochRecord], None],
    *,
    device: str = "cpu",
    resume: bool = False,
) -> TrialResult:
    """Train one trial in `directory`, calling `report` after each epoch; its final figures.

    The directory ends up with the model, the last checkpoint and sample reconstructions of test
    images. Whatever `report` raises ends the trial.

    Raises:
        NonFiniteLossError, EvaluationError: as `rdmodels.training.fit.fit`.
    """
    for record in fit(config, splits, directory, device=device, resume=resume):
        report(record)
    result = finish(directory, splits, device=device)
    codec, _ = load_codec(directory, device)
    write_reconstructions(directory / RECONSTRUCTIONS, codec, splits.test)
    return result


def ray_trial(
    params: Mapping[str, Any],
    *,
    base: TrialConfig,
    splits: Splits,
    sweep: Path,
    device: str,
    threads: int,
) -> None:
    """One trial as Ray runs it: `run_trial` with its spool and Ray's own report."""
    torch.set_num_threads(threads)
    trial_id: str = params["trial_id"]
    spool = Spool(sweep, trial_id)
    directory = sweep / TRIALS / trial_id
    try:
        config = override(base, params["overrides"])
        shown = " ".join(f"{k}={_short(v)}" for k, v in params["overrides"].items())
        spool.start(f"{trial_id} {shown}", config.model_dump(), {"status": "running"})

        def report(record: EpochRecord) -> None:
            spool.metrics(record.metrics(), record.epoch)
            bpp = {} if record.val is None else {"bpp": record.val.bpp}
            tune.report({"epoch": record.epoch, **bpp})

        result = run_trial(config, splits, directory, report, device=device)
        spool.metrics(result.metrics())
        spool.artifact(directory / RECONSTRUCTIONS)
        spool.image(directory / RECONSTRUCTIONS, "reconstructions")
        spool.artifact(directory / TEST_IMAGES)
        spool.model(directory, [checkpoint.MODEL, INTEGER_CONTEXT, checkpoint.CONFIG])
        final = {
            "final": True,
            "epoch": result.epochs,
            "bpp": result.best.bpp,
            "distortion": objective(result.best, config.distortion),
            "quality": quality(result.best, config.distortion),
        }
    except Exception as error:
        spool.tags({"error": f"{type(error).__name__}: {error}"[:ERROR_LENGTH]})
        raise
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()
    tune.report(final)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def quality(metrics: Metrics, distortion: str) -> float | None:
    """What the frontier maximises: PSNR in dB, or MS-SSIM."""
    value: float | None = getattr(metrics, quality_of(distortion).name)
    return value


def objective(metrics: Metrics, distortion: str) -> float:
    """The distortion that the search minimises: MSE on [0, 1], or 1 - MS-SSIM."""
    if distortion == "ms_ssim":
        assert metrics.ms_ssim is not None
        return 1.0 - metrics.ms_ssim
    return metrics.mse
