"""Digits, marks of axes, and figures that escape what they show."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.report.figures import field_figure, models_figure, rd_figure
from analysis.report.formats import LABELS, duration, label, shares_streams, shown, spread
from analysis.report.hover import AT_ESTIMATE, model_hover
from analysis.report.parallel import parallel_figure
from analysis.report.scale import Scale
from analysis.store.columns import FIGURES

FIELDS = ("beta", "num_latent_channels", "dataset")


def trials() -> pd.DataFrame:
    rows = {
        "trial_id": ["t0", "t1", "t2", "t3"],
        "status": ["complete", "complete", "complete", "pruned"],
        "beta": [0.001, 0.01, 0.1, 0.1],
        "num_latent_channels": pd.array([8, 16, None, 8], dtype="Int64"),
        "dataset": ["folder:<b>x</b>", "digits", "digits", None],
        "val_bpp": [0.5, 0.2, 0.6, float("nan")],
        "val_bpp_standalone": [0.5, 0.2, 0.6, float("nan")],
        "val_bpp_estimated": [0.45, 0.15, 0.55, 0.9],
        "val_psnr_db": [25.0, 22.0, 24.0, 10.0],
        "val_ms_ssim_db": [15.0, 12.0, 14.0, None],
        "test_bpp": [0.51, 0.21, 0.61, None],
        "test_bpp_standalone": [0.51, 0.21, 0.61, None],
        "test_bpp_estimated": [0.46, 0.16, 0.56, None],
        "test_psnr_db": [24.5, None, 23.5, None],
        "test_ms_ssim_db": [14.5, 11.5, 13.5, None],
    }
    return pd.DataFrame(rows)


def sharing() -> pd.DataFrame:
    """The same, but of images that share streams."""
    return trials().assign(val_bpp_standalone=[0.9, 0.6, 1.0, None])


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(each for each in figure.data if each.name == name)


def test_the_frontier_is_joined_in_ascending_rate() -> None:
    figure = rd_figure(trials(), FIELDS, "mse")
    best = trace(figure, "frontier, validation")
    assert (list(best.x), list(best.y)) == ([0.2, 0.5], [22.0, 25.0])
    test = trace(figure, "frontier, test images")
    assert (list(test.x), list(test.y)) == ([0.21, 0.51], [None, 24.5])
    assert list(trace(figure, "dominated").x) == [0.6]
    assert figure.layout.xaxis.title.text == "rate, bpp (bytes written)"


def test_what_is_maximised_is_drawn() -> None:
    figure = rd_figure(trials(), FIELDS, "ms_ssim")
    assert list(trace(figure, "frontier, validation").y) == [12.0, 15.0]
    assert list(trace(figure, "frontier, test images").y) == [11.5, 14.5]
    assert figure.layout.yaxis.title.text == "MS-SSIM, dB"
    field = field_figure(trials(), "beta", "ms_ssim")
    assert sorted(field.data[3].y) == [12.0, 15.0]
    assert field.layout.yaxis2.title.text == "MS-SSIM, dB"
    assert parallel_figure(trials(), FIELDS, "ms_ssim").layout.annotations[-1].text == "15"


def test_unfinished_trials_are_drawn_at_their_estimate_and_say_so() -> None:
    figure = rd_figure(trials(), FIELDS, "mse")
    pruned = trace(figure, "pruned, estimated rate")
    assert pruned.visible == "legendonly"
    assert (list(pruned.x), list(pruned.y)) == ([0.9], [10.0])
    text = pruned.hovertext[0]
    assert AT_ESTIMATE in text
    assert "bpp estimated (cross-entropy): 0.9000 / –" in text
    assert "bytes written" not in text
    complete = [each for each in figure.data if each.name != pruned.name]
    assert not [text for each in complete for text in each.hovertext if AT_ESTIMATE in text]


def test_hover_texts_are_complete_and_escaped() -> None:
    text = trace(rd_figure(trials(), FIELDS, "mse"), "frontier, validation").hovertext[1]
    assert text.split("<br>") == [
        "<b>t0</b>  complete",
        "beta = 0.001",
        "num_latent_channels = 8",
        "dataset = folder:&lt;b&gt;x&lt;/b&gt;",
        "<i>validation / test</i>",
        "rate, bpp (bytes written): 0.5000 / 0.5100",
        "bpp estimated (cross-entropy): 0.4500 / 0.4600",
        "PSNR, dB: 25.00 / 24.50",
        "MS-SSIM, dB: 15.00 / 14.50",
    ]


def test_shared_streams_are_said_wherever_a_rate_is() -> None:
    figure = rd_figure(sharing(), FIELDS, "mse")
    title = "rate, bpp (bytes written, shared streams)"
    assert figure.layout.xaxis.title.text == title
    text = trace(figure, "frontier, validation").hovertext[1]
    assert f"{title}: 0.5000 / 0.5100" in text
    assert "bpp standalone (a stream each): 0.9000 / 0.5100" in text
    assert field_figure(sharing(), "beta", "mse").layout.yaxis.title.text == title
    heads = [note.text for note in parallel_figure(sharing(), FIELDS, "mse").layout.annotations]
    assert "<b>rate, bpp (bytes<br>written, shared<br>streams)</b>" in heads


def test_streams_are_shared_where_the_stand_alone_rate_is_another_one() -> None:
    assert not shares_streams([])
    assert not shares_streams([{"val_bpp": 0.5}, {"test_bpp_standalone": 0.5}])
    assert not shares_streams([{"val_bpp": 0.3, "val_bpp_standalone": 0.1 + 0.2}])
    assert not shares_streams([{"val_bpp": None, "val_bpp_standalone": float("nan")}])
    alone = {"val_bpp": 0.5, "val_bpp_standalone": 0.5}
    assert shares_streams([alone, {"test_bpp": 0.5, "test_bpp_standalone": 0.51}])
    assert shares_streams([{**alone, "test_bpp": 0.51, "test_bpp_standalone": 0.5}])


def test_missing_settings_leave_gaps() -> None:
    figure = parallel_figure(trials(), FIELDS, "mse")
    assert list(trace(figure, "dominated").y)[:3] == [1.0, None, 0.0]
    lines = [each for each in figure.data if each.name == "frontier"]
    assert [line.showlegend for line in lines] == [True, False]
    assert lines[0].line.color != lines[1].line.color
    assert field_figure(trials(), "beta", "mse").layout.xaxis.type == "log"
    assert field_figure(trials(), "num_latent_channels", "mse").layout.xaxis.type is None
    assert field_figure(trials(), "dataset", "mse").data[2].x == ("digits", "folder:<b>x</b>")


def test_a_single_model_is_a_figure() -> None:
    row = {"model": "m", "dataset": "digits", "test_bpp": 0.5, "test_psnr_db": 20.0}
    figure = models_figure(pd.DataFrame([row]))
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([0.5], [20.0])
    assert list(figure.layout.xaxis.range) == pytest.approx([0.47, 0.6])
    assert figure.data[0].mode == "lines+markers+text"


def test_models_are_joined_by_data_set_in_ascending_rate() -> None:
    rows = {"model": "m", "dataset": ["a", "b"] * 7, "test_bpp": [1.4 - i / 10 for i in range(14)]}
    figure = models_figure(pd.DataFrame(rows).assign(test_psnr_db=20.0))
    assert [each.name for each in figure.data] == ["a", "b"]
    assert list(figure.data[1].x) == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3])
    assert figure.data[0].mode == "lines+markers"
    assert list(figure.layout.xaxis.range) == pytest.approx([0.1 - 0.078, 1.4 + 0.26])


def test_hover_of_a_model_names_settings_as_they_are() -> None:
    row = {"model": "<m>", "test_images": 40, "beta": None, "test_bpp": 0.5}
    rates = {"test_bpp_standalone": 0.5, "test_bpp_estimated": 0.45}
    lines = ["<b>&lt;m&gt;</b>", "test_images: 40", "rate, bpp (bytes written): 0.5000"]
    lines += ["bpp estimated (cross-entropy): 0.4500"]
    assert model_hover(row | rates).split("<br>") == lines
    text = model_hover(row | {"test_bpp_standalone": 0.8})
    assert "rate, bpp (bytes written, shared streams): 0.5000" in text
    assert "bpp standalone (a stream each): 0.8000" in text


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
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.5], False, [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5], False, [2.0, 4.0, 6.0]),
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
        ("test_bpp_standalone", 12.3456, "12.35"),
        ("val_bits_per_symbol_estimated", 1.23456, "1.235"),
        ("val_ms_ssim_db", 14.5678, "14.57"),
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
    assert label("val_bpp") == "rate, bpp (bytes written)"
    assert label("val_bpp", shared=True) == "rate, bpp (bytes written, shared streams)"
    assert label("val_bpp_estimated", shared=True) == "bpp estimated (cross-entropy)"
    assert label("test_ms_ssim_db") == "MS-SSIM, dB"
    assert set(FIGURES) - {"loss"} <= set(LABELS)
    assert label("test_images") == "test images"
    times = ["0.2 s", "1 min", "1 min", "1 min 30 s", "59 min 59 s", "1 h", "2 h", "1 h 1 min"]
    assert [duration(s) for s in (0.25, 59.96, 60, 90, 3599, 3600, 7200, 3661)] == times


def test_a_spread_keeps_both_ends() -> None:
    assert spread(0, 12) == []
    assert spread(1, 12) == spread(1, 1) == [0]
    assert spread(12, 12) == list(range(12))
    assert spread(13, 3) == [0, 6, 12]
    assert (spread(100, 12)[0], spread(100, 12)[-1], len(spread(100, 12))) == (0, 99, 12)
