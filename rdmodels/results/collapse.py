"""Names what goes wrong in a training that does not fail: a codec that has collapsed."""

from rdmodels.results.trial import Metrics

EMPTY_RATE = 0.1
"""Of the target, headers left aside: a rate below this share of it is none."""
SHUT, OPEN = 0.005, 0.995
"""Shares of the latent at which an importance map no longer distinguishes anything."""
EXCESS = 1.1
"""Over the target: above it, an importance map that is open everywhere has failed to lower it."""
STALE = 1.02
"""Over the entropy of the symbols alone: a context model that costs more knows nothing of them."""


def collapse_of(metrics: Metrics, target: float, *, importance_map: bool = True) -> str | None:
    """What is wrong with a codec of such validation figures, in words; None if nothing is.

    A collapsed trial is a data point all the same: its bytes were written and decoded back.

    Args:
        target: bits per symbol that were asked for. importance_map: whether the codec has one.
    """
    if metrics.centers_used < 2:
        return "one center takes all symbols: the latent says nothing"
    if metrics.importance < SHUT:
        return f"the importance map is shut, it lets {metrics.importance:.1%} of the latent pass"
    rate = metrics.bits_per_symbol_estimated / target
    if rate < EMPTY_RATE:
        return f"the rate went to zero, {rate:.1%} of its target"
    if importance_map and metrics.importance > OPEN and metrics.rate_over_target > EXCESS:
        return (
            "the importance map is open everywhere, the rate"
            f" {metrics.rate_over_target:.2f} times its target"
        )
    if metrics.bits_per_symbol_estimated > STALE * metrics.symbol_entropy:
        return (
            f"the context model is stale: {metrics.bits_per_symbol_estimated:.3f} bits per symbol,"
            f" {metrics.symbol_entropy:.3f} without it"
        )
    return None
