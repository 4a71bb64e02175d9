"""The frontier as markdown, for places that show no page."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.formats import MISSING, spread


def frontier_markdown(document: Mapping[str, Any], longest: int) -> str:
    """The frontier as a table, in at most `longest` characters.

    Points that do not fit are left out, evenly, and the text says so; two always stay.

    Args:
        document: what `frontier.json` says.
        longest: a few hundred at least.
    """
    names, points = document["short_columns"], document["points"]
    head = [_row(names), _row(["---"] * len(names))]
    rows = [_row([_cell(point[name]) for name in names]) for point in points]
    lead = "Pareto frontier, chosen on validation images; `report.html` is among the artifacts."
    left_out = f" It has {len(rows)} points, of which some are here; `frontier.csv` has all."
    note = [document["rate_note"]] if document["rate_note"] else []
    around = len("\n\n".join([lead + left_out, "\n".join(head), *note]))
    most = (longest - around) // (1 + max(map(len, rows), default=0))
    if most < len(rows):
        lead += left_out
        rows = [rows[index] for index in spread(len(rows), max(2, most))]
    return "\n\n".join([lead, "\n".join([*head, *rows]), *note])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")
