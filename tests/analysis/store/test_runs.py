"""A sweep is read back as it was logged; what cannot be read is said clearly."""

import math
import os
import time
from pathlib import Path

import pytest
from mlflow.entities import Metric

from analysis.store import runs
from analysis.store.columns import FIGURES, trial_columns
from analysis.store.runs import read_sweep
from analysis.store.sweeps import find_sweep
from rdmodels.errors import SweepReadError
from rdmodels.results.sweep import read_info
from rdmodels.results.trial import WRITTEN, metric_keys
from tests.analysis.tracked import (
    NASTY,
    SWEEP_ID,
    Trial,
    build_sweep,
    client_of,
    demo_trials,
    estimate,
    figures,
    log_trial,
    rewrite,
    set_tags,
)

PARAMS = {"beta": 0.01, "num_latent_channels": 16, "h_target": 1.0}
BEST = [f"best/{name}" for name in FIGURES]


def test_a_row_a_trial_with_typed_columns(built: Path) -> None:
    sweep = read_sweep(built)
    trials, logged = sweep.trials, demo_trials()
    assert list(trials.columns) == trial_columns(sweep.info)
    assert trials["trial_id"].tolist() == [f"t{index:04d}" for index in range(len(logged))]
    assert trials["status"].tolist() == [trial.status for trial in logged]
    assert trials["beta"].tolist() == [trial.params["beta"] for trial in logged]
    names = ["beta", "num_latent_channels", "h_target", "normalisation", "epochs_done", "val_bpp"]
    kinds = ["float64", "Int64", "float64", "str", "int64", "float64"]
    assert [str(trials[name].dtype) for name in names] == kinds
    assert (sweep.status, sweep.seconds) == ("complete", 125.0)
    assert sweep.shared == {"dataset": "digits", "epochs": "3"}
    assert sweep.info.corner == (4.0, 10.0)
    assert sweep.info.data.test.images == 360


def test_columns_are_named_after_what_was_logged(built: Path) -> None:
    assert trial_columns(read_info(built)) == [
        *("trial_id", "run_id", "status", "beta", "num_latent_channels", "h_target"),
        *("normalisation", "epochs_done", "train_seconds", "training_share"),
        *(key.replace("best/", "val_") for key in metric_keys() if key in BEST),
        *(key.replace("/", "_") for key in metric_keys() if key.startswith("test/")),
        *("collapsed", "error"),
    ]
    assert {"bpp", "bpp_standalone", "bpp_estimated", "psnr_db", "ms_ssim_db"} < set(FIGURES)
    assert "bits_per_symbol" not in FIGURES


def test_figures_by_status(built: Path) -> None:
    trials = read_sweep(built).trials.set_index("trial_id")
    logged = demo_trials()[0]
    assert trials.loc["t0000", "val_psnr_db"] == logged.best["psnr_db"]
    assert trials.loc["t0000", "test_psnr_db"] == logged.test["psnr_db"]
    pruned, stopped, failed, _ = (trials.iloc[index] for index in range(-4, 0))
    assert (pruned["val_bpp_estimated"], pruned["epochs_done"]) == (estimate(0.4), 1)
    assert all(math.isnan(pruned[f"val_{name}"]) for name in WRITTEN)
    assert math.isnan(pruned["test_bpp"])
    assert math.isnan(stopped["val_psnr_db"])
    assert math.isnan(failed["val_bpp"])
    assert (failed["error"], failed["epochs_done"]) == (NASTY, 0)
    assert trials["error"].isna().sum() == len(trials) - 1


def test_best_and_latest_are_not_mixed(tmp_path: Path) -> None:
    trial = Trial("complete", PARAMS, figures(9.0, 9.0), figures(0.5, None), figures(0.6, 30.0))
    row = read_sweep(build_sweep(tmp_path, [trial])).trials.iloc[0]
    assert (row["val_bpp"], row["test_bpp"], row["test_psnr_db"]) == (0.5, 0.6, 30.0)
    assert row["val_bpp_estimated"] == estimate(0.5)
    assert math.isnan(row["val_psnr_db"])


def test_the_last_of_two_values_for_an_epoch_counts(tmp_path: Path) -> None:
    directory = build_sweep(tmp_path, [Trial("pruned", PARAMS, figures(0.4, 19.0))])
    run_id = read_sweep(directory).trials["run_id"].iloc[0]
    client, _ = client_of(directory)
    later = [
        Metric("val/bpp_estimated", 0.3, 99_000, 2),
        Metric("val/psnr_db", math.inf, 99_000, 2),
    ]
    client.log_batch(run_id, metrics=later)
    row = read_sweep(directory).trials.iloc[0]
    assert (row["val_bpp_estimated"], row["epochs_done"]) == (0.3, 3)
    assert math.isnan(row["val_psnr_db"])


def test_every_page_is_read_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_sweep(built).trials
    monkeypatch.setattr(runs, "PAGE", 5)
    assert read_sweep(built).trials.equals(whole)


def test_other_sweeps_of_the_experiment_are_left_out(tmp_path: Path) -> None:
    one = build_sweep(tmp_path, [Trial(params=PARAMS)], name="one", sweep_id="one-1")
    two = build_sweep(tmp_path, [Trial(params=PARAMS)] * 2, name="two", sweep_id="two-2")
    assert [len(read_sweep(each).trials) for each in (one, two)] == [1, 2]


