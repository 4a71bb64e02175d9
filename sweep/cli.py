"""rdsweep: the command line. Heavy imports sit inside the commands, so `--help` is instant."""

import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    name="rdsweep",
    help="Find the rate-distortion frontier of a learned image codec.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

EXPECTED = {"ConfigError", "TrackingError", "SweepReadError", "BitstreamError"}
EXPECTED |= {"NonFiniteLossError", "EvaluationError"}
"""Errors whose message is all a user needs; by name, as importing them loads what they guard."""

SWEEPS = Path("sweeps")
MODELS = Path("models")

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field; may be repeated."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        help="A model's directory, SWEEP@POINT (a trial of the sweep's frontier, or the highest"
        " rate in bpp), or an MLflow model URI."
    ),
]
CodedOption = Annotated[
    Path, typer.Option("--output", "-o", help="A file for one input, else a directory.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there already.")
]
StoreOption = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="Where an MLflow model URI is [sweeps/mlflow.db]."),
]
SweepArgument = Annotated[str, typer.Argument(help="A sweep's directory, or its id.")]


def main() -> None:
    """Run the command line; an expected error is one red line and exit code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        # Wherever it stands on the line.
        app(["--debug", *arguments] if debug else arguments)
    except Exception as error:
        message = _expected(error)
        if debug or message is None:
            raise
        err.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def _expected(error: Exception) -> str | None:
    """What to tell a user of an error that is theirs; None if it is ours."""
    if EXPECTED & {base.__name__ for base in type(error).__mro__}:
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return None


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show logs and full traces.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    # Their own warnings would tear the progress display; ours say what the user can act on.
    for name in ("alembic", "mlflow", "optuna", "ray", "urllib3"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.ERROR)


@app.command()
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
    from rdmodels.data import check_fit, load_splits
    from sweep import display
    from sweep.directory import check_output
    from sweep.plan import make_plan
    from sweep.resources import trials_at_once
    from sweep.spec import apply_overrides, make_spec, read_yaml
    from sweep.tracking import check_store

    values = apply_overrides(read_yaml(config), set_ or [])
    spec = make_spec(values)
    directory = output or SWEEPS / f"{spec.name}-{_time()}"
    check_output(directory)
    if tracking_uri is not None:
        check_store(tracking_uri)
    at_once = trials_at_once(spec) if address is None else spec.resources.concurrent
    with out.status("Reading the images …"):
        splits = load_splits(spec.base)
        for config_ in spec.extremes():
            check_fit(splits, config_)
    if dry_run:
        with out.status("Timing one model of each extreme …"):
            plan = make_plan(spec, splits, at_once)
        out.print(display.plan_table(plan, spec, splits))
        return
    _run_launch(spec, values, splits, directory, tracking_uri, address)


def _run_launch(
    spec: Any,
    values: dict[str, Any],
    splits: Any,
    directory: Path,
    tracking_uri: str | None,
    address: str | None,
) -> None:
    from sweep import display
    from sweep.directory import open_sweep
    from sweep.launch import launch, start_ray
    from sweep.progress import Progress

    with out.status("Starting Ray …"):
        start_ray(spec, address)
    info = open_sweep(spec, values, directory, tracking_uri)
    out.print(f"Sweep {info.sweep_id} in {directory}", highlight=False, soft_wrap=True)
    progress = Progress(spec.num_trials, spec.num_trials * max(c.epochs for c in spec.extremes()))
    with display.live_progress(out, progress, spec):
        outcome = launch(spec, splits, directory, info, progress)
    display.print_outcome(out, err, outcome, spec)
    if not progress.complete:
        err.print("error: no trial has completed", style="red")
        raise typer.Exit(1)


@app.command()
def train(
    config: Annotated[
        Path | None,
        typer.Option(help="YAML of a trial's fields, or of a sweep, whose `trial` is taken."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="digits, mnist, …, folder:PATH")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for the model [models/DATASET-TIME].")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Weight of the rate above h_target.")] = None,
    h_target: Annotated[float | None, typer.Option(help="Target rate, bits per symbol.")] = None,
    num_latent_channels: Annotated[int | None, typer.Option(help="Latent channels C.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the trunk n.")] = None,
    groups: Annotated[int | None, typer.Option(help="Groups of residual blocks B.")] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    distortion: Annotated[str | None, typer.Option(help="mse or ms_ssim")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    set_: SetOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training in this directory.")
    ] = None,
) -> None:
    """Train one model, without Ray and without an MLflow server."""
    from sweep import display
    from sweep.single import prepare, train_model

    flags = {
        "dataset": dataset,
        "beta": beta,
        "h_target": h_target,
        "num_latent_channels": num_latent_channels,
        "epochs": epochs,
        "width": width,
        "groups": groups,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "distortion": distortion,
        "seed": seed,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    job = prepare(config, given, set_ or [], output, resume, MODELS, _time())
    with out.status("Reading the images …"):
        job = job.with_images()
    out.print(f"Training in {job.directory}", highlight=False, soft_wrap=True)
    with display.epochs_progress(out, job.config.epochs) as advance:
        result = train_model(job, device=device, advance=advance)
    out.print(display.result_table(result))
    out.print(f"Model, metrics and reconstructions: {job.directory}", soft_wrap=True)


@app.command()
def evaluate(
    directory: Annotated[Path, typer.Argument(help="Every model below it is evaluated.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[DIR/evaluation.html]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Evaluate every trained model under a directory on its test images."""
    from analysis.report import write_evaluation
    from sweep import display
    from sweep.single import evaluate_models, find_models

    models = find_models(directory)
    with display.epochs_progress(out, len(models), "models") as advance:
        table, pictures = evaluate_models(directory, models, device=device, advance=advance)
    out.print(display.models_table(table))
    page = write_evaluation(table, pictures, output or directory / "evaluation.html")
    out.print(f"Plot and reconstructions: {page}", soft_wrap=True)


