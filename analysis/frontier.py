"""The Pareto set of a sweep and its hypervolume, in the plane of rate and quality in dB.

Rate, in bytes written, is minimised; quality is maximised. Quality is PSNR for a sweep that trains
on MSE, MS-SSIM in dB for one that trains on MS-SSIM: on the linear scale all good codecs crowd
below 1. Non-dominated sorting and hypervolume are moocore's.

A launch asks for the hypervolume after every trial, so this module loads neither pandas nor torch.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import moocore
import numpy as np
from numpy.typing import NDArray

from rdmodels.results.quality import Corner, quality_of

if TYPE_CHECKING:
    import pandas as pd

MAXIMISE = [False, True]
"""Rate is to be low, quality high."""
HYPERVOLUME_UNIT = "log2(bpp) × dB"


def pareto_mask(points: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which of the (rate, quality) points no other point dominates: (N, 2) -> (N,).

    Of identical points the first is kept. All values must be finite.
    """
    array = np.array([(rate, quality) for rate, quality in points], dtype=np.float64)
    assert np.isfinite(array).all(), "a point with a missing value has no place in the plane"
    mask: NDArray[np.bool_] = moocore.is_nondominated(array.reshape(-1, 2), maximise=MAXIMISE)
    return mask


def trial_order(trial_id: str) -> tuple[int, str]:
    """Sort key of trial ids: t9999 comes before t10000."""
    return len(trial_id), trial_id


def frontier(trials: "pd.DataFrame", distortion: str) -> "pd.DataFrame":
    """The rows of `trials` on the validation frontier, ascending in `val_bpp`.

    Only complete trials with both figures take part. Of identical points the first trial is kept.
    """
    quality = f"val_{quality_of(distortion).name}"
    figures = trials[["val_bpp", quality]].astype("float64")
    present = np.isfinite(figures.to_numpy()).all(axis=1)
    complete = trials[(trials["status"] == "complete").to_numpy() & present]
    ids = complete["trial_id"].tolist()
    order = sorted(range(len(complete)), key=lambda i: trial_order(ids[i]))
    complete = complete.iloc[order]
    mask = pareto_mask(zip(complete["val_bpp"], complete[quality], strict=True))
    members: pd.DataFrame = complete[mask].sort_values("val_bpp").reset_index(drop=True)
    return members


def dominated(trials: "pd.DataFrame", members: "pd.DataFrame") -> "pd.DataFrame":
    """The complete trials that are not among the frontier's `members`."""
    off = (trials["status"] == "complete") & ~trials["trial_id"].isin(members["trial_id"])
    return trials[off]


def hypervolume(points: Iterable[tuple[float | None, float | None]], corner: Corner) -> float:
    """Area that the points dominate up to the fixed `corner`, in log2(bpp) x dB.

    A point is (bpp, quality in dB). Halving the rate counts the same at every rate: in plain bpp
    the whole low-rate half of a frontier would be worth next to nothing. A point that is not
    better than the corner in both adds nothing, and neither does one with a missing value or a
    rate of 0, which no stream with a header has. No points: 0.0.
    """
    known = [
        (math.log2(bpp), quality)
        for bpp, quality in points
        if bpp is not None and quality is not None and bpp > 0 and math.isfinite(bpp + quality)
    ]
    if not known:
        return 0.0
    reference = [math.log2(corner.bpp), corner.quality_db]
    return float(moocore.hypervolume(np.array(known), ref=reference, maximise=MAXIMISE))
