"""Ray Tune's door to the study."""

from typing import Any

from ray.tune.search import Searcher

from sweep.search.study import SweepStudy


class OptunaSearcher(Searcher):  # type: ignore[misc]
    """Proposes a `SweepStudy`'s trials to Ray Tune.

    How a trial ends, a callback tells the study: Ray shows a searcher neither the trial nor the
    exception. `metric` stays unset: one report without it would end the whole sweep.
    """

    def __init__(self, study: SweepStudy) -> None:
        super().__init__(metric=None, mode=None)
        self.study = study

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        proposal = self.study.ask()
        if proposal is None:
            finished: str = Searcher.FINISHED
            return finished
        return {"trial_id": proposal.trial_id, "overrides": proposal.overrides}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to do here, see above."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the searcher into snapshots that nobody reads: the study is on disk.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the study is on disk."""
