"""Reports: exact CSV columns, valid JSON, pages that hold everything they need and escape it."""

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.frontier import frontier
from analysis.report import page
from analysis.report.columns import TRIAL_COLUMNS
from analysis.report.conventions import ARCHIVE_RATES
from analysis.report.report import ReportFiles, write_report
from analysis.store.runs import read_sweep
from rdmodels.coding.streams import STREAM_IMAGES, STREAM_PIXELS
from tests.analysis.report.tags import Tags
from tests.analysis.tracked import NASTY, Trial, build_sweep, estimate, figures

PARAMS = {"beta": 0.01, "num_latent_channels": 16, "h_target": 1.0}
SPACE = ("beta", "num_latent_channels", "h_target")
COLUMNS = (
    "trial_id,run_id,beta,num_latent_channels,h_target,val_bpp,val_psnr_db,test_bpp,test_psnr_db"
)
RATES = (
    "val_bpp_standalone,test_bpp_standalone,val_bpp_estimated,test_bpp_estimated"
    ",val_rate_over_target,test_rate_over_target"
)
SHARED = {"bpp_standalone": 0.9}
"""Of a complete trial whose images share streams."""


@pytest.fixture(scope="module")
def files(built: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(read_sweep(built), tmp_path_factory.mktemp("report") / "deep" / "er")


def lone(tmp_path: Path, *trials: Trial, **options: object) -> ReportFiles:
    directory = build_sweep(tmp_path / "sweeps", trials, **({"space": SPACE} | options))
    return write_report(read_sweep(directory), tmp_path / "report")


def text_of(files: ReportFiles) -> str:
    """What a reader of the page reads, spaces as one."""
    return " ".join(Tags(files.html.read_text()).text.split())


def complete(rate: float, psnr_db: float | None, **more: float) -> Trial:
    both = figures(rate, psnr_db) | more
    return Trial("complete", PARAMS, both, both, both)


def test_csv_columns_are_exact(tmp_path: Path) -> None:
    pruned = Trial("pruned", PARAMS, figures(0.2, 19.0))
    empty = dataclasses.replace(complete(0.4, None), collapsed="the rate went to zero")
    files = lone(tmp_path, complete(0.5, 25.0, **SHARED, rate_over_target=1.25), empty, pruned)
    frontier_lines = files.frontier_csv.read_text().splitlines()
    assert frontier_lines[0] == f"{COLUMNS},{RATES}"
    assert [line.split(",")[0] for line in frontier_lines[1:]] == ["t0000"]
    header, first, second, third = csv.reader(files.trials_csv.read_text().splitlines())
    assert header == [*COLUMNS.split(","), *RATES.split(","), *TRIAL_COLUMNS]
    assert first[2:9] == ["0.01", "16", "1.0", "0.5", "25.0", "0.5", "25.0"]
    assert first[9:15] == ["0.9", "0.9", "0.45", "0.45", "1.25", "1.25"]
    assert second[5:9] == ["0.4", "", "0.4", ""]
    assert first[15:] == ["complete", "3", "12.5", "0.8", ""]
    assert second[15:] == ["complete", "3", "12.5", "0.8", "the rate went to zero"]
    # No rate but the estimate: an unfinished trial has written nothing.
    rates = ["", "", str(estimate(0.2)), "", "", ""]
    assert third[5:] == ["", "19.0", "", "", *rates, "pruned", "3", "", "", ""]


def test_collapsed_trials_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    empty = dataclasses.replace(complete(0.1, 12.0), collapsed=f"the rate went to zero {NASTY}")
    files = lone(tmp_path, complete(0.5, 25.0), empty)
    text = text_of(files)
    assert "Collapsed trials" in text
    assert f"t0001 the rate went to zero {NASTY}" in text
    assert NASTY not in files.html.read_text()
    points = json.loads(files.frontier_json.read_text())["points"]
    assert [point["collapsed"] for point in points] == [f"the rate went to zero {NASTY}", None]
    sound = lone(tmp_path / "sound", complete(0.5, 25.0))
    assert "Collapsed" not in text_of(sound)


def test_the_target_that_was_set_is_the_column(tmp_path: Path) -> None:
    space = ("beta", "num_latent_channels", "target_bpp")
    given = {"beta": 0.01, "num_latent_channels": 16, "h_target": None, "target_bpp": 0.4}
    both = figures(0.5, 25.0)
    files = lone(tmp_path, Trial("complete", given, both, both, both), space=space)
    (row,) = pd.read_csv(files.frontier_csv).to_dict("records")
    assert row["target_bpp"] == 0.4
    assert "target_bpp" in text_of(files)
    assert "h_target" not in row


def test_further_searched_fields_come_after(built: Path, files: ReportFiles) -> None:
    rows = pd.read_csv(files.frontier_csv)
    assert list(rows) == [*COLUMNS.split(","), "normalisation", *RATES.split(",")]
    sweep = read_sweep(built)
    expected = frontier(sweep.trials, "mse")
    assert rows["trial_id"].tolist() == expected["trial_id"].tolist()
    assert rows["val_bpp"].tolist() == expected["val_bpp"].tolist()
    assert rows["val_bpp"].is_monotonic_increasing
    assert len(pd.read_csv(files.trials_csv)) == len(sweep.trials)


def test_ms_ssim_is_written_where_it_is_maximised(tmp_path: Path) -> None:
    trials = [complete(1.0, 25.0, ms_ssim_db=20.0), complete(0.5, 26.0, ms_ssim_db=15.0)]
    files = lone(tmp_path, *trials, distortion="ms_ssim")
    lines = files.frontier_csv.read_text().splitlines()
    assert lines[0] == f"{COLUMNS},val_ms_ssim_db,test_ms_ssim_db,{RATES}"
    assert len(lines) == 3
    document = json.loads(files.frontier_json.read_text())
    assert document["maximised"] == "val_ms_ssim_db"
    assert document["hypervolume_reference"] == {"bpp": 4.0, "ms_ssim_db": 10.0}
    assert document["hypervolume"] == pytest.approx(2 * 10 + 1 * 5)
    assert "MS-SSIM 15.00–20.00 dB" in text_of(files)
    assert "20.00 dB MS-SSIM" in text_of(files)


def test_json_says_what_the_frontier_is(built: Path, files: ReportFiles) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(name)

    document = json.loads(files.frontier_json.read_text(), parse_constant=no_constant)
    assert document["sweep_id"] == "demo-1a2b3c"
    assert document["trials"] == {
        "complete": 24,
        "pruned": 1,
        "stopped": 1,
        "failed": 1,
        "running": 1,
    }
    assert document["hypervolume_reference"] == {"bpp": 4.0, "psnr_db": 10.0}
    assert document["hypervolume_unit"] == "log2(bpp) × dB"
    assert document["hypervolume"] > 0
    assert document["images"] == {"train": 1078, "validation": 359, "test": 360}
    assert document["data_change"] is None
    assert document["rate_note"] is None
    assert len(document["points"]) == len(frontier(read_sweep(built).trials, "mse"))
    point = document["points"][0]
    assert point["val_ms_ssim"] is None
    assert point["val_bpp_standalone"] == point["val_bpp"] > point["val_bpp_estimated"]
    assert not [key for key in point if key.endswith("bits_per_symbol")]
    assert document["short_columns"] == [
        *("trial_id", "beta", "num_latent_channels", "h_target", "normalisation"),
        *("val_bpp", "val_psnr_db", "test_bpp", "test_psnr_db"),
    ]
    assert isinstance(document["points"][0]["num_latent_channels"], int)
    assert len(document["conventions"]) >= 4
    assert document["conventions"][0].startswith("bpp: ")


def test_the_hypervolume_is_printed_with_its_corner_and_unit(tmp_path: Path) -> None:
    text = text_of(lone(tmp_path, complete(1.0, 25.0), complete(0.5, 20.0), complete(2.0, 22.0)))
    assert "hypervolume 40.00 log2(bpp) × dB, from 4 bpp, 10 dB" in text
    assert "up to the fixed corner of 4 bpp and 10 dB; in log2(bpp) × dB." in text
    assert "rate 0.500–1.00 bpp (bytes written)" in text
    assert "on the frontier 2 points" in text
    assert "complete trials 3 of 3" in text


def test_the_hypervolume_is_of_validation_figures_of_complete_trials(tmp_path: Path) -> None:
    trial = Trial("complete", PARAMS, {}, figures(1.0, 25.0), figures(0.5, 35.0))
    files = lone(tmp_path, trial, Trial("pruned", PARAMS, figures(0.1, 40.0)))
    document = json.loads(files.frontier_json.read_text())
    assert document["hypervolume"] == pytest.approx(2 * 15.0)
    assert len(document["points"]) == 1


def test_rates_are_said_to_be_of_an_archive_where_they_are(tmp_path: Path) -> None:
    files = lone(tmp_path, complete(0.5, 25.0, **SHARED))
    document = json.loads(files.frontier_json.read_text())
    assert document["rate_note"] == ARCHIVE_RATES
    assert document["points"][0]["test_bpp_standalone"] == 0.9
    assert "val_bpp_standalone" in document["short_columns"]
    text = text_of(files)
    lede, rest = text.split("complete trials 1 of 1")
    assert ARCHIVE_RATES in lede
    assert "rate 0.500 bpp (bytes written, shared streams)" in rest
    table = rest.split("reconstructions below.")[1]
    assert "rate, bpp (bytes written, shared streams) bpp standalone (a stream each)" in table
    assert "test: 0.5000 bpp, 0.9000 bpp standalone, 0.4500 bpp estimated, 25.00 dB" in table


def test_rates_are_not_said_to_be_of_an_archive_where_they_are_not(files: ReportFiles) -> None:
    text = text_of(files)
    assert ARCHIVE_RATES not in text
    assert "standalone" not in text
    assert "shared streams" not in text
    assert "rate, bpp (bytes written)" in text


def test_the_archive_is_described_as_it_is_written() -> None:
    assert f"share a stream of up to {STREAM_IMAGES:,}" in ARCHIVE_RATES
    side = math.isqrt(STREAM_PIXELS)
    assert ARCHIVE_RATES.count(f"{side}x{side} px") == 2


def test_a_change_of_the_data_is_a_warning(built: Path, tmp_path: Path) -> None:
    files = write_report(read_sweep(built), tmp_path, "test (360 images, now <361>)")
    tags = Tags(files.html.read_text())
    assert ("p", {"class": "warning"}) in tags.elements
    warning = (
        "The data set has changed since this sweep was launched: test (360 images, now <361>);"
        " its figures are of the images then."
    )
    assert warning in tags.text.split("complete trials")[0]
    document = json.loads(files.frontier_json.read_text())
    assert document["data_change"] == "test (360 images, now <361>)"


def test_the_page_says_which_images_were_used_for_what(files: ReportFiles) -> None:
    text = text_of(files)
    assert "digits, 1078 for training, 359 for validation, 360 for test." in text
    assert "Test images are evaluated for every complete trial" in text
    assert "nothing is chosen on them" in text
    assert "The data set has changed" not in text
    assert ("p", {"class": "warning"}) not in Tags(files.html.read_text()).elements


def test_the_page_is_self_contained(files: ReportFiles) -> None:
    text = files.html.read_text()
    assert text.count("plotly.js v") == 1
    assert len(text) < 7_000_000
    tags = Tags(text)
    assert {tag for tag, _ in tags.elements}.isdisjoint({"iframe", "object", "base"})
    for address in tags.addresses():
        assert address.startswith(("#", "data:")), address
    policies = [a for _, a in tags.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert str(policies[0]["content"]).startswith("default-src 'none'")


def test_texts_from_the_store_are_escaped(files: ReportFiles) -> None:
    text = files.html.read_text()
    assert NASTY not in text
    assert "alert(" not in "".join(re.findall(r"<script[^>]*>.*?</script>", text, re.DOTALL))
    assert NASTY in Tags(text).text


def test_nasty_names_and_values_are_escaped(tmp_path: Path) -> None:
    nasty = {**PARAMS, "dataset": "folder:</script><img src=x onerror=alert(1)>"}
    trials = [complete(0.5, 25.0), complete(0.4, 24.0)]
    trials[0].params = nasty
    files = lone(tmp_path, *trials, space=(*SPACE, "dataset"))
    tags = Tags(files.html.read_text())
    assert not [a for tag, a in tags.elements if tag == "img" and "onerror" in a]


def test_links_lead_to_pictures_of_the_frontier(files: ReportFiles) -> None:
    tags = Tags(files.html.read_text())
    names = {str(a["id"]) for _, a in tags.elements if a.get("id")}
    links = {address[1:] for address in tags.addresses() if address.startswith("#picture-")}
    assert links
    assert links <= names
    pictures = [a for tag, a in tags.elements if tag == "img"]
    assert len(pictures) == page.MOST_PICTURES
    assert all(str(a["src"]).startswith("data:image/png;base64,") for a in pictures)


def test_one_complete_trial_is_a_frontier(tmp_path: Path) -> None:
    files = lone(tmp_path, complete(0.5, 25.0))
    assert "All trials have the same settings" in text_of(files)
    assert "on the frontier 1 point rate" in text_of(files)


def test_no_complete_trial_gives_a_page_with_the_failures(tmp_path: Path) -> None:
    failed = Trial("failed", PARAMS, epochs=0, error=NASTY)
    files = lone(tmp_path, failed, Trial("failed", PARAMS, epochs=0), Trial("running", {}))
    assert files.frontier_csv.read_text() == f"{COLUMNS},{RATES}\n"
    document = json.loads(files.frontier_json.read_text())
    assert (document["points"], document["hypervolume"]) == ([], 0.0)
    text = Tags(files.html.read_text()).text
    assert "This sweep has no frontier: none of its trials is complete." in text
    assert NASTY in text
    assert "no error text was recorded" in text


def test_complete_trials_without_quality_are_said_to_have_none(tmp_path: Path) -> None:
    files = lone(tmp_path, complete(0.5, None))
    text = Tags(files.html.read_text()).text
    assert "no complete trial has both a rate and a quality" in text
    assert "0.000" not in text
