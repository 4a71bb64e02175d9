"""Where a running sweep stands, and what happens when one of its trials ends."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from analysis.frontier import hypervolume, pareto_mask
from sweep.search.searcher import Status
from sweep.spec.spec import SweepSpec
from sweep.tracking.spool import FOLDER, Spool, last_record


@dataclass
class SweepProgress:
    """Where a running sweep stands; written by Ray's thread, read by whoever shows it.

    announce: called with a line for each trial that ends, if given.
    """

    trials: int
    epochs_in_all: int
    started: float = field(default_factory=time.monotonic)
    running: int = 0
    complete: int = 0
    failed: int = 0
    stopped: int = 0
    epochs: int = 0
    points: list[tuple[str, float, float]] = field(default_factory=list)
    hypervolume: float = 0.0
    errors: list[str] = field(default_factory=list)
    announce: Callable[[str], None] | None = None

    def front(self) -> list[tuple[str, float, float]]:
        """The points (trial id, bpp, quality) that no other one beats, ascending in rate."""
        points = sorted(self.points, key=lambda point: (point[1], -point[2]))
        kept = pareto_mask([(bpp, value) for _, bpp, value in points])
        return [point for point, keep in zip(points, kept, strict=True) if keep]

    @property
    def seconds_left(self) -> float | None:
        """From the epochs so far; None before the first."""
        if not self.epochs:
            return None
        elapsed = time.monotonic() - self.started
        return elapsed * max(0, self.epochs_in_all - self.epochs) / self.epochs


class TrialEndHandler:
    """What happens when a trial ends by itself: its spool is closed, the progress counted."""

    def __init__(self, directory: Path, spec: SweepSpec, progress: SweepProgress) -> None:
        self.directory = directory
        self.reference = spec.hypervolume_reference.model_dump()
        self.distortion = spec.base.distortion
        self.progress = progress

    def __call__(self, trial_id: str, status: Status, result: Mapping[str, Any]) -> None:
        progress = self.progress
        if status == "complete":
            progress.complete += 1
            if result["quality"] is not None:
                progress.points.append((trial_id, result["bpp"], result["quality"]))
            points = [(bpp, value) for _, bpp, value in progress.points]
            progress.hypervolume = hypervolume(points, self.reference, self.distortion)
        error = None
        if status == "failed":
            progress.failed += 1
            error = _error_of(self.directory, trial_id)
            progress.errors.append(f"{trial_id}: {error}")
        Spool(self.directory, trial_id).end(status, error)
        if progress.announce is not None:
            done = progress.complete + progress.failed
            figures = "" if status != "complete" else f"  bpp {result['bpp']:.4g}"
            progress.announce(f"{done}/{progress.trials} {trial_id} {status}{figures}")
        Spool(self.directory, "sweep").metrics(
            {
                "hypervolume": progress.hypervolume,
                "trials/complete": progress.complete,
                "trials/failed": progress.failed,
            },
            step=progress.complete + progress.failed,
        )


def _error_of(directory: Path, trial_id: str) -> str:
    record = last_record(directory / FOLDER / f"{trial_id}.jsonl") or {}
    error: str | None = record.get("tags", {}).get("error")
    return error or "the trial's process ended without a word: out of memory, or killed"


class ProgressCallback(tune.Callback):  # type: ignore[misc]
    """Counts; cannot raise, since that would end the sweep."""

    def __init__(self, progress: SweepProgress) -> None:
        self.progress = progress
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks into snapshots that nobody reads.
        return {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(1)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(-1)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self._add(-1)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if not result.get("final"):
            self.progress.epochs += 1

    def _add(self, count: int) -> None:
        with self._lock:
            self.progress.running = max(0, self.progress.running + count)
