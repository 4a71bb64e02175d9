"""A sweep's directory: found by path or id, and what its `sweep.json` says."""

import sqlite3
from contextlib import closing
from pathlib import Path

from rdmodels.errors import SweepReadError
from rdmodels.results.sweep import STORE_FILE, SWEEP_FILE, SweepInfo, read_info

SQLITE = "sqlite:///"


def find_sweep(sweep: str, root: Path = Path("sweeps")) -> Path:
    """The directory of a sweep that is named by its directory or, if under `root`, by its id.

    Raises:
        SweepReadError: if there is none; the message lists the sweeps that are there.
    """
    if (Path(sweep) / SWEEP_FILE).is_file():
        return Path(sweep)
    listing = []
    for file in sorted(root.glob(f"*/{SWEEP_FILE}")):
        try:
            info = read_info(file.parent)
        except SweepReadError:
            listing.append(f"{file.parent} (unreadable)")
            continue
        if info.sweep_id == sweep:
            return file.parent
        listing.append(f"{info.sweep_id} ({info.name})")
    reason = f"a directory without {SWEEP_FILE}" if Path(sweep).is_dir() else "no directory"
    there = f"the sweeps in {root} are {', '.join(listing)}" if listing else f"{root} has no sweep"
    raise SweepReadError(f"{sweep!r} is {reason} and no sweep's id; {there}")


def store_uri(directory: Path, info: SweepInfo) -> str:
    """The sweep's tracking URI; the database beside it if the recorded one is gone.

    Raises:
        SweepReadError: if neither is there, or it is no tracking store.
    """
    if not info.tracking_uri.startswith(SQLITE):
        return info.tracking_uri
    path = Path(info.tracking_uri.removeprefix(SQLITE).split("?")[0])
    beside = directory.resolve().parent / STORE_FILE
    if not path.is_file():
        if not beside.is_file():
            raise SweepReadError(
                f"sweep {info.sweep_id}: its tracking store {path} is not there, and neither is"
                f" {beside}: move the database along with the sweep"
            )
        path = beside
    uri = info.tracking_uri if path != beside else f"{SQLITE}{beside}"
    check_store_file(uri)
    return uri


def check_store_file(tracking_uri: str) -> None:
    """Raise SweepReadError if a SQLite store is not there or is no store; servers pass.

    On a file that is no database MLflow would retry for minutes; in an empty one, make tables.
    """
    if not tracking_uri.startswith(SQLITE):
        return
    path = Path(tracking_uri.removeprefix(SQLITE).split("?")[0])
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("SELECT 1 FROM experiments LIMIT 1")
    except sqlite3.Error as error:
        raise SweepReadError(f"{path} is not a tracking store of MLflow ({error})") from error
