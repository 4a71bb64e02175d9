"""What a sweep maximises, and the corner that its hypervolume is measured from.

A launch asks after every trial, so this module loads neither pandas nor torch.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Quality(NamedTuple):
    """A sweep's measure of quality in dB: its figure's name, and how an axis says it."""

    name: str
    label: str


QUALITIES = {
    "mse": Quality("psnr_db", "PSNR, dB"),
    "ms_ssim": Quality("ms_ssim_db", "MS-SSIM, dB"),
}


def quality_of(distortion: str) -> Quality:
    """What a sweep that trains on `distortion` maximises.

    Raises:
        ValueError: if there is no such distortion.
    """
    if distortion not in QUALITIES:
        raise ValueError(f"distortion must be one of {', '.join(QUALITIES)}, got {distortion!r}")
    return QUALITIES[distortion]


class Corner(NamedTuple):
    """The fixed corner of a hypervolume: a rate in bpp, a quality in dB; both the worst."""

    bpp: float
    quality_db: float


def corner_of(reference: Mapping[str, float], distortion: str) -> Corner:
    """The corner in `reference`, which has `bpp` and the quality that goes with `distortion`.

    Raises:
        ValueError: if a key is missing, or the rate is not above 0.
    """
    name = quality_of(distortion).name
    missing = [key for key in ("bpp", name) if key not in reference]
    if missing:
        raise ValueError(
            f"hypervolume_reference needs bpp and {name} for distortion {distortion}, it has"
            f" {', '.join(reference) or 'nothing'}: add {' and '.join(missing)}"
        )
    if not reference["bpp"] > 0:
        raise ValueError(f"hypervolume_reference.bpp must be above 0, got {reference['bpp']:g}")
    return Corner(reference["bpp"], reference[name])
