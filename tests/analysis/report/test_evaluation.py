"""The page of models that were trained one by one."""

from pathlib import Path

import pandas as pd

from analysis.report import page
from analysis.report.conventions import ARCHIVE_RATES, conventions
from analysis.report.evaluation import write_evaluation
from tests.analysis.report.tags import Tags
from tests.analysis.tracked import png


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
    places = [heads.index(name) for name in ("beta", "num_\u200blatent_", "h_target", "seed")]
    assert places == sorted(places)
    assert conventions()[0] in tags.text
    assert ARCHIVE_RATES not in tags.text
    assert tags.text.index("a low") < tags.text.index("b/high")


def test_rates_of_models_are_said_to_be_of_an_archive(tmp_path: Path) -> None:
    path = write_evaluation(models(test_bpp_standalone=[1.2, 0.7]), {"a low": png()}, tmp_path)
    text = Tags(path.read_text()).text
    assert ARCHIVE_RATES in text
    assert "rate, bpp (bytes written, shared streams)" in text
    assert "test: 0.3000 bpp, 0.7000 bpp standalone, 24.00 dB" in text


def test_pictures_are_spread_over_the_models(tmp_path: Path) -> None:
    count = page.MOST_PICTURES + 1
    rates = [index / 10 for index in range(count)]
    frame = pd.DataFrame({"model": [f"m{i}" for i in range(count)], "dataset": "digits"})
    pictures = dict.fromkeys(frame["model"], png())
    path = write_evaluation(frame.assign(test_bpp=rates), pictures, tmp_path)
    names = [str(a["id"]) for tag, a in Tags(path.read_text()).elements if tag == "figure"]
    assert len(names) == page.MOST_PICTURES
    assert (names[0], names[-1]) == ("picture-m0", f"picture-m{count - 1}")


def test_evaluation_without_psnr_or_pictures_in_a_directory(tmp_path: Path) -> None:
    path = write_evaluation(models().drop(columns="test_psnr_db"), {}, tmp_path)
    assert path == tmp_path / "evaluation.html"
    assert "Reconstructions" not in Tags(path.read_text()).text