@app.command()
def compress(
    images: Annotated[list[Path], typer.Argument(help="Image files that Pillow reads.")],
    model: ModelOption,
    output: CodedOption,
    overwrite: OverwriteOption = False,
    tracking_uri: StoreOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Compress images with a trained model."""
    from sweep.coding import compress_files

    _code(compress_files, images, model, output, overwrite, tracking_uri, device)


@app.command()
def decompress(
    files: Annotated[list[Path], typer.Argument(help="Streams that `rdsweep compress` wrote.")],
    model: ModelOption,
    output: CodedOption,
    overwrite: OverwriteOption = False,
    tracking_uri: StoreOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Decompress streams to PNG, with the model that compressed them."""
    from sweep.coding import decompress_files

    _code(decompress_files, files, model, output, overwrite, tracking_uri, device)


def _code(
    run: Callable[..., Any],
    files: list[Path],
    model: str,
    output: Path,
    overwrite: bool,
    tracking_uri: str | None,
    device: str,
) -> None:
    from sweep import display
    from sweep.coding import open_model
    from sweep.single import pick_device

    with open_model(model, SWEEPS, tracking_uri, pick_device(device)) as coder:
        out.print(display.coded_table(run(coder, files, output, overwrite=overwrite)))


@app.command()
def report(
    sweep: SweepArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory [SWEEP/report].")
    ] = None,
) -> None:
    """Write the Pareto frontier: report.html, frontier.csv, frontier.json, trials.csv."""
    from analysis.report import write_report
    from analysis.runs import read_sweep
    from analysis.sweeps import find_sweep
    from sweep import display
    from sweep.directory import send_unsent

    directory = find_sweep(sweep, SWEEPS)
    with out.status("Sending what the MLflow store has not got yet …"):
        unsent = send_unsent(directory)
    if unsent:
        err.print(f"warning: {unsent} record(s) still wait for the MLflow store", style="yellow")
    with out.status("Reading the runs …"):
        runs = read_sweep(directory)
        files = write_report(runs, output or directory / "report")
    out.print(display.frontier_table(runs))
    out.print(f"Report: {files.html}", soft_wrap=True, highlight=False)
    out.print(f"MLflow UI: rdsweep ui {shlex.quote(sweep)}", soft_wrap=True, highlight=False)


@app.command()
def ui(
    sweep: Annotated[
        str | None, typer.Argument(help="A sweep's directory or id [the newest in sweeps/].")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Serve MLflow for the store a sweep was logged to, and print the link to it."""
    from sweep.server import newest_sweep, serve

    directory = newest_sweep(SWEEPS) if sweep is None else None
    serve(directory or sweep or "", SWEEPS, host, port, out)


def _time() -> str:
    import datetime

    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
