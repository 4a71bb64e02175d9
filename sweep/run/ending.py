"""How a trial ends: what counts as complete, told to the study, then written to its spool."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdmodels import checkpoint
from rdmodels.coding.integer_context import INTEGER_CONTEXT
from rdmodels.config import TrialConfig
from rdmodels.results.sweep import TRIALS
from sweep.run.trial import write_start
from sweep.search.study import EndedTrial, SweepStudy
from sweep.tracking.spool import FOLDER, Spool, read_spool

FINAL_KEYS = frozenset({"best/bpp", "test/bpp"})
"""Metrics of a trial's final record."""
MODEL_FILES = (checkpoint.MODEL, INTEGER_CONTEXT)


def tell_end(study: SweepStudy, directory: Path, trial_id: str, report: Mapping[str, Any]) -> None:
    """Tell the study how a trial that ended without an error did, by its last report.

    A final report makes it complete only if its figures and its model are in the sweep's
    `directory` as this process sees it: whoever reads the sweep will look there.
    """
    if not report.get("final"):
        keys = ("epoch", "bpp", "distortion")
        study.prune(trial_id, {key: report[key] for key in keys if key in report})
        return
    missing = missing_of(directory, trial_id)
    if missing:
        study.fail(
            trial_id,
            f"the trial was trained, but {directory} has not got its {' and '.join(missing)}:"
            " its node sees another folder, or the disk is full",
        )
        return
    figures = (report["bpp"], report["distortion"], report["quality"])
    study.complete(trial_id, *figures, report.get("collapsed"))


def missing_of(directory: Path, trial_id: str) -> list[str]:
    """What a complete trial leaves in the sweep's `directory` and is not there."""
    final = any(
        record["kind"] == "metrics" and set(record["metrics"]) >= FINAL_KEYS
        for record in _records(directory, trial_id)
    )
    files = directory / TRIALS / trial_id
    missing = [] if final else ["final metrics"]
    return missing + [name for name in MODEL_FILES if not (files / name).is_file()]


def write_end(directory: Path, base: TrialConfig, trial: EndedTrial) -> None:
    """Write the end of `trial` to its spool, if it is not there yet.

    A trial whose process died before it wrote anything gets its start first: a run without
    parameters would stand in the tracker.
    """
    kinds = [record["kind"] for record in _records(directory, trial.trial_id)]
    if kinds[-1:] == ["end"]:
        return
    spool = Spool(directory, trial.trial_id)
    if "start" not in kinds:
        write_start(spool, trial.trial_id, base, trial.overrides)
    spool.end(trial.status, trial.reason if trial.status == "failed" else None)


def _records(directory: Path, trial_id: str) -> list[dict[str, Any]]:
    return [line.record for line in read_spool(directory / FOLDER / f"{trial_id}.jsonl", 0)]
