"""The nodes that trials run on: what each has, and how many trials fit."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import ray
import torch

from rdmodels.errors import ConfigError
from sweep.spec.spec import Resources, SweepSpec

SHOWN_NODES = 5
ROUNDING = 1e-9


class Node(NamedTuple):
    """One machine of a cluster. id: Ray's; cpus, gpus: all it has, in use or not."""

    id: str
    name: str
    address: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return self.name if self.address in ("", self.name) else f"{self.name} ({self.address})"


def alive_nodes() -> list[Node]:
    """The nodes of the cluster that this process is connected to, without those that have died."""
    return [
        Node(
            id=node["NodeID"],
            name=node["NodeName"] or node["NodeManagerHostname"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def this_machine() -> Node:
    """This machine as a node, without asking Ray."""
    return Node("", "this machine", "", available_cpus(), torch.cuda.device_count())


def available_cpus() -> int:
    """The CPUs that this process may use: a container or `taskset` may have left it a few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def trials_on(node: Node, resources: Resources) -> int:
    """How many trials fit on `node` at the same time.

    A fraction of a GPU is one of one GPU: of .4 each, two fit on a GPU and four on two.
    """
    fitting = int(node.cpus // resources.cpu)
    if not resources.gpu:
        return fitting
    if resources.gpu < 1:
        return min(fitting, int(node.gpus) * int(1 / resources.gpu + ROUNDING))
    return min(fitting, int(node.gpus // resources.gpu))


def trials_at_once(spec: SweepSpec, nodes: Sequence[Node]) -> int:
    """How many trials run at the same time: as many as are wanted, at most those that fit.

    Raises:
        ConfigError: if not even one fits on any node, where Ray would wait for ever.
    """
    fitting = sum(trials_on(node, spec.resources) for node in nodes)
    if fitting == 0:
        raise ConfigError(_nothing_fits(spec.resources, nodes))
    return min(spec.resources.concurrent, fitting)


def _nothing_fits(wanted: Resources, nodes: Sequence[Node]) -> str:
    has = [f"{node} has {node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes]
    if len(has) > SHOWN_NODES:
        has = [*has[:SHOWN_NODES], f"and {len(has) - SHOWN_NODES} nodes more"]
    if wanted.gpu and not any(node.gpus for node in nodes):
        way_out = "set resources.gpu to 0 to train on the CPU"
    else:
        way_out = "set less, a trial runs on one node"
    return (
        f"resources.cpu is {wanted.cpu} and resources.gpu is {wanted.gpu:g} a trial, but"
        f" {'; '.join(has) or 'the cluster has no nodes'}: {way_out}"
    )
