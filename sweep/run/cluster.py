"""The Ray that trials run on: started here or connected to, and what it has for them."""

import logging
import os
import socket
from typing import Any

import ray
import torch

from rdmodels.errors import ConfigError
from sweep.spec.spec import SweepSpec

ADDRESS_SECONDS = 5.0

logger = logging.getLogger(__name__)


def start_ray(spec: SweepSpec, address: str | None) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine.

    Raises:
        ConfigError: if the cluster does not answer, or no trial fits.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **quiet)
    else:
        check_address(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: no Ray cluster answers ({error})") from error
    if not logger.isEnabledFor(logging.DEBUG):
        # Ray logs every failed trial's trace at once; ours are in the tracker and at the end.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    have = ray.cluster_resources()
    check_resources(spec, cpus=have.get("CPU", 0), gpus=have.get("GPU", 0))


def check_address(address: str) -> None:
    """Raise ConfigError if nothing listens at host:port: Ray itself would try for minutes."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return
    try:
        with socket.create_connection((host, int(port)), timeout=ADDRESS_SECONDS):
            return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers ({error});"
            " leave it out to start Ray here"
        ) from error


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
