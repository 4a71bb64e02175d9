"""Evaluating models one by one on the test images of their own data sets."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from rdmodels import checkpoint
from rdmodels.config import read_config
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


def evaluate_models(
    root: Path, models: Sequence[Path], *, device: str, advance: Advance
) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Evaluate every model on the test images of its own data set, in bytes decoded back.

    Returns:
        A row a model: its path below `root`, its configuration's fields and `test_*` figures; and
        a PNG of reconstructions a model.
    """
    where = pick_device(device)
    splits: dict[str, Splits] = {}
    rows, pictures = [], {}
    for index, path in enumerate(models):
        config = read_config(path / checkpoint.CONFIG)
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
        buffer = BytesIO()
        reconstruction_grid(model.codec, test).save(buffer, format="PNG")
        pictures[name] = buffer.getvalue()
        advance(index + 1, name)
    return pd.DataFrame(rows).sort_values("test_bpp", ignore_index=True), pictures
