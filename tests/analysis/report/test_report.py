"""Reports: exact CSV columns, valid JSON, pages that hold everything they need and escape it."""

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis.frontier import frontier
from analysis.report import page
from analysis.report.document import conventions
from analysis.report.formats import spread
from analysis.report.report import ReportFiles, write_evaluation, write_report
from analysis.store.runs import read_sweep
from tests.analysis.tracked import NASTY, Trial, build_sweep, figures, png

PARAMS = {"beta": 0.01, "num_latent_channels": 16, "h_target": 1.0}
SPACE = ("beta", "num_latent_channels", "h_target")
COLUMNS = (
    "trial_id,run_id,beta,num_latent_channels,h_target,val_bpp,val_psnr_db,test_bpp,test_psnr_db"
)


class Tags(HTMLParser):
    """Every element with its attributes, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data

    def addresses(self) -> Iterator[str]:
        for _, attributes in self.elements:
            for name in ("src", "href", "action", "data", "srcset"):
                if attributes.get(name):
                    yield str(attributes[name])


@pytest.fixture(scope="module")
def files(built: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(read_sweep(built), tmp_path_factory.mktemp("report") / "deep" / "er")


def lone(tmp_path: Path, *trials: Trial, **options: object) -> ReportFiles:
    directory = build_sweep(tmp_path / "sweeps", trials, **({"space": SPACE} | options))
    return write_report(read_sweep(directory), tmp_path / "report")


def complete(rate: float, psnr_db: float | None, **more: float) -> Trial:
    both = figures(rate, psnr_db) | more
    return Trial("complete", PARAMS, both, both, both)


def test_csv_columns_are_exact(tmp_path: Path) -> None:
    files = lone(tmp_path, complete(0.5, 25.0), complete(0.4, None))
    frontier_lines = files.frontier_csv.read_text().splitlines()
    assert frontier_lines[0] == COLUMNS
    assert [line.split(",")[0] for line in frontier_lines[1:]] == ["t0000"]
    header, first, second = csv.reader(files.trials_csv.read_text().splitlines())
    assert header == [*COLUMNS.split(","), "status", "epochs", "train_seconds"]
    assert first[2:9] == ["0.01", "16", "1.0", "0.5", "25.0", "0.5", "25.0"]
    assert second[5:] == ["0.4", "", "0.4", "", "complete", "3", "12.5"]


def test_further_searched_fields_come_after(built: Path, files: ReportFiles) -> None:
    rows = pd.read_csv(files.frontier_csv)
    assert list(rows) == [*COLUMNS.split(","), "normalisation"]
    sweep = read_sweep(built)
    expected = frontier(sweep.trials, "mse")
    assert rows["trial_id"].tolist() == expected["trial_id"].tolist()
    assert rows["val_bpp"].tolist() == expected["val_bpp"].tolist()
    assert rows["val_bpp"].is_monotonic_increasing
    assert len(pd.read_csv(files.trials_csv)) == len(sweep.trials)


def test_ms_ssim_is_written_where_it_is_maximised(tmp_path: Path) -> None:
    trials = [complete(0.5, 25.0, ms_ssim=0.99), complete(0.4, 26.0, ms_ssim=0.9)]
    files = lone(tmp_path, *trials, distortion="ms_ssim")
    lines = files.frontier_csv.read_text().splitlines()
    assert lines[0] == f"{COLUMNS},val_ms_ssim,test_ms_ssim"
    assert len(lines) == 3
    document = json.loads(files.frontier_json.read_text())
    assert document["hypervolume_reference"] == {"bpp": 2.0, "ms_ssim_db": 0.0}
    assert document["hypervolume"] == pytest.approx(1.5 * 20 + 0.1 * 10)
    assert "MS-SSIM, dB" in files.html.read_text()


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
    assert document["hypervolume_reference"] == {"bpp": 2.0, "psnr_db": 10.0}
    assert document["hypervolume"] > 0
    assert len(document["points"]) == len(frontier(read_sweep(built).trials, "mse"))
    assert document["points"][0]["val_ms_ssim"] is None
    assert isinstance(document["points"][0]["num_latent_channels"], int)
    assert len(document["conventions"]) >= 4
    assert document["conventions"][0].startswith("bpp: ")


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
    assert "All trials have the same settings" in files.html.read_text()


def test_no_complete_trial_gives_a_page_with_the_failures(tmp_path: Path) -> None:
    failed = Trial("failed", PARAMS, epochs=0, error=NASTY)
    files = lone(tmp_path, failed, Trial("failed", PARAMS, epochs=0), Trial("running", {}))
    assert files.frontier_csv.read_text() == COLUMNS + "\n"
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


def test_pictures_are_spread_and_keep_both_ends() -> None:
    assert spread(0, page.MOST_PICTURES) == []
    assert spread(1, page.MOST_PICTURES) == [0]
    assert spread(5, page.MOST_PICTURES) == [0, 1, 2, 3, 4]
    assert spread(100, page.MOST_PICTURES)[0] == 0
    assert spread(100, page.MOST_PICTURES)[-1] == 99
    assert len(spread(100, page.MOST_PICTURES)) == page.MOST_PICTURES


def models(**more: object) -> pd.DataFrame:
    rows = {"model": ["b/high", "a low"], "dataset": "digits", "width": 32, "seed": [0, 1]}
    rows |= {"beta": [0.01, 0.1], "num_latent_channels": 16, "h_target": 1.0}
    return pd.DataFrame(rows | {"test_bpp": [0.9, 0.3], "test_psnr_db": [28.0, 24.0]} | more)


def test_evaluation_of_separate_models(tmp_path: Path) -> None:
    pictures = {"b/high": png(1), "a low": png(2)}
    path = write_evaluation(models(test_ssim=[0.9, None]), pictures, tmp_path / "x" / "page.html")
    assert path == tmp_path / "x" / "page.html"
    text = path.read_text()
    assert text.count("plotly.js v") == 1
    tags = Tags(text)
    assert len([tag for tag, _ in tags.elements if tag == "img"]) == 2
    heads = "".join(tags.text.split())
    # The seed differs between the models and is shown; the width does not.
    assert "seed" in heads
    assert "width" not in heads
    assert conventions()[0] in tags.text


def test_evaluation_without_psnr_or_pictures_in_a_directory(tmp_path: Path) -> None:
    path = write_evaluation(models().drop(columns="test_psnr_db"), {}, tmp_path)
    assert path == tmp_path / "evaluation.html"
    assert "Reconstructions" not in Tags(path.read_text()).text
