"""Commands for sweeps: launch, report, ui."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.cli.options import SWEEPS, SetOption, SweepArgument, err, out, timestamp


def launch(
    config: Annotated[Path, typer.Argument(help="The sweep's YAML, such as configs/mnist.yaml.")],
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option(help="The sweep's directory [sweeps/NAME-TIME].")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store [SQLite beside the sweep's directory].")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster [start Ray on this machine].")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate, time a few steps, print the plan.")
    ] = False,
) -> None:
    """Launch a sweep: search, train and log every trial."""
    from rdmodels.data.splits import load_splits
    from sweep.cli import tables
    from sweep.directory import check_output
    from sweep.run.nodes import this_machine, trials_at_once
    from sweep.spec.corner import corner_text, make_corner
    from sweep.spec.overrides import apply_overrides, read_yaml
    from sweep.spec.plan import make_plan
    from sweep.spec.spec import make_spec
    from sweep.tracking.store import check_store

    values = apply_overrides(read_yaml(config), set_ or [])
    spec = make_spec(values)
    directory = output or SWEEPS / f"{spec.name}-{timestamp()}"
    check_output(directory, tracking_uri)
    if tracking_uri is not None:
        check_store(tracking_uri)
    at_once = (
        trials_at_once(spec, [this_machine()]) if address is None else spec.resources.concurrent
    )
    with out.status("Reading the images …"):
        splits = load_splits(spec.base)
        _check_extremes(spec, splits, here=address is None)
        corner = make_corner(spec, splits)
    if dry_run:
        with out.status("Timing one model of each extreme …"):
            plan = make_plan(spec, splits, at_once)
        out.print(tables.plan_table(plan, spec, splits))
        out.print(corner_text(spec, corner), highlight=False, soft_wrap=True)
        return
    _run_launch(spec, values, splits, corner, directory, tracking_uri, address)


def _check_extremes(spec: Any, splits: Any, *, here: bool) -> None:
    """Check that the images suit every extreme of the space, and that it can be trained `here`."""
    from rdmodels.data.splits import check_fit
    from rdmodels.training.compiled import check_compiler
    from rdmodels.training.target import check_target

    for config in spec.extremes():
        check_fit(splits, config)
        check_target(config, splits.validation)
        if config.compiled and here:
            check_compiler("cuda" if spec.resources.gpu else "cpu")


def _run_launch(
    spec: Any,
    values: dict[str, Any],
    splits: Any,
    corner: Any,
    directory: Path,
    tracking_uri: str | None,
    address: str | None,
) -> None:
    from sweep.cli import progress as progress_display
    from sweep.cli import tables
    from sweep.directory import open_sweep
    from sweep.run.cluster import start_ray
    from sweep.run.launch import run_sweep
    from sweep.run.progress import SweepProgress
    from sweep.spec.corner import corner_text

    with out.status("Starting Ray …"):
        start_ray(spec, address, directory)
    out.print(f"Sweep in {directory}", highlight=False, soft_wrap=True)
    out.print(corner_text(spec, corner), highlight=False, soft_wrap=True)
    progress = SweepProgress(spec.num_trials, max(c.epochs for c in spec.extremes()), corner)
    with progress_display.live_progress(out, progress, spec):
        info = open_sweep(spec, values, directory, tracking_uri, corner, splits.fingerprint)
        outcome = run_sweep(spec, splits, directory, info, progress)
    tables.print_outcome(out, err, outcome, spec)
    if not progress.standing.complete:
        err.print("error: no trial has completed", style="red")
        raise typer.Exit(1)


def report(
    sweep: SweepArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory [SWEEP/report].")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="First send again what the MLflow store rejected.")
    ] = False,
) -> None:
    """Write the Pareto frontier: report.html, frontier.csv, frontier.json, trials.csv."""
    from analysis.report.report import write_report
    from analysis.store.runs import read_sweep
    from analysis.store.sweeps import find_sweep
    from rdmodels.results.sweep import REPORT
    from sweep.cli import tables
    from sweep.directory import data_change, send_unsent
    from sweep.tracking.quarantine import replay_quarantine

    directory = find_sweep(sweep, SWEEPS)
    with out.status("Sending what the MLflow store has not got yet …"):
        if replay:
            replay_quarantine(directory)
        delivery = send_unsent(directory)
    tables.print_delivery(err, delivery, sweep)
    with out.status("Reading the runs …"):
        runs = read_sweep(directory)
        changes = data_change(runs.info)
        files = write_report(runs, output or directory / REPORT, changes)
    if changes is not None:
        err.print(
            f"warning: the images have changed since the sweep was launched: {changes}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    out.print(tables.frontier_table(runs))
    out.print(f"Report: {files.html}", soft_wrap=True, highlight=False)
    out.print(f"MLflow UI: rdsweep ui {shlex.quote(sweep)}", soft_wrap=True, highlight=False)


def ui(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's directory or id [the newest in sweeps/].")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Serve MLflow for the store a sweep was logged to, and print the link to it."""
    from sweep.tracking.server import newest_sweep, serve

    directory = newest_sweep(SWEEPS) if sweep is None else None
    serve(directory or sweep or "", SWEEPS, host, port, out)
