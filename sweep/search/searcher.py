"""Ray Tune's door to the study."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ray.tune.search import Searcher

from sweep.search.study import SweepStudy

Status = Literal["complete", "pruned", "failed"]
OnEnd = Callable[[str, Status, Mapping[str, Any]], None]


class OptunaSearcher(Searcher):  # type: ignore[misc]
    """Ray Tune's door to a `SweepStudy`.

    Ray's `metric` stays unset: one report without it would end the whole sweep. The objectives are
    read from the final report's `bpp` and `distortion`.

    Args:
        study: where trials come from and end.
        on_end: called with (trial id, status, last report) after a trial has ended by itself.
    """

    def __init__(self, study: SweepStudy, on_end: OnEnd) -> None:
        super().__init__(metric=None, mode=None)
        self.study = study
        self._on_end = on_end
        self._ids: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        proposal = self.study.ask()
        if proposal is None:
            finished: str = Searcher.FINISHED
            return finished
        self._ids[trial_id] = proposal.trial_id
        return {"trial_id": proposal.trial_id, "overrides": proposal.overrides}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        ours = self._ids.pop(trial_id, None)
        if ours is None:
            return
        self._on_end(
            ours, self._tell(ours, result or {}, failed=error or result is None), result or {}
        )

    def _tell(self, trial_id: str, result: Mapping[str, Any], *, failed: bool) -> Status:
        if failed:
            self.study.fail(trial_id, "the trial ended with an error")
            return "failed"
        if result.get("final"):
            finite = self.study.complete(trial_id, result["bpp"], result["distortion"])
            return "complete" if finite else "failed"
        keys = ("epoch", "bpp", "distortion")
        self.study.prune(trial_id, {key: result[key] for key in keys if key in result})
        return "pruned"

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the searcher into snapshots that nobody reads: the study is on disk.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study is on disk."""
