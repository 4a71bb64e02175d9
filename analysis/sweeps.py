"""A sweep's directory: found by path or id, and what its `sweep.json` says."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.frontier import reference_point

SWEEP_FILE = "sweep.json"
SQLITE = "sqlite:///"
SEARCHED = ("beta", "num_latent_channels", "h_target")
"""Fields that every table has, searched or not."""


class SweepReadError(ValueError):
    """A sweep that cannot be read; the message says what is wrong and where."""


class SweepInfo(BaseModel):
    """What `sweep.json` says. Keys that only other readers need are let through.

    space: names of the searched fields. hypervolume_reference: keys as in
    `analysis.frontier.reference_point`. config: the whole specification of the sweep.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sweep_id: str = Field(pattern=r"^[^'\"\s]+$")
    name: str
    tracking_uri: str = Field(min_length=1)
    experiment_id: str
    parent_run_id: str
    space: tuple[str, ...]
    distortion: str = Field(pattern="^(mse|ms_ssim)$")
    hypervolume_reference: dict[str, float]
    created: datetime
    config: dict[str, Any]

    @model_validator(mode="after")
    def _has_reference(self) -> Self:
        reference_point(self.hypervolume_reference, self.distortion)
        return self

    @property
    def reference(self) -> tuple[float, float]:
        """The hypervolume's fixed corner: rate in bpp, quality in dB."""
        return reference_point(self.hypervolume_reference, self.distortion)

    @property
    def fields(self) -> tuple[str, ...]:
        """beta, num_latent_channels and h_target, then the other searched fields."""
        return SEARCHED + tuple(name for name in self.space if name not in SEARCHED)


def find_sweep(sweep: str, root: Path = Path("sweeps")) -> Path:
    """The directory of a sweep that is named by its directory or, if under `root`, by its id.

    Raises:
        SweepReadError: if there is none; the message lists the sweeps that are there.
    """
    if (Path(sweep) / SWEEP_FILE).is_file():
        return Path(sweep)
    listing = []
    for file in sorted(root.glob(f"*/{SWEEP_FILE}")):
        try:
            info = read_info(file.parent)
        except SweepReadError:
            listing.append(f"{file.parent} (unreadable)")
            continue
        if info.sweep_id == sweep:
            return file.parent
        listing.append(f"{info.sweep_id} ({info.name})")
    reason = f"a directory without {SWEEP_FILE}" if Path(sweep).is_dir() else "no directory"
    there = f"the sweeps in {root} are {', '.join(listing)}" if listing else f"{root} has no sweep"
    raise SweepReadError(f"{sweep!r} is {reason} and no sweep's id; {there}")


def read_info(directory: Path) -> SweepInfo:
    """What the `sweep.json` in `directory` says.

    Raises:
        SweepReadError: if it is missing, is no JSON, or lacks a key; naming file and key.
    """
    file = directory / SWEEP_FILE
    try:
        return SweepInfo.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise SweepReadError(f"{directory} is not a sweep: it has no {SWEEP_FILE}") from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
            for item in error.errors()
        ]
        raise SweepReadError(f"{file} does not describe a sweep: {'; '.join(problems)}") from error
    except (OSError, ValueError) as error:
        raise SweepReadError(f"{file} cannot be read: {error}") from error


def store_uri(directory: Path, info: SweepInfo) -> str:
    """The sweep's tracking URI; the database beside it if the recorded one is gone.

    Raises:
        SweepReadError: if neither is there, or it is no tracking store.
    """
    if not info.tracking_uri.startswith(SQLITE):
        return info.tracking_uri
    path = Path(info.tracking_uri.removeprefix(SQLITE).split("?")[0])
    beside = directory.resolve().parent / "mlflow.db"
    if not path.is_file():
        if not beside.is_file():
            raise SweepReadError(
                f"sweep {info.sweep_id}: its tracking store {path} is not there, and neither is"
                f" {beside}: move the database along with the sweep"
            )
        path = beside
    uri = info.tracking_uri if path != beside else f"{SQLITE}{beside}"
    check_store_file(uri)
    return uri


def check_store_file(tracking_uri: str) -> None:
    """Raise SweepReadError if a SQLite store is not there or is no store; servers pass.

    On a file that is no database MLflow would retry for minutes; in an empty one, make tables.
    """
    if not tracking_uri.startswith(SQLITE):
        return
    path = Path(tracking_uri.removeprefix(SQLITE).split("?")[0])
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM experiments LIMIT 1")
    except sqlite3.Error as error:
        raise SweepReadError(f"{path} is not a tracking store of MLflow ({error})") from error
