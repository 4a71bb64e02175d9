"""What several commands share: consoles, default folders, options."""

import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

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


def timestamp() -> str:
    """Now, as the names of new directories end."""
    return f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
