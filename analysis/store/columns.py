"""Columns of a sweep's trials, named after what the trials logged."""

from rdmodels.results.sweep import SweepInfo
from rdmodels.results.trial import metric_keys

FIGURES = tuple(key.removeprefix("test/") for key in metric_keys() if key.startswith("test/"))
"""Names of the figures that a complete trial has on validation and on test images."""


def trial_columns(info: SweepInfo) -> list[str]:
    """Columns of a sweep's trials, in order.

    training_share: of the trial's time, that of training steps. collapsed: what is wrong with its
    codec, missing where nothing is. `val_*` are the figures of a complete trial's best checkpoint
    on validation images; of any other trial, those of its latest epoch. `test_*` are the best
    checkpoint's on test images.
    """
    return [
        *("trial_id", "run_id", "status"),
        *info.fields,
        *("epochs_done", "train_seconds", "training_share"),
        *(f"{split}_{name}" for split in ("val", "test") for name in FIGURES),
        *("collapsed", "error"),
    ]
