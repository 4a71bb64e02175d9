"""The frontier in a terminal and in MLflow's description of a sweep."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH
from rich.console import Console, RenderableType

from analysis.report.report import write_report
from analysis.store.runs import Sweep, read_sweep
from rdmodels.results.trial import Seconds, TrialResult
from sweep.cli.tables import (
    frontier_table,
    models_table,
    print_delivery,
    print_outcome,
    result_table,
    seconds_line,
)
from sweep.directory import frontier_note
from sweep.run.launch import Outcome
from sweep.run.progress import Standing, SweepProgress
from sweep.tracking.quarantine import Delivery
from tests.analysis.tracked import Trial, build_sweep, figures
from tests.conftest import CORNER, SOUND

ALONE = "stand- alone"


def shown(table: RenderableType, width: int = 110) -> str:
    """What the terminal shows, a heading's lines joined by column, spaces as one."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def headings(table: object) -> list[str]:
    return [" ".join(column.header.split()) for column in table.columns]


def sweep_of(
    tmp_path: Path, space: tuple[str, ...], *, distortion: str = "mse", **more: float
) -> Sweep:
    trials = []
    for index in range(3):
        params = {"beta": 0.01, "num_latent_channels": 8 * 2**index, "h_target": 1.0}
        params |= {"width": 32, "normalisation": "a|b" if index else "group"}
        best = figures(0.1 + index / 10, 20.0 + index) | more
        test = figures(0.11 + index / 10, 19.5 + index) | more
        trials.append(Trial(params=params, best=best, test=test))
    return read_sweep(build_sweep(tmp_path / "sweeps", trials, space=space, distortion=distortion))


def test_the_frontier_has_the_fields_that_were_searched(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, ("normalisation", "num_latent_channels"))
    table = frontier_table(sweep)
    assert headings(table) == [
        *("trial", "num_ latent_ channels", "normalisation"),
        *("val bpp", "val PSNR, dB", "test bpp", "test PSNR, dB"),
    ]
    row = next(line for line in shown(table).splitlines() if line.strip().startswith("t0002"))
    assert row.split() == ["t0002", "32", "a|b", "0.3000", "22.00", "0.3100", "21.50"]
    assert "archive" not in shown(table)


def test_the_stand_alone_rate_is_beside_it_if_it_is_another_one(tmp_path: Path) -> None:
    table = frontier_table(sweep_of(tmp_path, ("beta",), bpp_standalone=0.7))
    assert headings(table)[2:] == [
        *("val bpp", f"val bpp {ALONE}", "val PSNR, dB"),
        *("test bpp", f"test bpp {ALONE}", "test PSNR, dB"),
    ]
    text = " ".join(shown(table).split())
    assert "0.1000 0.7000 20.00 0.1100 0.7000 19.50" in text
    assert "Images above 64x64 px always have a stream each." in text


def test_a_table_of_the_usual_fields_fits_a_narrow_terminal(tmp_path: Path) -> None:
    space = ("beta", "num_latent_channels", "h_target")
    sweep = sweep_of(tmp_path, space, bpp_standalone=0.7)
    sweep.trials["beta"] = 0.00432109
    row = ["t0000", "0.00432", "8", "1", "0.1000", "0.7000", "20.00", "0.1100", "0.7000", "19.50"]
    assert row in [line.split() for line in shown(frontier_table(sweep), width=80).splitlines()]
    narrow = shown(frontier_table(sweep), width=60)
    assert "…" not in narrow


def test_what_is_maximised_is_in_the_table(tmp_path: Path) -> None:
    table = frontier_table(sweep_of(tmp_path, ("beta",), distortion="ms_ssim", ms_ssim_db=12.0))
    assert headings(table)[2:5] == ["val bpp", "val PSNR, dB", "val MS-SSIM, dB"]
    assert headings(table)[5:] == ["test bpp", "test PSNR, dB", "test MS-SSIM, dB"]


def models(**more: object) -> pd.DataFrame:
    rows = {"model": ["[a]", "b"], "distortion": "mse", "num_latent_channels": 8, "beta": 0.1}
    rows |= {"h_target": [0.5, 1.0], "width": [32, 64], "seed": 0, "test_images": 40}
    return pd.DataFrame(rows | {"test_bpp": [0.1, 0.2], "test_psnr_db": [20.0, None]} | more)


def test_models_are_told_apart_by_what_differs() -> None:
    table = models_table(models())
    assert headings(table) == ["model", "h_ target", "width", "test bpp", "test PSNR, dB"]
    text = shown(table)
    # Not taken for markup.
    assert "[a]" in text
    assert "–" in text
    more = models(test_images=[40, 41], beta=[0.1, 0.2], distortion=["mse", "ms_ssim"])
    table = models_table(more.assign(test_ms_ssim_db=12.0, test_bpp_standalone=0.7))
    assert headings(table) == [
        *("model", "beta", "h_ target", "distortion", "width", "test_ images"),
        *("test bpp", f"test bpp {ALONE}", "test PSNR, dB", "test MS-SSIM, dB"),
    ]


def test_a_single_model_has_the_usual_fields() -> None:
    assert headings(models_table(models().head(1)))[:4] == [
        *("model", "beta", "num_ latent_ channels", "h_ target")
    ]


