"""What a report says of a sweep, in the terms of its CSV and JSON files."""

from collections import Counter
from typing import Any

import pandas as pd

from analysis.frontier import HYPERVOLUME_UNIT, hypervolume
from analysis.report.columns import short_columns
from analysis.report.conventions import conventions, rate_note
from analysis.report.formats import is_missing, records
from analysis.store.runs import STATUSES, Sweep
from rdmodels.results.quality import quality_of


def frontier_document(
    sweep: Sweep, members: pd.DataFrame, data_change: str | None = None
) -> dict[str, Any]:
    """What `frontier.json` says, missing values as None.

    `short_columns` are the keys of a point that a narrow table shows, such as the one in MLflow.
    `rate_note` is None where every image has a stream of its own, `data_change` where the images
    are those of the launch.
    """
    info, quality = sweep.info, quality_of(sweep.info.distortion)
    columns = [name for name in members.columns if name not in ("status", "error")]
    return {
        "sweep_id": info.sweep_id,
        "name": info.name,
        "created": info.created.isoformat(),
        "distortion": info.distortion,
        "maximised": f"val_{quality.name}",
        "trials": counts(sweep),
        "hypervolume": sweep_hypervolume(sweep),
        "hypervolume_unit": HYPERVOLUME_UNIT,
        "hypervolume_reference": {"bpp": info.corner.bpp, quality.name: info.corner.quality_db},
        "images": image_counts(sweep),
        "data_change": data_change,
        "rate_note": rate_note(records(sweep.trials)),
        "short_columns": short_columns(sweep, members),
        "points": [
            {key: None if is_missing(value) else value for key, value in row.items()}
            for row in records(members[columns])
        ],
        "conventions": conventions(),
    }


def sweep_hypervolume(sweep: Sweep) -> float:
    """Hypervolume of the complete trials' validation figures, in log2(bpp) x dB."""
    quality = f"val_{quality_of(sweep.info.distortion).name}"
    complete = sweep.trials[sweep.trials["status"] == "complete"]
    return hypervolume(zip(complete["val_bpp"], complete[quality], strict=True), sweep.info.corner)


def image_counts(sweep: Sweep) -> dict[str, int]:
    """How many images each split held at launch, which its figures are means of."""
    data = sweep.info.data
    return {
        "train": data.train.images,
        "validation": data.validation.images,
        "test": data.test.images,
    }


def counts(sweep: Sweep) -> dict[str, int]:
    """Trials by status, the known ones first."""
    found = Counter(sweep.trials["status"].tolist())
    return {name: found[name] for name in dict.fromkeys([*STATUSES, *found]) if name in found}
