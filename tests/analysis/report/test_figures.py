"""Digits, marks of axes, and figures that escape what they show."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.report.figures import field_figure, models_figure, parallel_figure, rd_figure
from analysis.report.formats import duration, label, shown
from analysis.report.scale import Scale

FIELDS = ("beta", "num_latent_channels", "dataset")


def trials() -> pd.DataFrame:
    rows = {
        "trial_id": ["t0", "t1", "t2", "t3"],
        "status": ["complete", "complete", "complete", "pruned"],
        "beta": [0.001, 0.01, 0.1, 0.1],
        "num_latent_channels": pd.array([8, 16, None, 8], dtype="Int64"),
        "dataset": ["folder:<b>x</b>", "digits", "digits", None],
        "val_bpp": [0.5, 0.2, 0.6, float("nan")],
        "val_bpp_estimated": [0.5, 0.2, 0.6, 0.9],
        "val_psnr_db": [25.0, 22.0, 24.0, 10.0],
        "test_bpp": [0.51, 0.21, 0.61, None],
        "test_psnr_db": [24.5, None, 23.5, None],
    }
    return pd.DataFrame(rows)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(each for each in figure.data if each.name == name)


def test_the_frontier_is_joined_in_ascending_rate() -> None:
    figure = rd_figure(trials(), FIELDS, "mse")
    best = trace(figure, "frontier, validation")
    assert (list(best.x), list(best.y)) == ([0.2, 0.5], [22.0, 25.0])
    test = trace(figure, "frontier, test images")
    assert (list(test.x), list(test.y)) == ([0.21, 0.51], [None, 24.5])
    assert list(trace(figure, "dominated").x) == [0.6]
    assert trace(figure, "pruned").visible == "legendonly"


def test_hover_texts_are_complete_and_escaped() -> None:
    text = trace(rd_figure(trials(), FIELDS, "mse"), "frontier, validation").hovertext[1]
    assert "<b>t0</b>" in text
    assert "dataset = folder:&lt;b&gt;x&lt;/b&gt;" in text
    assert "rate, bpp: 0.5000 / 0.5100" in text
    assert "PSNR, dB: 25.00 / 24.50" in text


def test_missing_settings_leave_gaps() -> None:
    figure = parallel_figure(trials(), FIELDS, "mse")
    assert list(trace(figure, "dominated").y)[:3] == [1.0, None, 0.0]
    assert field_figure(trials(), "beta", "mse").layout.xaxis.type == "log"
    assert field_figure(trials(), "num_latent_channels", "mse").layout.xaxis.type is None
    assert field_figure(trials(), "dataset", "mse").data[2].x == ("digits", "folder:<b>x</b>")


def test_a_single_model_is_a_figure() -> None:
    row = {"model": "m", "dataset": "digits", "test_bpp": 0.5, "test_psnr_db": 20.0}
    assert list(models_figure(pd.DataFrame([row])).data[0].y) == [20.0]


@pytest.mark.parametrize(
    ("values", "log", "marks"),
    [
        ([8, 16, 32, 128], True, [8, 16, 32, 128]),
        ([0.3, 0.1, 0.2], False, [0.1, 0.2, 0.3]),
        ([0.0, 10.0, 1000.0], False, [0.0, 10.0, 1000.0]),
        ([1 + 0.1 * i for i in range(10)], False, [1.0, 1.2, 1.4, 1.6, 1.8]),
        ([10 ** (-i / 2) for i in range(9)], True, [0.0001, 0.001, 0.01, 0.1, 1.0]),
        ([0.00131, 0.00101, 0.0809, 0.00927], True, [0.002, 0.005, 0.01, 0.02, 0.05]),
        ([0.140313, 0.912019, 0.7976], False, [0.2, 0.4, 0.6, 0.8]),
        ([0.140313], False, [0.140313]),
        ([True, False], False, [False, True]),
        ([None, None], False, []),
        ([2.0, 2.0], False, [2.0]),
    ],
)
def test_marks_are_levels_or_round_values(values, log: bool, marks) -> None:
    scale = Scale(pd.Series(values))
    assert scale.log == log
    assert scale.marks() == pytest.approx(marks)
    places = [place for _, place in scale.ticks()]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("val_bpp", 0.12, "0.1200"),
        ("test_bpp_estimated", 12.3456, "12.35"),
        ("val_psnr_db", 31.4159, "31.42"),
        ("test_ms_ssim", 0.98765, "0.9877"),
        ("val_mse", 0.00012345, "0.000123"),
        ("beta", 0.0123456, "0.0123"),
        ("num_latent_channels", 128, "128"),
        ("importance_map", True, "True"),
        ("train_seconds", 3725.0, "1 h 2 min"),
        ("val_bpp", float("nan"), "–"),
        ("val_bpp", None, "–"),
        ("train_images", pd.NA, "–"),
    ],
)
def test_digits(column: str, value: object, text: str) -> None:
    assert shown(column, value) == text


def test_names_and_times() -> None:
    assert label("val_bpp") == "rate, bpp"
    assert label("val_bpp_estimated") == "bpp estimated"
    assert [duration(s) for s in (0.25, 60, 90, 7200)] == ["0.2 s", "1 min", "1 min 30 s", "2 h"]
