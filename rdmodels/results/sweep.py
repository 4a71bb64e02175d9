"""What a sweep's directory holds: its files by name, and what its `sweep.json` says."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rdmodels.errors import SweepReadError
from rdmodels.results.quality import reference_point

SWEEP_FILE = "sweep.json"
TRIALS = "trials"
"""Folder of the trials' own directories, by trial id."""
REPORT = "report"
"""Folder of the report."""
STORE_FILE = "mlflow.db"
"""The MLflow store beside a sweep's directory: one for all sweeps there."""
ARTIFACTS = "mlflow-artifacts"
"""Folder of the store's files, beside it."""
SEARCHED = ("beta", "num_latent_channels", "h_target")
"""Fields that every table has, searched or not."""


class SweepInfo(BaseModel):
    """What `sweep.json` says. Keys that only other readers need are let through.

    space: names of the searched fields. hypervolume_reference: keys as in
    `rdmodels.results.quality.reference_point`. config: the whole specification of the sweep.
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
