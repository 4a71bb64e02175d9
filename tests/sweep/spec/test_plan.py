"""How long a sweep is said to take."""

import itertools

import pytest

from rdmodels.config import TrialConfig, override
from rdmodels.data.splits import Splits
from rdmodels.training.trim import trims, trims_by_bytes
from sweep.spec import plan


def test_the_end_of_a_trial_counts_what_is_written_once_more_for_the_trim(
    small_config: TrialConfig, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a clock whose every reading is a second later: one to write, one to read back."""
    monkeypatch.setattr(plan.time, "perf_counter", itertools.count().__next__)
    sample = min(plan.CODED_SMALL, len(digits.validation))
    both = 2 * (len(digits.validation) + len(digits.test)) / sample
    by_bytes = {"h_target": None, "target_bpp": 0.2}
    for values, written in (
        ({}, 0.0),
        (by_bytes, len(digits.validation) / sample),
        ({**by_bytes, "rate_trim": False}, 0.0),
        ({**by_bytes, "rate_control": "hinge"}, 0.0),
    ):
        config = override(small_config, values)
        found = plan.time_trial(config, digits, plan.torch.device("cpu"))
        assert found.coding_seconds == pytest.approx(both + written), values
        assert trims_by_bytes(config) == (written > 0)
        assert trims(config) == (values in ({}, by_bytes))
