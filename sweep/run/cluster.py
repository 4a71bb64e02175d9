"""The Ray that trials run on: started here or connected to, and checked before anything is."""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray

from rdmodels.errors import ConfigError
from sweep.run.nodes import alive_nodes, available_cpus, trials_at_once, trials_on
from sweep.run.shared import check_shared
from sweep.run.threads import thread_environment
from sweep.spec.spec import SweepSpec

ADDRESS_SECONDS = 5.0
CLIENT = "ray://"

logger = logging.getLogger(__name__)


def start_ray(spec: SweepSpec, address: str | None, directory: Path) -> None:
    """Connect to the cluster at `address`, or start Ray on this machine.

    In a cluster every node that a trial fits on must see `directory`, the sweep's, as this machine
    does.

    Raises:
        ConfigError: if the cluster does not answer, no trial fits, or a node cannot take part.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    threads = thread_environment(spec.resources.cpu)
    if address is None:
        # Workers started here inherit it; a runtime_env would start them seconds later.
        os.environ.update(threads)
        ray.init(address="local", num_cpus=available_cpus(), include_dashboard=False, **quiet)
    else:
        check_address(address)
        try:
            ray.init(address=address, runtime_env={"env_vars": threads}, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: no Ray cluster answers ({error})") from error
    if not logger.isEnabledFor(logging.DEBUG):
        # Ray logs every failed trial's trace at once; ours are in the tracker and at the end.
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    nodes = alive_nodes()
    trials_at_once(spec, nodes)
    if address is not None:
        check_shared(directory, [node for node in nodes if trials_on(node, spec.resources)])


def check_address(address: str) -> None:
    """Raise ConfigError if nothing listens at host:port: Ray itself would try for minutes."""
    if address.startswith(CLIENT):
        raise ConfigError(
            f"--address {address}: a sweep does not run through Ray's client: run rdsweep launch"
            " on a node of the cluster, with --address auto or HOST:PORT"
        )
    host, separator, port = address.rpartition(":")
    if not separator:
        return
    try:
        with socket.create_connection((host, int(port)), timeout=ADDRESS_SECONDS):
            return
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers ({error});"
            " leave it out to start Ray here"
        ) from error