@pytest.mark.parametrize("standalone", [SOUND.bpp, 0.75])
def test_the_result_of_a_training(standalone: float) -> None:
    seconds = Seconds(training=50.0, statistics=2.0, validation=3.0, storing=1.0, coding=4.0)
    best = dataclasses.replace(SOUND, bpp_standalone=SOUND.bpp)
    test = dataclasses.replace(SOUND, bpp_standalone=standalone)
    result = TrialResult(4, 5, seconds, best, test, collapsed=None)
    table = result_table(result)
    alone = [f"bpp {ALONE}"] if standalone == 0.75 else []
    names = ["images", "bpp", *alone, "bpp estimated", "bits/symbol estimated"]
    names += ["rate / target", "PSNR, dB", "SSIM"]
    assert headings(table) == names
    text = shown(table)
    row = next(line for line in text.splitlines() if line.strip().startswith("test"))
    expected = ["test", "0.2100", "0.7500", "0.2000", "0.8000", "1.020", "20.00", "–"]
    assert row.split() == [cell for cell in expected if alone or cell != "0.7500"]
    assert ("archive" in text) == bool(alone)
    assert seconds_line(seconds) == (
        "Time: 50.0 s training, 2.0 s statistics, 3.0 s validation, 1.0 s storing, 4.0 s coding;"
        " 83% of it training steps"
    )


def test_the_closing_line_of_a_launch_has_the_unit_of_the_hypervolume() -> None:
    progress = SweepProgress(3, 2, CORNER)
    progress.standing = Standing(complete=2, failed=1, hypervolume=12.3456)
    outcome = Outcome(Path("sweeps/a"), progress, Delivery(0, 0))
    console = Console(width=110, color_system=None)
    with console.capture() as capture:
        print_outcome(console, console, outcome, None)
    line = "2 complete, 1 failed; hypervolume 12.346 log2(bpp) × dB"
    assert capture.get().splitlines()[0] == line
    progress.standing = Standing(complete=2, collapsed=("t0001: the rate went to zero",))
    with console.capture() as capture:
        print_outcome(console, console, outcome, None)
    first, second = capture.get().splitlines()[:2]
    assert first == "collapsed: t0001: the rate went to zero"
    assert second.startswith("2 complete, 0 failed, 0 stopped, 1 not started; 1 of the complete")


def note_of(sweep: Sweep, output: Path) -> list[str]:
    document = json.loads(write_report(sweep, output).frontier_json.read_text())
    return frontier_note(document).split("\n\n")


def test_the_description_in_mlflow_is_the_same_table(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, ("normalisation", "num_latent_channels"), ssim=0.9)
    lead, table = note_of(sweep, tmp_path / "report")
    assert "`report.html` is among the artifacts" in lead
    assert "report/" not in lead
    rows = table.splitlines()
    names = "num_latent_channels | normalisation | val_bpp | val_psnr_db | test_bpp | test_psnr_db"
    assert rows[0] == f"| trial_id | {names} |"
    assert rows[1] == "|" + " --- |" * 7
    assert rows[4] == "| t0002 | 32 | a\\|b | 0.3 | 22 | 0.31 | 21.5 |"


def test_the_description_in_mlflow_says_whose_rates_they_are(tmp_path: Path) -> None:
    trial = Trial(
        params={"beta": 0.01, "num_latent_channels": 8, "h_target": 1.0},
        best=figures(0.5, 20.0) | {"bpp_standalone": 0.9},
        test=figures(0.5, None) | {"bpp_standalone": 0.9},
    )
    sweep = read_sweep(build_sweep(tmp_path / "sweeps", [trial], space=("beta",)))
    _, table, note = note_of(sweep, tmp_path / "report")
    assert "| val_bpp | val_bpp_standalone | val_psnr_db |" in table
    assert table.endswith("| t0000 | 0.01 | 0.5 | 0.9 | 20 | 0.5 | 0.9 | – |")
    assert note.startswith("Rates are those of an archive")


@pytest.mark.parametrize("count", [2, 75, 76, 500])
def test_a_description_is_as_long_as_mlflow_takes(count: int) -> None:
    names = ["trial_id", "beta", "val_bpp"]
    points = [
        {"trial_id": f"t{i:04d}", "beta": f"{'b' * 80}{i:04d}", "val_bpp": 0.5}
        for i in range(count)
    ]
    document = {"short_columns": names, "points": points, "rate_note": "A note."}
    text = frontier_note(document)
    assert len(text) <= MAX_TAG_VAL_LENGTH
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| t0")]
    assert (rows[0], rows[-1]) == ("| t0000", f"| t{count - 1:04d}")
    whole = f"It has {count} points, of which some are here" not in text
    assert whole == (len(rows) == count)
    # A row has 102 characters.
    assert len(rows) == min(count, 75)


def test_a_description_of_an_empty_frontier_is_a_heading() -> None:
    document = {"short_columns": ["trial_id"], "points": [], "rate_note": None}
    assert frontier_note(document).endswith("\n\n| trial_id |\n| --- |")


def test_records_that_the_store_has_not_got_are_counted_with_the_way_to_send_them() -> None:
    for delivery, words, absent in (
        (Delivery(0, 0), [], "warning"),
        (Delivery(3, 0), ["3 record(s) wait", "`rdsweep report 'my sweep'` sends"], "rejected"),
        (Delivery(0, 2), ["rejected 2 record(s)", "*.quarantine", "--replay` sends"], "wait"),
    ):
        console = Console(width=200, color_system=None)
        with console.capture() as capture:
            print_delivery(console, delivery, "my sweep")
        assert all(word in capture.get() for word in words)
        assert absent not in capture.get()
