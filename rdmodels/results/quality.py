"""What a sweep maximises, and the corner its hypervolume is measured from.

A launch asks after every trial, so this module loads neither pandas nor torch.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Quality(NamedTuple):
    """A sweep's measure of quality: its figure, the figure in dB, and how an axis says it."""

    name: str
    name_db: str
    label: str


QUALITIES = {
    "mse": Quality("psnr_db", "psnr_db", "PSNR, dB"),
    "ms_ssim": Quality("ms_ssim", "ms_ssim_db", "MS-SSIM, dB"),
}


def quality_of(distortion: str) -> Quality:
    """What a sweep that trains on `distortion` maximises.

    Raises:
        ValueError: if there is no such distortion.
    """
    if distortion not in QUALITIES:
        raise ValueError(f"distortion must be one of {', '.join(QUALITIES)}, got {distortion!r}")
    return QUALITIES[distortion]


def quality_db(value: float | None, distortion: str) -> float | None:
    """The quality figure that `distortion` goes with, in dB; None if it is missing or infinite."""
    if value is None or math.isnan(value):
        return None
    if quality_of(distortion).name == "psnr_db":
        return value
    from rdmodels.metrics import ms_ssim_db

    return ms_ssim_db(value)


def reference_point(reference: Mapping[str, float], distortion: str) -> tuple[float, float]:
    """The hypervolume's corner as (bpp, dB).

    `reference` has `bpp` and `psnr_db`, and for MS-SSIM `ms_ssim_db`, which is 0 (an MS-SSIM of 0)
    if it is not given.

    Raises:
        ValueError: if a key is missing.
    """
    name = quality_of(distortion).name_db
    values = {"ms_ssim_db": 0.0, **reference}
    missing = [key for key in ("bpp", name) if key not in values]
    if missing:
        raise ValueError(
            f"hypervolume_reference needs bpp and {name} for distortion {distortion}, it has"
            f" {', '.join(reference) or 'nothing'}: add {' and '.join(missing)}"
        )
    return values["bpp"], values[name]
