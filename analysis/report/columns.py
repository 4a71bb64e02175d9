"""Which columns a report's files and tables have."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.report.formats import SPLITS, records, shares_streams, split_column
from analysis.store.columns import FIGURES
from rdmodels.results.quality import quality_of
from rdmodels.results.sweep import SEARCHED

if TYPE_CHECKING:
    from analysis.store.runs import Sweep

FRONTIER_FIGURES = ("val_bpp", "val_psnr_db", "test_bpp", "test_psnr_db")
OTHER_RATES = ("bpp_standalone", "bpp_estimated")
TRIAL_COLUMNS = ("status", "epochs_done", "train_seconds", "training_share", "collapsed")
NOT_IN_TABLES = (
    *("mse", "bits_per_symbol_estimated", "loss"),
    *("importance", "centers_used", "symbol_entropy"),
)
"""Figures left to the hover texts and the JSON file."""


def csv_columns(sweep: "Sweep") -> list[str]:
    """Columns of `frontier.csv`.

    Fixed ones (beta, num_latent_channels and the target rate among them), other searched fields,
    what is maximised, the stand-alone and the estimated rates, the rate over its target.
    """
    own = quality_of(sweep.info.distortion).name
    names = (own, *OTHER_RATES, "rate_over_target")
    more = [f"{split}_{name}" for name in names for split in SPLITS]
    usual, others = sweep.info.fields[: len(SEARCHED)], sweep.info.fields[len(SEARCHED) :]
    fixed = ["trial_id", "run_id", *usual, *FRONTIER_FIGURES]
    return list(dict.fromkeys([*fixed, *others, *more]))


def differing_fields(models: pd.DataFrame) -> list[str]:
    """Settings that differ between models, a row each; beta, num_latent_channels, h_target first.

    A setting is any column but `model` and the figures.
    """
    settings = [name for name in map(str, models) if split_column(name)[0] is None]
    differing = [
        name for name in settings if name != "model" and models[name].astype(str).nunique() > 1
    ]
    usual = [name for name in SEARCHED if name in differing]
    return list(dict.fromkeys([*usual, *differing]))


def short_columns(sweep: "Sweep", members: pd.DataFrame) -> list[str]:
    """Columns of a table of frontier `members` that has to be narrow.

    Of the fields it has those that were searched; beta, num_latent_channels and h_target first.
    """
    info = sweep.info
    names = short_figures(members, info.distortion)
    searched = [name for name in info.fields if name in info.space]
    return ["trial_id", *searched, *(f"{split}_{name}" for split in SPLITS for name in names)]


def short_figures(frame: pd.DataFrame, *distortions: str) -> list[str]:
    """Rates and qualities of a narrow table; the stand-alone rate only if it is another one."""
    rates = ["bpp", "bpp_standalone"] if shares_streams(records(frame)) else ["bpp"]
    own = [quality_of(distortion).name for distortion in sorted(distortions)]
    return list(dict.fromkeys([*rates, "psnr_db", *own]))


def table_figures(frame: pd.DataFrame) -> list[str]:
    """Columns of figures that a table of the page has: those with a value in some row."""
    names = _names(records(frame))
    columns = [f"{split}_{name}" for split in SPLITS for name in names]
    return [name for name in columns if name in frame and frame[name].notna().any()]


def caption_figures(row: Mapping[str, Any]) -> list[str]:
    """Names of the figures in the caption of a picture of `row`."""
    return _names([row])


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stand-alone rate is left out where it says the same as the rate."""
    left_out = NOT_IN_TABLES if shares_streams(rows) else (*NOT_IN_TABLES, "bpp_standalone")
    return [name for name in FIGURES if name not in left_out]
