"""Commands for single models: train, evaluate, compress, decompress."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.cli.options import (
    MODELS,
    SWEEPS,
    CodedOption,
    ModelOption,
    OverwriteOption,
    SetOption,
    StoreOption,
    err,
    out,
    timestamp,
)


def train(
    config: Annotated[
        Path | None,
        typer.Option(help="YAML of a trial's fields, or of a sweep, whose `trial` is taken."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="digits, mnist, …, folder:PATH")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for the model [models/DATASET-TIME].")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="Scale of the rate's weight; under the hinge, the weight.")
    ] = None,
    h_target: Annotated[float | None, typer.Option(help="Target rate, bits per symbol.")] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="In its place: target rate, written bits per pixel.")
    ] = None,
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
    from sweep.cli import progress as progress_display
    from sweep.cli import tables
    from sweep.models.training import prepare, train_model

    flags = {
        "dataset": dataset,
        "beta": beta,
        "h_target": h_target,
        "target_bpp": target_bpp,
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
    job = prepare(config, given, set_ or [], output, resume, MODELS, timestamp())
    with out.status("Reading the images …"):
        job = job.with_images()
    out.print(f"Training in {job.directory}", highlight=False, soft_wrap=True)
    with progress_display.epochs_progress(out, job.config.epochs) as advance:
        result = train_model(job, device=device, advance=advance)
    out.print(tables.result_table(result))
    out.print(tables.seconds_line(result.seconds), highlight=False, soft_wrap=True)
    if result.collapsed is not None:
        err.print(f"warning: collapsed: {result.collapsed}", style="yellow", soft_wrap=True)
    out.print(f"Model, metrics and reconstructions: {job.directory}", soft_wrap=True)


def evaluate(
    directory: Annotated[Path, typer.Argument(help="Every model below it is evaluated.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="[DIR/evaluation.html]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Evaluate every trained model under a directory on its test images."""
    from analysis.report.evaluation import write_evaluation
    from sweep.cli import progress as progress_display
    from sweep.cli import tables
    from sweep.models.evaluation import evaluate_models, find_models

    models = find_models(directory)
    with progress_display.epochs_progress(out, len(models), "models") as advance:
        found = evaluate_models(directory, models, device=device, advance=advance)
    for name, changes in found.changes.items():
        err.print(
            f"warning: {name}: the images have changed since it was trained: {changes}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    out.print(tables.models_table(found.table))
    page = write_evaluation(found.table, found.pictures, output or directory / "evaluation.html")
    out.print(f"Plot and reconstructions: {page}", soft_wrap=True)


def compress(
    images: Annotated[list[Path], typer.Argument(help="Image files that Pillow reads.")],
    model: ModelOption,
    output: CodedOption,
    overwrite: OverwriteOption = False,
    tracking_uri: StoreOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Compress images with a trained model."""
    from sweep.models.files import compress_files

    _code(compress_files, images, model, output, overwrite, tracking_uri, device)


def decompress(
    files: Annotated[list[Path], typer.Argument(help="Streams that `rdsweep compress` wrote.")],
    model: ModelOption,
    output: CodedOption,
    overwrite: OverwriteOption = False,
    tracking_uri: StoreOption = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Decompress streams to PNG, with the model that compressed them."""
    from sweep.models.files import decompress_files

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
    from sweep.cli import tables
    from sweep.models.device import pick_device
    from sweep.models.lookup import open_model

    with open_model(model, SWEEPS, tracking_uri, pick_device(device)) as coder:
        out.print(tables.files_table(run(coder, files, output, overwrite=overwrite)))
