"""rdsweep: the command line. Heavy imports sit inside the commands, so `--help` is instant."""

import logging
import sys
from typing import Annotated

import typer

from rdmodels.errors import RdsweepError
from sweep.cli.models import compress, decompress, evaluate, train
from sweep.cli.options import err
from sweep.cli.sweeps import launch, report, ui

app = typer.Typer(
    name="rdsweep",
    help="Find the rate-distortion frontier of a learned image codec.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (launch, train, evaluate, compress, decompress, report, ui):
    app.command()(command)


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
    if isinstance(error, RdsweepError):
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
