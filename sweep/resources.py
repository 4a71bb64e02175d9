"""What trials need and what a machine or a cluster has."""

import os

import torch

from rdmodels.config import ConfigError
from sweep.spec import SweepSpec


def check_resources(spec: SweepSpec, *, cpus: float, gpus: float) -> None:
    """Raise ConfigError if not even one trial fits: Ray would wait for ever."""
    wanted = spec.resources
    if wanted.gpu > gpus:
        raise ConfigError(
            f"resources.gpu is {wanted.gpu:g} a trial, but there are {gpus:g} GPUs:"
            " set resources.gpu to 0 to train on the CPU"
        )
    if wanted.cpu > cpus:
        raise ConfigError(
            f"resources.cpu is {wanted.cpu} a trial, but there are {cpus:g} CPUs: lower it"
        )


def trials_at_once(spec: SweepSpec) -> int:
    """How many trials this machine runs at the same time.

    Raises:
        ConfigError: if not even one fits.
    """
    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    check_resources(spec, cpus=cpus, gpus=gpus)
    fitting = [spec.resources.concurrent, cpus // spec.resources.cpu]
    if spec.resources.gpu:
        fitting.append(int(gpus / spec.resources.gpu))
    return min(fitting)
