"""The end of a training: its best weights as a codec, and their final figures in bytes."""

import dataclasses
import time
from pathlib import Path

import torch

from rdmodels.coding.coding_model import CodingModel, load_coding_model
from rdmodels.coding.integer_context import INTEGER_CONTEXT, save_integer_context
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import Splits
from rdmodels.model.storage import load_codec
from rdmodels.results.collapse import collapse_of
from rdmodels.results.images import TEST_IMAGES, VALIDATION_IMAGES, write_images
from rdmodels.results.trial import TrialResult
from rdmodels.training.coded import coding_model_of, evaluate_coded
from rdmodels.training.start import training_state
from rdmodels.training.target import target_bits_per_symbol


def finish(directory: Path, splits: Splits, *, device: torch.device | str = "cpu") -> TrialResult:
    """Final figures of the training in `directory`: its best weights on validation and test.

    The weights become a codec: the context model is converted to integers, every image is written
    as bytes and decoded back, and rate and quality are those of the bytes. This is the only place
    where test images are looked at, once for every trial that gets here. The per-image tables are
    `validation.parquet` and `test.parquet`.

    Raises:
        EvaluationError: if the figures cannot be data points, or a stream does not come back.
        ConfigError: if the directory holds no training.
    """
    started = time.perf_counter()
    state = training_state(directory)
    model = coding_model(directory, splits.train, device)
    best = evaluate_coded(model, splits.validation)
    test = evaluate_coded(model, splits.test)
    write_images(directory / VALIDATION_IMAGES, best.images)
    write_images(directory / TEST_IMAGES, test.images)
    coding = time.perf_counter() - started
    return TrialResult(
        best_epoch=state.best_epoch,
        epochs=state.epochs,
        seconds=dataclasses.replace(state.seconds, coding=coding),
        best=best.metrics,
        test=test.metrics,
        collapsed=collapse_of(
            best.metrics,
            target_bits_per_symbol(model.config, splits.validation),
            importance_map=model.config.importance_map,
        ),
    )


def coding_model(
    directory: Path, train: ImageSet, device: torch.device | str = "cpu"
) -> CodingModel:
    """The model in `directory`, ready to code, its context model converted to integers.

    The conversion, calibrated on training images, is stored beside the weights and never done
    twice: on another machine it might give other integers, and the streams so far be lost.
    """
    if (directory / INTEGER_CONTEXT).exists():
        return load_coding_model(directory, device)
    codec, config = load_codec(directory, device)
    model = coding_model_of(codec, train, config)
    save_integer_context(directory, model.integer_context)
    return model
