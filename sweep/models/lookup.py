"""Finding a trained model by what a user calls it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.frontier import frontier
from analysis.store.artifacts import download_model
from analysis.store.runs import read_sweep
from analysis.store.sweeps import find_sweep
from rdmodels.coding.coding_model import CodingModel, load_coding_model
from rdmodels.errors import ConfigError
from rdmodels.results.sweep import STORE_FILE, TRIALS

MODEL_URIS = ("models:/", "runs:/")


@contextmanager
def open_model(
    text: str, root: Path, tracking_uri: str | None, device: str
) -> Iterator[CodingModel]:
    """The model that `text` names: a directory, `SWEEP@POINT`, or an MLflow model URI.

    POINT is a trial of the sweep's frontier, or a rate in bpp: the point with the highest rate
    that is not above it.

    Raises:
        ConfigError, SweepReadError: if there is no such model; with what there is.
    """
    if text.startswith(MODEL_URIS):
        with tempfile.TemporaryDirectory() as folder:
            uri = tracking_uri or f"sqlite:///{root.resolve() / STORE_FILE}"
            yield load_coding_model(download_model(text, uri, Path(folder)), device)
    elif "@" in text and not Path(text).exists():
        sweep, _, point = text.rpartition("@")
        directory = find_sweep(sweep, root)
        yield load_coding_model(directory / TRIALS / pick_point(directory, point), device)
    else:
        yield load_coding_model(Path(text), device)


def pick_point(directory: Path, point: str) -> str:
    """The trial of the frontier of the sweep in `directory` that `point` names.

    Raises:
        ConfigError: if there is none; the message lists the frontier.
    """
    sweep = read_sweep(directory)
    members = frontier(sweep.trials, sweep.info.distortion)
    rates = dict(zip(members["trial_id"], members["val_bpp"], strict=True))
    if point in rates:
        return point
    listing = ", ".join(f"{trial_id} ({rate:.4g} bpp)" for trial_id, rate in rates.items())
    try:
        limit = float(point)
    except ValueError:
        raise ConfigError(
            f"{point!r} is no point of the frontier of {directory}: {listing or 'it is empty'}"
        ) from None
    below = [trial_id for trial_id, rate in rates.items() if rate <= limit]
    if not below:
        raise ConfigError(
            f"no point of the frontier of {directory} is at {limit:g} bpp or below:"
            f" {listing or 'it is empty'}"
        )
    # Rates ascend along the frontier.
    return str(below[-1])
