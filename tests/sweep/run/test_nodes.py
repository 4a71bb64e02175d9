import os
import subprocess
import sys

import pytest

from rdmodels.errors import ConfigError
from sweep.run.nodes import Node, trials_at_once, trials_on
from sweep.spec.spec import Resources, SweepSpec
from tests.sweep.search.test_search import spec_with


def node(cpus: float, gpus: float = 0, name: str = "a") -> Node:
    return Node(name, name, "10.0.0.1", cpus, gpus)


def spec_of(cpu: int, gpu: float = 0, concurrent: int = 100) -> SweepSpec:
    return spec_with(f"resources={{cpu: {cpu}, gpu: {gpu}, concurrent: {concurrent}}}")


@pytest.mark.parametrize(
    ("cpus", "gpus", "cpu", "gpu", "fitting"),
    [
        (2, 0, 2, 0, 1),
        (2, 0, 3, 0, 0),
        (7, 0, 2, 0, 3),
        (0, 0, 1, 0, 0),
        # A fraction is one of one GPU.
        (16, 2, 1, 0.4, 4),
        (16, 2, 1, 0.5, 4),
        (16, 1, 1, 0.51, 1),
        (16, 1, 1, 1 / 3, 3),
        (16, 1, 1, 1 / 49, 16),
        (64, 1, 1, 1 / 49, 49),
        (64, 1, 1, 0.1, 10),
        (3, 2, 1, 0.4, 3),
        (16, 0, 1, 0.25, 0),
        # Whole GPUs are those of one node.
        (16, 3, 1, 1, 3),
        (16, 3, 1, 2, 1),
        (16, 1, 1, 2, 0),
        (2, 4, 1, 1, 2),
    ],
)
def test_how_many_trials_fit_on_a_node(
    cpus: float, gpus: float, cpu: int, gpu: float, fitting: int
) -> None:
    assert trials_on(node(cpus, gpus), Resources(cpu=cpu, gpu=gpu)) == fitting


def test_trials_at_once_are_those_that_fit_on_all_nodes_or_fewer_if_so_wanted() -> None:
    nodes = [node(2), node(3), node(1)]
    assert trials_at_once(spec_of(2), nodes) == 2
    assert trials_at_once(spec_of(1), nodes) == 6
    assert trials_at_once(spec_of(1, concurrent=5), nodes) == 5
    assert trials_at_once(spec_of(3), nodes) == 1


def test_what_fits_on_no_single_node_is_refused_whatever_the_sum() -> None:
    nodes = [node(2, name="a"), node(2, name="b")]
    with pytest.raises(ConfigError, match=r"resources.cpu is 3.*a \(10.0.0.1\) has 2 CPUs.*; b"):
        trials_at_once(spec_of(3), nodes)
    # Enough of each, but on different nodes.
    with pytest.raises(ConfigError, match="a trial runs on one node"):
        trials_at_once(spec_of(4, 1), [node(8, 0), node(2, 1)])
    with pytest.raises(ConfigError, match=r"resources.gpu is 0.5.*set resources.gpu to 0"):
        trials_at_once(spec_of(1, 0.5), nodes)
    with pytest.raises(ConfigError, match="and 3 nodes more: set less"):
        trials_at_once(spec_of(3), [node(2)] * 8)
    with pytest.raises(ConfigError, match="no nodes"):
        trials_at_once(spec_of(1), [])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_only_cpus_that_this_process_may_use_count() -> None:
    code = (
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from sweep.run.nodes import available_cpus, this_machine\n"
        "print(available_cpus(), this_machine().cpus)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_a_share_that_rounds_down_still_fills_its_gpu() -> None:
    # 1 / (1 / 93) is 92.99…
    assert int(1 / (1 / 93)) == 92
    assert trials_on(node(cpus=100, gpus=1), Resources(cpu=1, gpu=1 / 93)) == 93
