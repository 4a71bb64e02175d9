"""What a sweep's directory holds: its files by name, and what its `sweep.json` says."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rdmodels.errors import SweepReadError
from rdmodels.results.data import DataFingerprint
from rdmodels.results.quality import Corner, corner_of

SWEEP_FILE = "sweep.json"
SWEEP_VERSION: Literal[2] = 2
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
    """What `sweep.json` says.

    version: of this format. space: names of the searched fields. hypervolume_reference: keys as in
    `rdmodels.results.quality.corner_of`. data: the images, as the launch read them. config: the
    whole specification of the sweep.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = SWEEP_VERSION
    sweep_id: str = Field(pattern=r"^[^'\"\s]+$")
    name: str
    tracking_uri: str = Field(min_length=1)
    experiment_id: str
    parent_run_id: str
    space: tuple[str, ...]
    distortion: str = Field(pattern="^(mse|ms_ssim)$")
    hypervolume_reference: dict[str, float]
    data: DataFingerprint
    created: datetime
    config: dict[str, Any]

    @model_validator(mode="after")
    def _has_corner(self) -> Self:
        corner_of(self.hypervolume_reference, self.distortion)
        return self

    @property
    def corner(self) -> Corner:
        """The hypervolume's fixed corner."""
        return corner_of(self.hypervolume_reference, self.distortion)

    @property
    def fields(self) -> tuple[str, ...]:
        """beta, num_latent_channels and the target rate, then the other searched fields."""
        trial = self.config.get("trial")
        given = {*self.space, *(trial if isinstance(trial, dict) else ())}
        target = "target_bpp" if "target_bpp" in given else "h_target"
        usual = tuple(target if name == "h_target" else name for name in SEARCHED)
        return usual + tuple(name for name in self.space if name not in usual)


def read_info(directory: Path) -> SweepInfo:
    """What the `sweep.json` in `directory` says.

    Raises:
        SweepReadError: if it is missing, is no JSON, or lacks a key; naming file and key.
    """
    file = directory / SWEEP_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values.get("version", 1) if isinstance(values, dict) else None
        if version not in (None, SWEEP_VERSION):
            raise SweepReadError(
                f"{file} has version {version}, this program reads {SWEEP_VERSION}: launch the"
                " sweep again"
            )
        return SweepInfo.model_validate(values)
    except SweepReadError:
        raise
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
