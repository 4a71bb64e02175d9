"""Tables and closing lines of the command line."""

import math
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from analysis.frontier import frontier
from analysis.report.formats import duration

if TYPE_CHECKING:
    import pandas as pd

    from analysis.store.runs import Sweep
    from rdmodels.data.splits import Splits
    from rdmodels.results.trial import TrialResult
    from sweep.models.files import CodedFile
    from sweep.run.launch import Outcome
    from sweep.spec.plan import Plan
    from sweep.spec.spec import SweepSpec

SHOWN_ERRORS = 5


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
    counts = f"{standing.complete} complete, {standing.failed} failed"
    if standing.pruned:
        counts += f", {standing.pruned} pruned"
    not_started = outcome.progress.trials - standing.done - standing.stopped
    if standing.stopped or not_started:
        counts += f", {standing.stopped} stopped, {not_started} not started"
    console.print(f"{counts}; hypervolume {standing.hypervolume:.3f}", highlight=False)
    if outcome.unsent:
        errors.print(
            f"warning: {outcome.unsent} record(s) wait in {outcome.directory}/spool for the MLflow"
            " store; `rdsweep report` sends them",
            style="yellow",
            soft_wrap=True,
        )
    console.print(
        f"Report: rdsweep report {shlex.quote(str(outcome.directory))}",
        highlight=False,
        soft_wrap=True,
    )


def result_table(result: "TrialResult") -> Table:
    """The final figures of one training."""
    table = Table(title=f"best epoch: {result.best_epoch}", title_justify="left")
    for name in ("images", "bpp", "bits/symbol", "PSNR, dB", "SSIM"):
        table.add_column(name, justify="right")
    for name, m in (("validation", result.best), ("test", result.test)):
        figures = (number(m.bpp, 4), number(m.bits_per_symbol, 3), number(m.psnr_db, 2))
        table.add_row(name, *figures, number(m.ssim, 4))
    return table


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
    """The models that `rdsweep evaluate` found, on their test images."""
    ms_ssim = "ms_ssim" in set(models["distortion"])
    return _table(models, "model", "Models, on test images", ms_ssim=ms_ssim)


def frontier_table(sweep: "Sweep") -> Table:
    """The frontier that validation images chose, ascending in rate, with its test figures."""
    points = frontier(sweep.trials, sweep.info.distortion)
    ms_ssim = sweep.info.distortion == "ms_ssim"
    return _table(points, "trial_id", "Frontier, on test images", ms_ssim=ms_ssim)


def _table(frame: "pd.DataFrame", name: str, title: str, *, ms_ssim: bool) -> Table:
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        name: (name.removesuffix("_id"), str),
        "beta": ("beta", "{:.4g}".format),
        "num_latent_channels": ("num_latent_channels", str),
        "h_target": ("h_target", "{:.4g}".format),
        "test_bpp": ("bpp", lambda value: number(value, 4)),
        "test_psnr_db": ("PSNR, dB", lambda value: number(value, 2)),
    }
    if ms_ssim:
        columns["test_ms_ssim"] = ("MS-SSIM", lambda value: number(value, 4))
    table = Table(title=title, title_justify="left")
    for key, (header, _) in columns.items():
        table.add_column(header, justify="left" if key == name else "right", overflow="fold")
    for row in frame.to_dict("records"):
        table.add_row(*(show(row[key]) for key, (_, show) in columns.items()))
    return table
