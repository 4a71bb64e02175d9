"""Whether the nodes of a real Ray see the sweep's directory."""

from pathlib import Path
from typing import Any

import pytest
import ray

from rdmodels.errors import ConfigError
from sweep.run import shared
from sweep.run.cluster import check_address
from sweep.run.nodes import Node, alive_nodes
from sweep.run.shared import check_shared

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


@pytest.mark.usefixtures("ray_here")
def test_a_node_that_sees_the_folder_is_accepted_and_leaves_nothing(tmp_path: Path) -> None:
    nodes = alive_nodes()
    assert [(node.cpus, node.gpus) for node in nodes] == [(1, 0)]
    directory = tmp_path / "new" / "sweep"
    check_shared(directory, nodes)
    assert list(directory.iterdir()) == []


def elsewhere(found: Path) -> Any:
    """As on a node where the same path is another folder, in which the word happens to be."""

    def answer(question: str, answer: str, module: str) -> None:
        found.write_text("written elsewhere")

    return lambda: answer


@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize(
    ("patches", "words"),
    [
        ({"ANSWER_SECONDS": 0.0}, "no answer within 0 s"),
        ({"WORKER_MODULE": "nothing_of_this_name"}, "cannot import rdsweep's packages (Module"),
        ({"_make_answering": None}, "what it wrote there is not here"),
    ],
)
def test_a_node_that_cannot_is_named_and_the_folder_is_gone(
    patches: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in patches.items():
        replaced = elsewhere(tmp_path / "other") if value is None else value
        monkeypatch.setattr(shared, name, replaced)
    (node,) = alive_nodes()
    (tmp_path / "sweeps").mkdir()
    with pytest.raises(ConfigError) as caught:
        check_shared(tmp_path / "sweeps" / "new" / "sweep", [node])
    assert str(caught.value).startswith(f"node {node.name}")
    assert words in str(caught.value)
    assert list((tmp_path / "sweeps").iterdir()) == []


@pytest.mark.usefixtures("ray_here")
def test_a_node_that_has_gone_is_named_and_so_is_only_it(tmp_path: Path) -> None:
    gone = Node(ray.NodeID.from_random().hex(), "gone", "10.0.0.9", 1, 0)
    with pytest.raises(ConfigError, match=r"^node gone \(10.0.0.9\): cannot run a task"):
        check_shared(tmp_path / "sweep", [*alive_nodes(), gone])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://127.0.0.1:10001", "on a node of the cluster, with --address auto or HOST:PORT"),
        ("127.0.0.1:9", "no Ray cluster answers"),
        ("127.0.0.1:port", "no Ray cluster answers"),
        ("127.0.0.1:99999", "no Ray cluster answers"),
    ],
)
def test_an_address_that_cannot_work_is_refused(address: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert str(caught.value).startswith(f"--address {address}: ")
    assert words in str(caught.value)


def test_an_address_without_a_port_is_left_to_ray() -> None:
    check_address("auto")
