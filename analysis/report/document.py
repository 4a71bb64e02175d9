"""What a report says of a sweep, in the terms of its CSV and JSON files."""

import inspect
from collections import Counter
from typing import Any

import pandas as pd

from analysis.frontier import hypervolume
from analysis.report.formats import is_missing, records
from analysis.store.runs import STATUSES, Sweep
from rdmodels import metrics
from rdmodels.results.quality import quality_of
from rdmodels.results.sweep import SEARCHED

FRONTIER_COLUMNS = (
    *("trial_id", "run_id"),
    *SEARCHED,
    *("val_bpp", "val_psnr_db", "test_bpp", "test_psnr_db"),
)
TRIAL_COLUMNS = ("status", "epochs", "train_seconds")


def csv_columns(sweep: Sweep) -> list[str]:
    """Columns of `frontier.csv`: fixed ones, other searched fields, MS-SSIM if it is maximised."""
    own = quality_of(sweep.info.distortion).name
    quality = [f"{split}_{own}" for split in ("val", "test")]
    return list(dict.fromkeys([*FRONTIER_COLUMNS, *sweep.info.fields, *quality]))


def frontier_document(sweep: Sweep, members: pd.DataFrame) -> dict[str, Any]:
    """What `frontier.json` says, missing values as None."""
    info, quality = sweep.info, quality_of(sweep.info.distortion)
    rate, lowest = info.reference
    columns = [name for name in members.columns if name not in ("status", "error")]
    return {
        "sweep_id": info.sweep_id,
        "name": info.name,
        "created": info.created.isoformat(),
        "distortion": info.distortion,
        "maximised": f"val_{quality.name}",
        "trials": counts(sweep),
        "hypervolume": sweep_hypervolume(sweep),
        "hypervolume_reference": {"bpp": rate, quality.name_db: lowest},
        "points": [
            {key: None if is_missing(value) else value for key, value in row.items()}
            for row in records(members[columns])
        ],
        "conventions": conventions(),
    }


def sweep_hypervolume(sweep: Sweep) -> float:
    """Hypervolume of the complete trials' validation figures."""
    quality = f"val_{quality_of(sweep.info.distortion).name}"
    complete = sweep.trials[sweep.trials["status"] == "complete"]
    points = zip(complete["val_bpp"], complete[quality], strict=True)
    return hypervolume(points, sweep.info.hypervolume_reference, sweep.info.distortion)


def counts(sweep: Sweep) -> dict[str, int]:
    """Trials by status, the known ones first."""
    found = Counter(sweep.trials["status"].tolist())
    return {name: found[name] for name in dict.fromkeys([*STATUSES, *found]) if name in found}


def conventions() -> list[str]:
    """How rate and quality are measured, from where they are measured."""
    text = inspect.cleandoc(metrics.__doc__ or "")
    return [" ".join(item.split()) for item in text.split("\n- ")[1:]]
