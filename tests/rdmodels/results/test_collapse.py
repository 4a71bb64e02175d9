import dataclasses
import re

import pytest

from rdmodels.results.collapse import collapse_of
from tests.conftest import SOUND

TARGET = 0.8
"""Bits per symbol."""


def test_a_sound_codec_has_not_collapsed() -> None:
    assert collapse_of(SOUND, TARGET) is None
    open_and_on_target = dataclasses.replace(SOUND, importance=1.0)
    assert collapse_of(open_and_on_target, TARGET) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"centers_used": 1}, "one center takes all symbols"),
        ({"importance": 0.001}, r"shut, it lets 0\.1% of the latent pass"),
        # Headers may be most of what was asked for.
        (
            {"bits_per_symbol_estimated": 0.04, "rate_over_target": 0.4},
            r"went to zero, 5\.0% of its target",
        ),
        ({"importance": 1.0, "rate_over_target": 1.5}, r"open everywhere, the rate 1\.50 times"),
        ({"bits_per_symbol_estimated": 1.3}, r"stale: 1\.300 bits per symbol, 1\.200 without"),
    ],
)
def test_each_way_to_collapse_is_named(values: dict[str, float], words: str) -> None:
    found = collapse_of(dataclasses.replace(SOUND, **values), TARGET)
    assert found is not None
    assert re.search(words, found)


@pytest.mark.parametrize(
    "values",
    [
        {"centers_used": 2},
        {"importance": 0.006},
        {"bits_per_symbol_estimated": 0.088},
        {"importance": 1.0, "rate_over_target": 1.09},
        {"bits_per_symbol_estimated": 1.22},
    ],
)
def test_close_to_the_edge_is_no_collapse(values: dict[str, float]) -> None:
    assert collapse_of(dataclasses.replace(SOUND, **values), TARGET) is None


def test_a_codec_without_an_importance_map_is_not_said_to_have_an_open_one() -> None:
    unmasked = dataclasses.replace(SOUND, importance=1.0, rate_over_target=1.5)
    assert collapse_of(unmasked, TARGET, importance_map=False) is None
