"""Reports: a sweep's frontier as HTML, CSV and JSON, and the HTML page of `rdsweep evaluate`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.frontier import frontier
from analysis.report import page
from analysis.report.document import (
    TRIAL_COLUMNS,
    conventions,
    counts,
    csv_columns,
    frontier_document,
    sweep_hypervolume,
)
from analysis.report.figures import field_figure, models_figure, parallel_figure, rd_figure
from analysis.report.formats import duration, records, shown, significant, spread
from analysis.store.runs import Sweep, figure_names, reconstructions
from rdmodels.results.quality import quality_db, quality_of
from rdmodels.results.sweep import SEARCHED

NOT_IN_TABLES = ("mse", "bits_per_symbol", "loss")
"""Figures left to the hover texts and the JSON file."""


class ReportFiles(NamedTuple):
    """The files of one report."""

    html: Path
    frontier_csv: Path
    frontier_json: Path
    trials_csv: Path


def write_report(sweep: Sweep, output: Path) -> ReportFiles:
    """Write a sweep's report into the directory `output`, which is made if it is not there.

    `frontier.csv` and `trials.csv` hold full precision, an empty field where a value is missing.
    A sweep without a complete trial gets an empty frontier and a page that says so.
    """
    output.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(
        output / "report.html",
        output / "frontier.csv",
        output / "frontier.json",
        output / "trials.csv",
    )
    members = frontier(sweep.trials, sweep.info.distortion)
    columns = csv_columns(sweep)
    members[columns].to_csv(files.frontier_csv, index=False)
    sweep.trials[[*columns, *TRIAL_COLUMNS]].to_csv(files.trials_csv, index=False)
    text = json.dumps(frontier_document(sweep, members), indent=2, allow_nan=False)
    files.frontier_json.write_text(text + "\n", encoding="utf-8")
    files.html.write_text(_html(sweep, members), encoding="utf-8")
    return files


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
    tests = [name for name in _table_figures(models) if name.startswith("test_")]
    settings = [
        name for name in map(str, models) if not name.startswith("test_") and name != "model"
    ]
    fields = [n for n in settings if n in SEARCHED or models[n].astype(str).nunique() > 1]
    fields = [name for name in fields if name != "dataset"]
    chosen = [row for row in records(models) if row["model"] in reconstructions]
    pictures = [
        page.picture(
            str(row["model"]),
            [*page.facts(row, fields), _caption(row, "test")],
            reconstructions[row["model"]],
        )
        for row in (chosen[index] for index in spread(len(chosen), page.MOST_PICTURES))
    ]
    html = page.render(
        "evaluation.html.jinja",
        count=len(models),
        datasets=sorted({str(name) for name in models["dataset"]}),
        plot=page.plot(models_figure(models), "rd-plot", 480) if len(models) else "",
        table=page.table("models", models, ["model", "dataset", *fields, *tests], fields),
        pictures=pictures,
        conventions=conventions(),
    )
    path.write_text(html, encoding="utf-8")
    return path


def _html(sweep: Sweep, members: pd.DataFrame) -> str:
    info, trials, fields = sweep.info, sweep.trials, sweep.info.fields
    pictures = _pictures(sweep, members)
    figures = _table_figures(trials)
    failed = trials[trials["status"].eq("failed") | trials["error"].notna()]
    return page.render(
        "report.html.jinja",
        info=info,
        status=sweep.status,
        dataset=_dataset(sweep),
        counts=counts(sweep),
        headline=_headline(sweep, members),
        quality=quality_of(info.distortion),
        reference=info.reference,
        plots=_plots(sweep) if len(members) else {},
        frontier=page.table(
            "frontier", members, ["trial_id", *fields, *figures, "train_seconds"], fields
        ),
        trials=page.table(
            "trials",
            trials,
            ["trial_id", "status", *fields, *figures, "epochs", "train_seconds"],
            fields,
        ),
        pictures=pictures,
        pictured={each.name for each in pictures},
        failures=records(failed[["trial_id", "status", "error"]].fillna("")),
        shared={k: v for k, v in sweep.shared.items() if k not in fields},
        conventions=conventions(),
    )


def _table_figures(frame: pd.DataFrame) -> list[str]:
    names = [name for name in figure_names() if name not in NOT_IN_TABLES]
    return page.present(frame, [f"{split}_{name}" for split in ("val", "test") for name in names])


def _dataset(sweep: Sweep) -> str:
    given = sweep.info.config.get("trial")
    default = given.get("dataset", "") if isinstance(given, dict) else ""
    return str(sweep.shared.get("dataset", default))


def _headline(sweep: Sweep, members: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Large figures at the top: what, its value, its unit or context."""
    quality = quality_of(sweep.info.distortion)
    column = f"val_{quality.name}"
    total = len(sweep.trials)
    tiles = [("complete trials", str(counts(sweep).get("complete", 0)), f"of {total}")]
    if len(members):
        bpp = members["val_bpp"].tolist()
        db = [quality_db(value, sweep.info.distortion) for value in members[column].tolist()]
        rates = [significant(bpp[0], 3), significant(bpp[-1], 3)]
        ends = [shown(quality.name_db, db[0]), shown(quality.name_db, db[-1])]
        name = quality.label.split(",")[0]
        corner = sweep.info.reference
        tiles += [
            ("on the frontier", str(len(members)), "points" if len(members) > 1 else "point"),
            ("rate", "–".join(dict.fromkeys(rates)), "bpp"),
            (name, "–".join(dict.fromkeys(ends)), "dB"),
            (
                "hypervolume",
                significant(sweep_hypervolume(sweep), 4),
                f"bpp × dB, from {corner[0]:g} bpp, {corner[1]:g} dB",
            ),
        ]
    spent = sweep.trials["train_seconds"].sum()
    training = f"{duration(float(spent))} of training" if spent else ""
    if sweep.seconds is not None:
        tiles.append(("time", duration(sweep.seconds), training))
    elif training:
        tiles.append(("training", duration(float(spent)), "over all trials"))
    return tiles


def _plots(sweep: Sweep) -> dict[str, Any]:
    trials, fields, distortion = sweep.trials, sweep.info.fields, sweep.info.distortion
    # A field that no trial varies has nothing to show.
    varied = [name for name in fields if trials[name].nunique() > 1]
    plots: dict[str, Any] = {
        "rd": page.plot(rd_figure(trials, fields, distortion), "rd-plot", 500),
        "parallel": None,
        "axes": len(varied) + 2,
        "fields": [
            page.plot(field_figure(trials, name, distortion), f"field-{name}", 380)
            for name in varied
        ],
    }
    if varied:
        figure = parallel_figure(trials, varied, distortion)
        plots["parallel"] = page.plot(figure, "parallel-plot", 440)
    return plots


def _pictures(sweep: Sweep, members: pd.DataFrame) -> list[page.Picture]:
    rows = records(members)
    found = []
    for index in spread(len(rows), page.MOST_PICTURES):
        row = rows[index]
        png = reconstructions(sweep, row["trial_id"])
        if png is not None:
            captions = [_caption(row, "val"), _caption(row, "test")]
            found.append(page.picture(row["trial_id"], captions, png))
    return found


def _caption(row: Mapping[str, Any], split: str) -> str:
    names = [name for name in figure_names() if name not in NOT_IN_TABLES]
    text = page.figures_of(row, split, names)
    lead = {"val": "validation", "test": "test"}[split]
    return f"{lead}: {text}" if text else f"{lead}: no figures"
