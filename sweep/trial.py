"""run_trial: the one seam between the platform and the codec."""

from collections.abc import Callable
from pathlib import Path

from rdmodels.checkpoint import load_codec
from rdmodels.config import TrialConfig
from rdmodels.data import Splits
from rdmodels.reconstructions import write_reconstructions
from rdmodels.results import EpochRecord, TrialResult
from rdmodels.training import finish, fit

RECONSTRUCTIONS = "reconstructions.png"


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
        NonFiniteLossError, EvaluationError: as `rdmodels.training.fit`.
    """
    for record in fit(config, splits, directory, device=device, resume=resume):
        report(record)
    result = finish(directory, splits, device=device)
    codec, _ = load_codec(directory, device)
    write_reconstructions(directory / RECONSTRUCTIONS, codec, splits.test)
    return result
