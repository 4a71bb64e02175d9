"""Whether every node sees the sweep's directory: trials write there, the launch reads there."""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rdmodels.errors import ConfigError
from sweep.run.nodes import Node
from sweep.run.reason import reason_of

ANSWER_SECONDS = 90.0
"""For all nodes together; a worker process that starts and imports torch takes up to 20."""
WORKER_MODULE = "sweep.run.trial"


def check_shared(directory: Path, nodes: Sequence[Node]) -> None:
    """Prove that a trial on any of `nodes` can run and write where this process reads.

    Each node imports what a trial imports, reads a word that is written into `directory` here, and
    writes an answer that is read here. `directory` is made if need be, and is as it was after a
    refusal.

    Raises:
        ConfigError: naming every node that cannot, why, and the way out.
    """
    directory = directory.resolve()
    made = _make(directory)
    word = secrets.token_hex(8)
    question = directory / f".question-{word}"
    try:
        question.write_text(word)
        problems = _ask(nodes, question, word)
    finally:
        for file in directory.glob(f".*-{word}"):
            file.unlink()
    if problems:
        for folder in reversed(made):
            # A node that was too late may have put its answer there after all.
            with suppress(OSError):
                folder.rmdir()
        raise ConfigError("; ".join(problems))


def _make(directory: Path) -> list[Path]:
    """Make `directory`; the folders that were missing, outermost first."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _ask(nodes: Sequence[Node], question: Path, word: str) -> list[str]:
    """What is wrong with which nodes."""
    answers = {node.id: question.with_name(f".answer-{node.id}-{word}") for node in nodes}
    tasks = {}
    for node in nodes:
        task = ray.remote(num_cpus=0, max_retries=0)(_make_answering()).options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        )
        tasks[node.id] = task.remote(str(question), str(answers[node.id]), WORKER_MODULE)
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=ANSWER_SECONDS)
    problems: dict[str, list[str]] = {}
    for node in nodes:
        problem = _problem(tasks[node.id], question.parent, answers[node.id], word)
        if problem is not None:
            problems.setdefault(problem, []).append(f"node {node}")
    return [f"{', '.join(names)}: {problem}" for problem, names in problems.items()]


def _make_answering() -> Callable[[str, str, str], tuple[str, str] | None]:
    """The task that runs on a node. Ray sends it by value: the node may lack this package."""

    def answer(question: str, answer: str, module: str) -> tuple[str, str] | None:
        import importlib
        import pathlib

        try:
            importlib.import_module(module)
        except Exception as error:
            return "import", f"{type(error).__name__}: {error}"
        try:
            word = pathlib.Path(question).read_text()
            pathlib.Path(answer).write_text(word[::-1])
        except OSError as error:
            return "folder", f"{type(error).__name__}: {error.strerror}"
        return None

    return answer


def _problem(task: ray.ObjectRef, directory: Path, answer: Path, word: str) -> str | None:
    """What is wrong with one node, with the way out; None if nothing is."""
    try:
        said = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(task, force=True)
        return f"no answer within {ANSWER_SECONDS:g} s: restart it, or take it out"
    except ray.exceptions.RayError as error:
        return f"cannot run a task ({reason_of(error)}): restart it, or take it out"
    kind, reason = said or (None, "")
    if kind == "import":
        return f"cannot import rdsweep's packages ({reason}): install rdsweep there"
    # What the node calls written counts only if it is here too.
    if kind is None and answer.exists() and answer.read_text() == word[::-1]:
        return None
    return (
        f"cannot see {directory} as this machine does"
        f" ({reason or 'what it wrote there is not here'}): give --output a folder on a file"
        " system that all nodes share, at one path"
    )
