"""Batch-norm statistics that fit the current weights."""

import torch
from torch import nn

from rdmodels.data.batches import TrainingBatches
from rdmodels.model.codec import Codec

REESTIMATION_BATCHES = 8


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
    for _, x in zip(range(REESTIMATION_BATCHES), batches.epoch(epoch), strict=False):
        (y_hat, _), _ = codec.encode(x)
        codec.decode(y_hat, (x.shape[-2], x.shape[-1]))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
