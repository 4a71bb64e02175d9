"""Evaluating models one by one on the test images of their own data sets."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rdmodels import checkpoint
from rdmodels.data.splits import Splits, load_splits
from rdmodels.errors import ConfigError
from rdmodels.results.sweep import ARTIFACTS
from rdmodels.results.trial import keyed
from rdmodels.training.coded import evaluate_coded
from rdmodels.training.finish import coding_model
from rdmodels.training.reconstructions import reconstruction_grid
from sweep.models.device import pick_device
from sweep.models.training import Advance
from sweep.spec.spec import SHARED_FIELDS

DATA_FIELDS = {*SHARED_FIELDS, "crop_size"}
"""Fields that decide which images a configuration reads, and whether they fit it."""


def find_models(directory: Path) -> list[Path]:
    """Directories at or below `directory` that hold a trained model.

    Raises:
        ConfigError: if there is none.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory")
    # MLflow's copies of a sweep's models lie below the sweeps' folder too.
    files = sorted(
        file for file in directory.rglob(checkpoint.MODEL) if ARTIFACTS not in file.parts
    )
    if not files:
        raise ConfigError(
            f"no {checkpoint.MODEL} under {directory}: train a model with `rdsweep train`"
        )
    return [file.parent for file in files]


class EvaluatedModels(NamedTuple):
    """Models on the test images of their own data sets.

    table: a row a model: its path below the root, its configuration's fields and `test_*` figures.
    pictures: a PNG of reconstructions a model. changes: where the images are no longer those that
    a model was trained on, what has changed.
    """

    table: pd.DataFrame
    pictures: dict[str, bytes]
    changes: dict[str, str]


def evaluate_models(
    root: Path, models: Sequence[Path], *, device: str, advance: Advance
) -> EvaluatedModels:
    """Evaluate every model on the test images of its own data set, in bytes decoded back.

    Raises:
        ConfigError: if a model or a data set cannot be read.
    """
    where = pick_device(device)
    splits: dict[str, Splits] = {}
    rows, pictures, changes = [], {}, {}
    for index, path in enumerate(models):
        config, data = checkpoint.read_config(path)
        key = config.model_dump_json(include=DATA_FIELDS)
        if key not in splits:
            splits[key] = load_splits(config)
        test = splits[key].test
        model = coding_model(path, splits[key].train, where)
        name = str(path.relative_to(root)) if path != root else path.resolve().name
        figures = keyed("test", evaluate_coded(model, test).metrics)
        rows.append(
            {"model": name, **config.model_dump()}
            | {key.replace("/", "_"): value for key, value in figures.items()}
        )
        changed = data.changes_to(splits[key].fingerprint)
        if changed is not None:
            changes[name] = changed
        buffer = BytesIO()
        reconstruction_grid(model.codec, test).save(buffer, format="PNG")
        pictures[name] = buffer.getvalue()
        advance(index + 1, name)
    table = pd.DataFrame(rows).sort_values("test_bpp", ignore_index=True)
    return EvaluatedModels(table, pictures, changes)
