"""A running average of the weights: what a training evaluates and keeps."""

import copy

import torch

from rdmodels.model.codec import Codec

START = 10
"""Steps over which the average is mostly of the newest weights."""


def averaged(codec: Codec) -> Codec:
    """A copy of `codec` to average its weights in."""
    return copy.deepcopy(codec).requires_grad_(False)


@torch.no_grad()
def update_average(average: Codec, codec: Codec, step: int, decay: float) -> None:
    """Move the average towards the weights after step `step`, counted from 0.

    Its decay grows to `decay`, so that the first weights are soon forgotten. Buffers stay as they
    are: batch-norm statistics are not averaged but estimated anew for the averaged weights.
    """
    now = min(decay, (1 + step) / (START + step))
    torch._foreach_lerp_(list(average.parameters()), list(codec.parameters()), 1.0 - now)
