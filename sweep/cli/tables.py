"""Tables and closing lines of the command line."""

import dataclasses
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frontier import HYPERVOLUME_UNIT, frontier
from analysis.report.columns import differing_fields, short_columns, short_figures
from analysis.report.conventions import rate_note
from analysis.report.formats import duration, records, shown, split_column
from rdmodels.results.sweep import SEARCHED

if TYPE_CHECKING:
    import pandas as pd

    from analysis.store.runs import Sweep
    from rdmodels.data.splits import Splits
    from rdmodels.results.trial import Seconds, TrialResult
    from sweep.models.files import CodedFile
    from sweep.run.launch import Outcome
    from sweep.spec.plan import Plan
    from sweep.spec.spec import SweepSpec
    from sweep.tracking.quarantine import Delivery

SHOWN_ERRORS = 5
LONGEST_LINE = 7
"""Letters of a heading's line; a longer name is broken after its underscores."""
HEADINGS = {
    "bpp": "bpp",
    "bpp_standalone": "bpp\nstand-\nalone",
    "bpp_estimated": "bpp\nestimated",
    "bits_per_symbol_estimated": "bits/symbol\nestimated",
    "rate_over_target": "rate /\ntarget",
    "psnr_db": "PSNR,\ndB",
    "ssim": "SSIM",
    "ms_ssim_db": "MS-SSIM,\ndB",
}


def number(value: float | None, digits: int) -> str:
    """A figure with so many decimals; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def plan_table(plan: "Plan", spec: "SweepSpec", splits: "Splits") -> RenderableType:
    """What `--dry-run` prints."""
    names = [
        name for name in spec.space if len({t.config.model_dump()[name] for t in plan.timings}) > 1
    ]
    table = Table(title="extremes of the space", title_justify="left")
    for name in (*names, "parameters", "images/s", "s/epoch"):
        table.add_column(name, justify="right")
    for timing in plan.timings:
        values = timing.config.model_dump()
        table.add_row(
            *(str(values[name]) for name in names),
            f"{timing.parameters:,}",
            f"{timing.images_per_second:.0f}",
            f"{timing.seconds_per_epoch:.1f}",
        )
    channels, height, width = splits.train.images[0].shape
    budget = spec.search.time_budget_s
    epochs = " to ".join(map(str, sorted({timing.config.epochs for timing in plan.timings})))
    return Group(
        f"{spec.base.dataset}: {len(splits.train)} training, {len(splits.validation)} validation,"
        f" {len(splits.test)} test images ({channels} x {height} x {width} the first)",
        table,
        f"{plan.trials} trials of {epochs} epochs by {spec.search.sampler},"
        f" {plan.at_once} at once, on {'GPU' if spec.resources.gpu else 'CPU'}:"
        f" about {duration(plan.seconds)}"
        + (f", ended after {duration(budget)} by time_budget_s" if budget else ""),
    )


def print_outcome(
    console: Console, errors: Console, outcome: "Outcome", spec: "SweepSpec"
) -> None:
    """The closing lines of a launch."""
    standing = outcome.progress.standing
    for message in standing.errors[:SHOWN_ERRORS]:
        errors.print(f"failed: {message}", style="yellow", markup=False, soft_wrap=True)
    for message in standing.collapsed[:SHOWN_ERRORS]:
        errors.print(f"collapsed: {message}", style="yellow", markup=False, soft_wrap=True)
    counts = f"{standing.complete} complete, {standing.failed} failed"
    if standing.pruned:
        counts += f", {standing.pruned} pruned"
    not_started = outcome.progress.trials - standing.done - standing.stopped
    if standing.stopped or not_started:
        counts += f", {standing.stopped} stopped, {not_started} not started"
    if standing.collapsed:
        counts += f"; {len(standing.collapsed)} of the complete ones collapsed"
    console.print(
        f"{counts}; hypervolume {standing.hypervolume:.3f} {HYPERVOLUME_UNIT}", highlight=False
    )
    print_delivery(errors, outcome.delivery, str(outcome.directory))
    console.print(
        f"Report: rdsweep report {shlex.quote(str(outcome.directory))}",
        highlight=False,
        soft_wrap=True,
    )


def print_delivery(errors: Console, delivery: "Delivery", sweep: str) -> None:
    """Warn of records that the MLflow store has not got, with what sends them."""
    report = f"rdsweep report {shlex.quote(sweep)}"
    lines = []
    if delivery.unsent:
        lines.append(
            f"{delivery.unsent} record(s) wait for the MLflow store; `{report}` sends them"
        )
    if delivery.quarantined:
        lines.append(
            f"the MLflow store has rejected {delivery.quarantined} record(s), which"
            f" {sweep}/spool/*.quarantine has with the reasons; `{report} --replay` sends them"
            " again"
        )
    for line in lines:
        errors.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)


def result_table(result: "TrialResult") -> Table:
    """The final figures of one training."""
    splits = {"validation": result.best, "test": result.test}
    rates = [{"test_bpp": m.bpp, "test_bpp_standalone": m.bpp_standalone} for m in splits.values()]
    names = ["bpp", "bpp_standalone", "bpp_estimated", "bits_per_symbol_estimated"]
    names.append("rate_over_target")
    note = rate_note(rates)
    if note is None:
        names.remove("bpp_standalone")
    names += ["psnr_db", "ssim"]
    table = _new_table(f"best epoch: {result.best_epoch}", note)
    table.add_column("images")
    for name in names:
        table.add_column(HEADINGS[name], justify="right")
    for split, metrics in splits.items():
        figures = (shown(f"test_{name}", getattr(metrics, name)) for name in names)
        table.add_row(split, *figures)
    return table


def seconds_line(seconds: "Seconds") -> str:
    """Where a training's time has gone."""
    parts = (f"{duration(value)} {name}" for name, value in dataclasses.asdict(seconds).items())
    return f"Time: {', '.join(parts)}; {seconds.training_share:.0%} of it training steps"


