"""How trials end: in the study, then in the spool that the tracker reads."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweep.run.ending import tell_end, write_end
from sweep.run.trial import write_start
from sweep.search.study import EndedTrial, SweepStudy
from sweep.tracking.spool import Spool
from tests.sweep.search.test_search import spec_with

SPEC = spec_with()
FINAL = {"final": True, "epoch": 2, "bpp": 0.5, "distortion": 0.01, "quality": 20.0}


@pytest.fixture
def study(tmp_path: Path) -> SweepStudy:
    """A study whose first trial has been proposed, and has left all that a complete one does."""
    study = SweepStudy(tmp_path, "x", SPEC)
    proposal = study.ask()
    assert proposal is not None
    spool = Spool(tmp_path, "t0000")
    write_start(spool, "t0000", SPEC.base, proposal.overrides)
    spool.metrics({"val/bpp_estimated": 0.6}, 0)
    spool.metrics({"best/bpp": 0.5, "test/bpp": 0.52})
    spool.model(tmp_path / "trials" / "t0000", ["model.safetensors"])
    files = tmp_path / "trials" / "t0000"
    files.mkdir(parents=True)
    for name in ("model.safetensors", "integer_context.safetensors"):
        (files / name).write_bytes(b"weights")
    return study


def end_of(study: SweepStudy, directory: Path, report: dict[str, Any]) -> EndedTrial:
    tell_end(study, directory, "t0000", report)
    (ended,) = study.ended_trials()
    return ended


def test_a_final_report_with_its_files_is_complete(study: SweepStudy, tmp_path: Path) -> None:
    ended = end_of(study, tmp_path, FINAL)
    assert (ended.status, ended.bpp, ended.quality) == ("complete", 0.5, 20.0)


def test_objectives_that_are_not_finite_fail_it(study: SweepStudy, tmp_path: Path) -> None:
    assert end_of(study, tmp_path, {**FINAL, "bpp": math.nan}).status == "failed"


@pytest.mark.parametrize("name", ["model.safetensors", "integer_context.safetensors"])
def test_a_final_report_without_a_model_file_is_failed(
    name: str, study: SweepStudy, tmp_path: Path
) -> None:
    (tmp_path / "trials" / "t0000" / name).unlink()
    ended = end_of(study, tmp_path, FINAL)
    assert ended.status == "failed"
    assert ended.reason is not None
    assert f"{tmp_path} has not got its {name}:" in ended.reason


@pytest.mark.parametrize("missing", ["best/bpp", "test/bpp"])
def test_a_final_report_without_its_record_is_failed(
    missing: str, study: SweepStudy, tmp_path: Path
) -> None:
    path = Spool(tmp_path, "t0000").path
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.get("metrics", {}).pop(missing, None)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    reason = end_of(study, tmp_path, FINAL).reason
    assert reason is not None
    assert "its final metrics:" in reason


def test_a_final_report_of_a_node_that_sees_another_folder_is_failed(tmp_path: Path) -> None:
    study = SweepStudy(tmp_path, "x", SPEC)
    study.ask()
    ended = end_of(study, tmp_path, FINAL)
    assert ended.status == "failed"
    assert ended.reason is not None
    assert "final metrics and model.safetensors and integer_context" in ended.reason


@pytest.mark.parametrize("report", [{"epoch": 1, "bpp": 0.5, "pid": 3}, {"final": False}, {}])
def test_an_end_without_a_final_report_is_an_early_stop(
    report: dict[str, Any], study: SweepStudy, tmp_path: Path
) -> None:
    assert end_of(study, tmp_path, report).status == "pruned"
    kept = {key: report[key] for key in ("epoch", "bpp") if key in report}
    assert study.trials()[0].user_attrs["partial"] == kept


def records_of(directory: Path, trial_id: str) -> list[dict[str, Any]]:
    path = Spool(directory, trial_id).path
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_trial_that_died_before_it_wrote_anything_gets_its_start(tmp_path: Path) -> None:
    overrides = {"beta": 0.02, "num_latent_channels": 8, "h_target": 0.5}
    write_end(tmp_path, SPEC.base, EndedTrial("t0000", overrides, "failed", reason="it died"))
    start, end = records_of(tmp_path, "t0000")
    assert (start["kind"], end["kind"]) == ("start", "end")
    assert start["name"].startswith("t0000 beta=0.02 ")
    assert start["params"]["beta"] == "0.02"
    assert start["params"]["num_latent_channels"] == "8"
    assert start["params"]["width"] == str(SPEC.base.width)
    assert start["tags"] == {"status": "running"}
    assert (end["status"], end["error"]) == ("failed", "it died")


def test_a_configuration_that_is_out_of_range_is_told_all_the_same(tmp_path: Path) -> None:
    write_end(tmp_path, SPEC.base, EndedTrial("t0000", {"beta": -1.0}, "failed", reason="why"))
    assert records_of(tmp_path, "t0000")[0]["params"]["beta"] == "-1.0"


def test_an_end_is_written_once_and_only_failures_have_an_error(
    study: SweepStudy, tmp_path: Path
) -> None:
    study.stop("t0000", "the sweep was stopped")
    (ended,) = study.ended_trials()
    for _ in range(2):
        write_end(tmp_path, SPEC.base, ended)
    kinds = [record["kind"] for record in records_of(tmp_path, "t0000")]
    assert kinds == ["start", "metrics", "metrics", "model", "end"]
    end = records_of(tmp_path, "t0000")[-1]
    assert (end["status"], end["error"]) == ("stopped", None)