def test_an_empty_second_run_of_a_trial_is_dropped(tmp_path: Path) -> None:
    good = Trial("complete", PARAMS, figures(0.4, 19.0), figures(0.4, 19.0), figures(0.5, 18.0))
    directory = build_sweep(tmp_path, [good])
    expected = read_sweep(directory).trials
    client, info = client_of(directory)
    empty = Trial("running", epochs=0)
    args = (info["experiment_id"], info["parent_run_id"], SWEEP_ID, directory, 0, empty)
    log_trial(client, *args)
    assert read_sweep(directory).trials.equals(expected)


def test_searched_fields_of_every_kind(tmp_path: Path) -> None:
    trials = [
        Trial(params={**PARAMS, "importance_map": flag, "train_images": count})
        for flag, count in ((True, None), (False, 100))
    ]
    trials.append(Trial("running", epochs=0))
    space = ("beta", "importance_map", "train_images")
    frame = read_sweep(build_sweep(tmp_path, trials, space=space)).trials
    assert frame["importance_map"].tolist()[:2] == [True, False]
    assert frame["importance_map"].dtype == "boolean"
    assert frame["train_images"].isna().tolist() == [True, False, True]
    assert frame["train_images"].tolist()[1] == 100
    assert frame["num_latent_channels"].tolist()[:2] == [16, 16]
    assert frame.isna()["beta"].tolist() == [False, False, True]


def test_searching_epochs_is_not_confused_with_epochs_done(tmp_path: Path) -> None:
    trial = Trial("pruned", {**PARAMS, "epochs": 9}, figures(0.4, 19.0), epochs=2)
    sweep = read_sweep(build_sweep(tmp_path, [trial], space=("epochs",)))
    assert sweep.trials.columns.is_unique
    assert sweep.trials[["epochs", "epochs_done"]].to_numpy().tolist() == [[9, 2]]


def test_a_moved_folder_is_read_where_it_is(copied: Path) -> None:
    info = read_info(copied)
    rewrite(copied, tracking_uri="sqlite:////gone/away/mlflow.db")
    sweep = read_sweep(copied)
    assert sweep.tracking_uri == f"sqlite:///{copied.parent}/mlflow.db"
    assert sweep.tracking_uri != info.tracking_uri
    assert len(sweep.trials) == len(demo_trials())


def test_a_sweep_is_found_by_path_and_by_id(built: Path) -> None:
    assert find_sweep(str(built)) == built
    assert find_sweep(SWEEP_ID, built.parent) == built


def test_a_sweep_that_is_not_there_is_answered_with_those_that_are(copied: Path) -> None:
    broken = copied.parent / "broken"
    broken.mkdir()
    (broken / "sweep.json").write_text("{")
    with pytest.raises(SweepReadError) as caught:
        find_sweep("nothing", copied.parent)
    assert f"{SWEEP_ID} (demo)" in str(caught.value)
    assert f"{broken} (unreadable)" in str(caught.value)
    with pytest.raises(SweepReadError, match=r"directory without sweep\.json.*has no sweep"):
        find_sweep(str(copied / "trials"), copied / "trials")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("\xff", "cannot be read"),
        ("[]", "does not describe a sweep: the file"),
        ('{"version": 2, "sweep_id": "a"}', "name: Field required"),
        ('{"sweep_id": "a"}', "has version 1, this program reads 2"),
    ],
)
def test_a_corrupt_description_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SweepReadError, match=message) as caught:
        read_info(tmp_path)
    assert str(tmp_path / "sweep.json") in str(caught.value)


def test_a_reference_without_its_keys_is_named(copied: Path) -> None:
    rewrite(copied, hypervolume_reference={"bpp": 4.0})
    with pytest.raises(SweepReadError, match="needs bpp and psnr_db for distortion mse"):
        read_info(copied)


def test_a_directory_that_is_no_sweep_is_named(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SweepReadError, match=r"is not a sweep: it has no sweep\.json"):
            read_info(directory)


def test_a_store_that_is_gone_or_no_store_is_named(copied: Path) -> None:
    rewrite(copied, tracking_uri="sqlite:////gone/mlflow.db")
    store = copied.parent / "mlflow.db"
    store.write_text("no database")
    with pytest.raises(SweepReadError, match="not a tracking store of MLflow"):
        read_sweep(copied)
    store.write_bytes(b"")
    with pytest.raises(SweepReadError, match="no such table"):
        read_sweep(copied)
    assert store.stat().st_size == 0
    store.unlink()
    with pytest.raises(SweepReadError, match="move the database along"):
        read_sweep(copied)
    assert not store.exists()


def test_a_dead_server_is_given_up_on_soon(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    rewrite(copied, tracking_uri="http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(SweepReadError, match=r"http://127\.0\.0\.1:9 does not answer"):
        read_sweep(copied)
    assert time.monotonic() - started < 30
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"


def test_a_sweep_without_trials_is_an_error(copied: Path) -> None:
    rewrite(copied, sweep_id="another")
    with pytest.raises(SweepReadError, match="another has no trial in sqlite:"):
        read_sweep(copied)


def test_the_latest_status_is_read(copied: Path) -> None:
    rewrite(copied, tracking_uri=f"sqlite:///{copied.parent}/mlflow.db")
    client, info = client_of(copied)
    set_tags(client, info["parent_run_id"], status="stopped")
    assert read_sweep(copied).status == "stopped"
