"""Batch-norm statistics that fit the current weights."""

import itertools
import math

import torch
from torch import nn

from rdmodels.data.batches import TrainingBatches
from rdmodels.model.codec import Codec

REESTIMATION_BATCHES = 8
CROPS = 1024
CROPS_OF_AN_IMAGE = 8
"""Crops of photographs differ more than small images do: by those of 64, the quality of one codec
changed by 1 dB from draw to draw, and its rate by a tenth (`tests/benchmarks/batch_norm.py`)."""


@torch.no_grad()
def reestimate_batch_norm(codec: Codec, batches: TrainingBatches, epoch: int) -> None:
    """Replace running batch-norm statistics by plain averages under the current weights.

    The running ones lag behind the quantizer, which can send the rate of an evaluation far above
    raw coding.
    """
    norms = [module for module in codec.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    codec.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    draws = itertools.chain.from_iterable(map(batches.epoch, itertools.count(epoch)))
    for x in itertools.islice(draws, batches_of(batches)):
        (y_hat, _), _ = codec.encode(x)
        codec.decode(y_hat, (x.shape[-2], x.shape[-1]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def batches_of(batches: TrainingBatches) -> int:
    """How many batches the statistics are of: more of random crops than of whole images."""
    if not batches.config.is_folder:
        return min(REESTIMATION_BATCHES, len(batches))
    crops = min(CROPS, CROPS_OF_AN_IMAGE * len(batches.train))
    return max(REESTIMATION_BATCHES, math.ceil(crops / batches.config.batch_size))
