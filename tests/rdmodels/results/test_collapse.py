import dataclasses
import re

import pytest

from rdmodels.results.collapse import collapse_of
from tests.conftest import SOUND


def test_a_sound_codec_has_not_collapsed() -> None:
    assert collapse_of(SOUND) is None
    open_and_on_target = dataclasses.replace(SOUND, importance=1.0)
    assert collapse_of(open_and_on_target) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"centers_used": 1}, "one center takes all symbols"),
        ({"importance": 0.001}, r"shut, it lets 0\.1% of the latent pass"),
        ({"rate_over_target": 0.05}, r"went to zero, 5\.0% of its target"),
        ({"importance": 1.0, "rate_over_target": 1.5}, r"open everywhere, the rate 1\.50 times"),
        ({"bits_per_symbol_estimated": 1.3}, r"stale: 1\.300 bits per symbol, 1\.200 without"),
    ],
)
def test_each_way_to_collapse_is_named(values: dict[str, float], words: str) -> None:
    found = collapse_of(dataclasses.replace(SOUND, **values))
    assert found is not None
    assert re.search(words, found)


@pytest.mark.parametrize(
    "values",
    [
        {"centers_used": 2},
        {"importance": 0.006},
        {"rate_over_target": 0.11},
        {"importance": 1.0, "rate_over_target": 1.09},
        {"bits_per_symbol_estimated": 1.22},
    ],
)
def test_close_to_the_edge_is_no_collapse(values: dict[str, float]) -> None:
    assert collapse_of(dataclasses.replace(SOUND, **values)) is None
