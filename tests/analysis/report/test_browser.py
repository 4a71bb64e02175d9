"""The report in a real browser, from disk and without a network."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.frontier import frontier
from analysis.report.evaluation import write_evaluation
from analysis.report.report import write_report
from analysis.store.runs import Sweep, read_sweep
from tests.analysis.tracked import png

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
POINTS_DRAWN = """plot => Object.fromEntries(
    [...document.querySelectorAll(`#${plot} .scatterlayer .trace`)].map(
        trace => [trace.__data__[0].trace.name, trace.querySelectorAll(".point").length]))"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class Visit:
    """A page, what it asked for and what it complained of."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#rd-plot .scatterlayer .trace")

    def column(self, table: str, index: int) -> list[str]:
        cells = self.page.locator(f"#{table} tbody tr td:nth-child({index})")
        return [text.strip() for text in cells.all_inner_texts()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def sweep(built: Path) -> Sweep:
    return read_sweep(built)


@pytest.fixture(scope="module")
def report(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sweep, tmp_path_factory.mktemp("browser")).html.as_uri()


def visit(browser: Browser, address: str, width: int = 1280) -> Visit:
    context = browser.new_context(offline=True, viewport={"width": width, "height": 900})
    return Visit(context.new_page(), address)


@pytest.fixture(scope="module")
def seen(browser: Browser, report: str) -> Visit:
    return visit(browser, report)


def test_it_asks_for_nothing_and_complains_of_nothing(seen: Visit, report: str) -> None:
    seen.page.locator(".failures").scroll_into_view_if_needed()
    assert report in seen.requests
    for address in seen.requests:
        assert address == report or address.startswith(("data:", "blob:")), address
    assert seen.complaints == []


def test_no_button_uploads_a_plot(seen: Visit) -> None:
    buttons = seen.page.locator("#rd-plot .modebar-btn")
    names = [buttons.nth(index).get_attribute("data-title") for index in range(buttons.count())]
    assert len(names) == 4
    assert not [name for name in names if "loud" in str(name) or "hare" in str(name)]


def test_every_point_is_drawn(seen: Visit, sweep: Sweep) -> None:
    count = len(frontier(sweep.trials, "mse"))
    assert seen.page.evaluate(POINTS_DRAWN, "rd-plot") == {
        "dominated": 24 - count,
        "frontier, validation": count,
        "frontier, test images": count,
    }
    axes = seen.page.locator("#rd-plot").inner_text()
    assert "rate, bpp (bytes written)" in axes
    assert "PSNR, dB" in axes


def test_unfinished_trials_are_behind_the_legend(seen: Visit) -> None:
    seen.page.locator("#rd-plot .legendtoggle").first.click()
    seen.page.locator("#rd-plot .scatterlayer .trace").nth(3).wait_for(state="attached")
    assert seen.page.evaluate(POINTS_DRAWN, "rd-plot")["pruned, estimated rate"] == 1


def test_pointing_at_a_mark_shows_the_trial(seen: Visit, sweep: Sweep) -> None:
    best = frontier(sweep.trials, "mse").iloc[-1]
    mark = seen.page.locator("#rd-plot .trace", has=seen.page.locator(".js-line")).locator(
        ".point"
    )
    box = mark.last.bounding_box()
    assert box
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    hover = seen.page.locator("#rd-plot .hovertext")
    hover.first.wait_for()
    text = hover.first.text_content() or ""
    for expected in (best["trial_id"], "num_latent_channels = ", f"{best['val_psnr_db']:.2f}"):
        assert expected in text


def test_the_tables_have_a_row_a_trial(seen: Visit, sweep: Sweep) -> None:
    members = frontier(sweep.trials, "mse")
    assert seen.column("frontier", 1) == members["trial_id"].tolist()
    assert seen.column("trials", 1) == sweep.trials["trial_id"].tolist()
    assert seen.column("trials", 2) == sweep.trials["status"].tolist()


def test_a_heading_sorts_by_number_with_missing_values_last(seen: Visit, sweep: Sweep) -> None:
    head = seen.page.locator("#trials th button", has_text="PSNR, dB").first
    ids = sweep.trials.sort_values("val_psnr_db", kind="stable")["trial_id"].tolist()
    missing = int(sweep.trials["val_psnr_db"].isna().sum())
    head.click()
    assert seen.column("trials", 1)[:-missing] == ids[:-missing]
    head.click()
    assert seen.column("trials", 1)[0] == ids[-missing - 1]
    assert set(seen.column("trials", 1)[-missing:]) == set(ids[-missing:])
    assert seen.page.locator("#trials th[aria-sort=descending]").count() == 1
    seen.page.locator("#trials th button").first.click()
    assert seen.column("trials", 1) == sweep.trials["trial_id"].tolist()


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_its_window_and_shows_something(browser: Browser, report: str, width: int) -> None:
    found = visit(browser, report, width)
    inner: Any = found.page.evaluate("document.documentElement.scrollWidth")
    assert inner <= width
    wide = found.page.evaluate(
        """[...document.querySelectorAll(".multiples .main-svg")].filter(plot =>
            plot.getBoundingClientRect().width > plot.closest(".multiples > *").clientWidth + 1
        ).length"""
    )
    assert wide == 0
    shot = Image.open(io.BytesIO(found.page.screenshot())).convert("L")
    assert np.asarray(shot).std() > 5
    assert len(np.unique(np.asarray(shot))) > 20


def test_the_evaluation_page_opens_too(browser: Browser, tmp_path: Path) -> None:
    rows = {"model": ["a", "b", "c"], "dataset": ["digits", "digits", "mnist"], "beta": 0.1}
    rows |= {"num_latent_channels": 8, "h_target": 1.0}
    rows |= {"test_bpp": [0.5, 0.2, 0.3], "test_psnr_db": [25.0, 22.0, None]}
    path = write_evaluation(pd.DataFrame(rows), {"a": png()}, tmp_path / "evaluation.html")
    found = visit(browser, path.as_uri())
    assert found.complaints == []
    assert found.requests[0] == path.as_uri()
    assert all(each.startswith(("data:", "blob:")) for each in found.requests[1:])
    assert found.page.evaluate(POINTS_DRAWN, "rd-plot") == {"digits": 2, "mnist": 0}
    assert found.column("models", 1) == ["b", "c", "a"]
