"""A sweep's report: its frontier as HTML, CSV and JSON."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.frontier import HYPERVOLUME_UNIT, frontier
from analysis.report import page
from analysis.report.columns import TRIAL_COLUMNS, csv_columns, table_figures
from analysis.report.conventions import conventions, rate_note
from analysis.report.document import counts, frontier_document, image_counts, sweep_hypervolume
from analysis.report.figures import field_figure, rd_figure
from analysis.report.formats import SPLITS, duration, records, shown, significant, spread
from analysis.report.parallel import parallel_figure
from analysis.store.artifacts import reconstructions
from analysis.store.runs import Sweep
from rdmodels.results.quality import quality_of


class ReportFiles(NamedTuple):
    """The files of one report."""

    html: Path
    frontier_csv: Path
    frontier_json: Path
    trials_csv: Path


def write_report(sweep: Sweep, output: Path, data_change: str | None = None) -> ReportFiles:
    """Write a sweep's report into the directory `output`, which is made if it is not there.

    `data_change` says which images are others than at the launch, as
    `DataFingerprint.changes_to` does. `frontier.csv` and `trials.csv` hold full precision, an
    empty field where a value is missing. A sweep without a complete trial gets an empty frontier
    and a page that says so.
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
    text = json.dumps(frontier_document(sweep, members, data_change), indent=2, allow_nan=False)
    files.frontier_json.write_text(text + "\n", encoding="utf-8")
    files.html.write_text(_html(sweep, members, data_change), encoding="utf-8")
    return files


def _html(sweep: Sweep, members: pd.DataFrame, data_change: str | None) -> str:
    info, trials, fields = sweep.info, sweep.trials, sweep.info.fields
    pictures = _pictures(sweep, members)
    figures = table_figures(trials)
    failed = trials[trials["status"].eq("failed") | trials["error"].notna()]
    return page.render(
        "report.html.jinja",
        info=info,
        status=sweep.status,
        dataset=_dataset(sweep),
        images=image_counts(sweep),
        data_change=data_change,
        rate_note=rate_note(records(trials)),
        counts=counts(sweep),
        headline=_headline(sweep, members),
        quality=quality_of(info.distortion),
        hypervolume_unit=HYPERVOLUME_UNIT,
        plots=_plots(sweep) if len(members) else {},
        frontier=page.table(
            "frontier", members, ["trial_id", *fields, *figures, "train_seconds"], fields
        ),
        trials=page.table(
            "trials",
            trials,
            ["trial_id", "status", *fields, *figures, *TRIAL_COLUMNS[1:-1]],
            fields,
        ),
        pictures=pictures,
        pictured={each.name for each in pictures},
        collapsed=records(trials[trials["collapsed"].notna()][["trial_id", "collapsed"]]),
        failures=records(failed[["trial_id", "status", "error"]].fillna("")),
        shared={k: v for k, v in sweep.shared.items() if k not in fields},
        conventions=conventions(),
    )


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
        db = members[column].tolist()
        rates = [significant(bpp[0], 3), significant(bpp[-1], 3)]
        ends = [shown(quality.name, db[0]), shown(quality.name, db[-1])]
        name = quality.label.split(",")[0]
        corner = sweep.info.corner
        streams = ", shared streams" if rate_note(records(members)) else ""
        tiles += [
            ("on the frontier", str(len(members)), "points" if len(members) > 1 else "point"),
            ("rate", "–".join(dict.fromkeys(rates)), f"bpp (bytes written{streams})"),
            (name, "–".join(dict.fromkeys(ends)), "dB"),
            (
                "hypervolume",
                significant(sweep_hypervolume(sweep), 4),
                f"{HYPERVOLUME_UNIT}, from {corner.bpp:g} bpp, {corner.quality_db:g} dB",
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
            captions = [page.caption(row, split) for split in SPLITS]
            found.append(page.picture(row["trial_id"], captions, png))
    return found
