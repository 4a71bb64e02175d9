"""The Pareto set of a sweep and its hypervolume, in the plane of rate and quality in dB.

Rate is minimised and quality maximised. Quality is PSNR for a sweep that trains on MSE. For one
that trains on MS-SSIM it is MS-SSIM in dB, -10 log10(1 - MS-SSIM) of the mean over images: on the
linear scale all good codecs crowd below 1. Non-dominated sorting and hypervolume are moocore's.

A launch asks for the hypervolume after every trial, so this module loads neither pandas nor torch.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import moocore
import numpy as np
from numpy.typing import NDArray

from rdmodels.results.quality import quality_db, quality_of, reference_point

if TYPE_CHECKING:
    import pandas as pd

MAXIMISE = [False, True]
"""Rate is to be low, quality high."""


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


def hypervolume(
    points: Iterable[tuple[float | None, float | None]],
    reference: Mapping[str, float],
    distortion: str = "mse",
) -> float:
    """Area between the frontier of the points and the fixed reference, in bpp x dB.

    A point is (bpp, quality), quality being PSNR in dB or, for `ms_ssim`, MS-SSIM, which is turned
    into dB here; `reference` is what `reference_point` takes. A point that is not better than the
    reference in both contributes nothing, and neither does one with a missing value. No points:
    0.0.
    """
    corner = reference_point(reference, distortion)
    in_db = [(rate, quality_db(quality, distortion)) for rate, quality in points]
    known = [(r, q) for r, q in in_db if r is not None and q is not None and math.isfinite(r + q)]
    if not known:
        return 0.0
    return float(moocore.hypervolume(np.array(known), ref=list(corner), maximise=MAXIMISE))