def files_table(files: Iterable["CodedFile"]) -> Table:
    """Files as they are compressed or decompressed."""
    table = Table()
    for name in ("file", "written", "pixels", "bytes", "bpp", "PSNR, dB"):
        table.add_column(name, justify="left" if name in ("file", "written") else "right")
    for file in files:
        size = f"{file.width}x{file.height}"
        figures = (str(file.stream_bytes), f"{file.bpp:.4f}", number(file.psnr_db, 2))
        table.add_row(file.source.name, str(file.path), size, *figures)
    return table


def models_table(models: "pd.DataFrame") -> Table:
    """The models that `rdsweep evaluate` found, by what differs, on their test images."""
    fields = differing_fields(models) or list(SEARCHED)
    figures = [f"test_{name}" for name in short_figures(models, *set(models["distortion"]))]
    return _table(models, "Models, on test images", ["model", *fields, *figures])


def frontier_table(sweep: "Sweep") -> Table:
    """The frontier, ascending in rate, with what was searched and figures of both splits."""
    points = frontier(sweep.trials, sweep.info.distortion)
    title = "Frontier, chosen on validation images"
    columns = short_columns(sweep, points)
    if points["collapsed"].notna().any():
        columns.append("collapsed")
    return _table(points, title, columns)


def _table(frame: "pd.DataFrame", title: str, columns: Sequence[str]) -> Table:
    """A row a model; the first of `columns` names it."""
    rows = records(frame)
    table = _new_table(title, rate_note(rows))
    for column in columns:
        justify: Literal["left", "right"] = "left" if column == columns[0] else "right"
        # Folded rather than cut: a figure without its last digits is another figure.
        table.add_column(_heading(column), justify=justify, overflow="fold")
    for row in rows:
        # As texts: a name may hold what rich takes for markup.
        table.add_row(*(Text(shown(column, row.get(column))) for column in columns))
    return table


def _heading(column: str) -> str:
    split, name = split_column(column)
    if split is not None:
        return f"{split}\n{HEADINGS[name]}"
    name = name.removesuffix("_id")
    return name if len(name) <= LONGEST_LINE else name.replace("_", "_\n")


def _new_table(title: str, note: str | None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption=note,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
