"""The page of `rdsweep evaluate`: models that were trained one by one."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.report import page
from analysis.report.columns import differing_fields, table_figures
from analysis.report.conventions import conventions, rate_note
from analysis.report.figures import models_figure
from analysis.report.formats import records, spread
from rdmodels.results.sweep import SEARCHED


def write_evaluation(
    models: pd.DataFrame, reconstructions: Mapping[str, bytes], output: Path
) -> Path:
    """Write the page of models that were trained one by one, and return its path.

    Args:
        models: a row a model: `model`, `dataset`, configuration fields and `test_*` figures.
            Beside beta, num_latent_channels and h_target it shows the fields that differ.
        reconstructions: PNGs by `model`.
        output: the HTML file, or a directory to put `evaluation.html` in.
    """
    path = output / "evaluation.html" if output.is_dir() else output
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = [f"test_{name}" for name in ("bpp", "psnr_db")]
    absent = [name for name in needed if name not in models]
    models = models.assign(**dict.fromkeys(absent, float("nan"))).sort_values("test_bpp")
    usual = [name for name in SEARCHED if name in models]
    fields = list(dict.fromkeys([*usual, *differing_fields(models)]))
    fields = [name for name in fields if name != "dataset"]
    columns = ["model", "dataset", *fields, *table_figures(models)]
    chosen = [row for row in records(models) if row["model"] in reconstructions]
    pictures = [
        page.picture(
            str(row["model"]),
            [*page.facts(row, fields), page.caption(row, "test")],
            reconstructions[row["model"]],
        )
        for row in (chosen[index] for index in spread(len(chosen), page.MOST_PICTURES))
    ]
    html = page.render(
        "evaluation.html.jinja",
        count=len(models),
        datasets=sorted({str(name) for name in models["dataset"]}),
        rate_note=rate_note(records(models)),
        plot=page.plot(models_figure(models), "rd-plot", 480) if len(models) else "",
        table=page.table("models", models, columns, fields),
        pictures=pictures,
        conventions=conventions(),
    )
    path.write_text(html, encoding="utf-8")
    return path
