"""What the command line shows while something runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from analysis.report.formats import duration, spread
from rdmodels.results.quality import quality_of
from sweep.cli.tables import number

if TYPE_CHECKING:
    from sweep.run.progress import SweepProgress
    from sweep.spec.spec import SweepSpec

BEST_SHOWN = 5


@contextmanager
def live_progress(
    console: Console, progress: "SweepProgress", spec: "SweepSpec"
) -> Iterator[None]:
    """Show the sweep's progress while it runs; on a pipe, one line per finished trial."""
    if not console.is_terminal:
        progress.announce = partial(console.print, highlight=False, soft_wrap=True)
        yield
        return
    with Live(
        get_renderable=lambda: progress_view(progress, spec), console=console, refresh_per_second=2
    ):
        yield


def progress_view(progress: "SweepProgress", spec: "SweepSpec") -> RenderableType:
    """Trials done, running and failed; the best points; hypervolume; time left."""
    left, standing = progress.seconds_left, progress.standing
    line = (
        f"trials: {standing.done}/{progress.trials} done,"
        f" {len(progress.running)} running, {standing.failed} failed"
        f"   epochs to go: {progress.epochs_left}"
        f"   hypervolume: {standing.hypervolume:.3f}"
        f"   time left: {'…' if left is None else 'about ' + duration(left)}"
    )
    table = Table(title="frontier so far", title_justify="left", box=None)
    for name in ("trial", "bpp", quality_of(spec.base.distortion).name):
        table.add_column(name, justify="right")
    front = standing.front()
    for trial_id, bpp, value in (front[i] for i in spread(len(front), BEST_SHOWN)):
        table.add_row(trial_id, f"{bpp:.3f}", number(value, 4 if value < 1 else 2))
    return Group(line, table) if standing.points else Group(line)


@contextmanager
def epochs_progress(
    console: Console, total: int, unit: str = "epochs"
) -> Iterator[Callable[[int, str], None]]:
    """A progress bar; yields advance(done, message)."""
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def advance(done: int, message: str) -> None:
            bar.update(task, completed=done, description=message)
            if not console.is_terminal:
                console.print(f"{done}/{total} {message}", highlight=False)

        yield advance
