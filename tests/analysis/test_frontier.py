"""The Pareto set and the hypervolume equal brute force, whatever the order."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.frontier import frontier, hypervolume, pareto_mask
from rdmodels.results.quality import Corner

CORNER = Corner(bpp=4.0, quality_db=10.0)

# A coarse lattice makes ties and duplicates common.
COORDINATE = st.integers(0, 6).map(lambda step: step / 2)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=14)


def brute_force(points: list[tuple[float, float]]) -> list[bool]:
    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    return [
        not any(beats(other, point) for other in points) and point not in points[:index]
        for index, point in enumerate(points)
    ]


def table(points: list[tuple[float, float | None]], **columns: list[object]) -> pd.DataFrame:
    frame = pd.DataFrame(points, columns=["val_bpp", "val_psnr_db"], dtype="float64")
    frame["trial_id"] = [f"t{index:04d}" for index in range(len(points))]
    return frame.assign(status="complete").assign(**columns)


@given(POINTS)
def test_pareto_mask_equals_brute_force(points: list[tuple[float, float]]) -> None:
    assert pareto_mask(points).tolist() == brute_force(points)


@given(POINTS.flatmap(lambda points: st.tuples(st.just(points), st.permutations(points))))
def test_the_pareto_set_does_not_depend_on_the_order(
    case: tuple[list[tuple[float, float]], list[tuple[float, float]]],
) -> None:
    chosen = [
        {point for point, kept in zip(points, pareto_mask(points), strict=True) if kept}
        for points in case
    ]
    assert chosen[0] == chosen[1]


def test_the_order_of_input_is_not_taken_for_a_ranking() -> None:
    assert pareto_mask([(3, 3), (1, 1), (2, 2)]).tolist() == [True, True, True]
    assert pareto_mask([(3, 1), (1, 3), (2, 2)]).tolist() == [False, True, False]
    assert pareto_mask([]).tolist() == []


@given(POINTS, st.randoms(use_true_random=False))
def test_frontier_is_the_same_table_under_any_permutation(points, random) -> None:
    trials = table(points)
    shuffled = trials.iloc[random.sample(range(len(trials)), len(trials))]
    pd.testing.assert_frame_equal(frontier(trials, "mse"), frontier(shuffled, "mse"))
    found = frontier(shuffled, "mse")
    assert found["val_bpp"].is_monotonic_increasing
    assert found["val_psnr_db"].is_monotonic_increasing
    expected = [t for t, kept in zip(trials["trial_id"], brute_force(points), strict=True) if kept]
    assert sorted(found["trial_id"]) == expected


def test_frontier_takes_complete_trials_with_both_figures() -> None:
    points = [(1.0, 20.0), (0.5, None), (0.1, 30.0), (np.nan, 40.0), (0.1, np.inf)]
    status = ["complete", "complete", "pruned", "complete", "complete"]
    assert frontier(table(points, status=status), "mse")["trial_id"].tolist() == ["t0000"]
    assert frontier(table([]), "mse").empty


def test_the_first_of_identical_trials_is_kept_by_number_not_by_letter() -> None:
    trials = table([(1.0, 20.0)] * 2).assign(trial_id=["t10000", "t9999"])
    assert frontier(trials, "mse")["trial_id"].tolist() == ["t9999"]


def test_frontier_of_ms_ssim_ignores_psnr() -> None:
    trials = table([(1.0, 20.0), (0.5, 25.0)], val_ms_ssim_db=[20.0, 10.0])
    assert frontier(trials, "ms_ssim")["trial_id"].tolist() == ["t0001", "t0000"]
    with pytest.raises(ValueError, match="mse, ms_ssim, got 'l1'"):
        frontier(trials, "l1")


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(1.0, 20.0)], 2 * 10.0),
        ([(1.0, 20.0), (0.5, 15.0)], 2 * 10.0 + 1 * 5.0),
        ([(0.5, 15.0), (1.0, 20.0), (1.5, 18.0), (1.0, 20.0)], 25.0),
        ([(4.0, 20.0), (1.0, 10.0), (8.0, 40.0), (1.0, 5.0)], 0.0),
        ([(1.0, 20.0), (8.0, 40.0), (None, 30.0), (0.1, None), (0.1, float("nan"))], 20.0),
        ([(float("nan"), 30.0), (float("inf"), 30.0), (0.1, float("inf")), (1.0, 20.0)], 20.0),
    ],
)
def test_hypervolume_by_hand(points, area: float) -> None:
    assert hypervolume(points, CORNER) == pytest.approx(area)


def test_a_rate_that_no_stream_has_adds_nothing() -> None:
    assert hypervolume([(0.0, 50.0), (-1.0, 50.0), (1.0, 20.0)], CORNER) == pytest.approx(20.0)
    assert hypervolume([(0.0, 50.0)], CORNER) == 0.0


OCTAVE = st.integers(-5, 4)
DECIBELS = st.integers(5, 14)
IN_OCTAVES = st.lists(st.tuples(OCTAVE, DECIBELS), max_size=10)


def by_cells(points: list[tuple[int, int]]) -> int:
    """Cells of an octave and a dB, up to the corner of 4 bpp and 10 dB, that a point dominates."""
    cells = itertools.product(range(-5, 2), range(10, 14))
    return sum(any(x <= i and y > j for x, y in points) for i, j in cells)


@given(IN_OCTAVES.flatmap(lambda points: st.tuples(st.just(points), st.permutations(points))))
def test_hypervolume_equals_brute_force_in_any_order(case) -> None:
    for points in case:
        in_bpp = [(2.0**octave, float(quality)) for octave, quality in points]
        assert hypervolume(in_bpp, CORNER) == pytest.approx(by_cells(case[0]))


@given(IN_OCTAVES, OCTAVE, DECIBELS)
def test_hypervolume_never_falls_with_a_point_more(points, octave: int, quality: int) -> None:
    in_bpp = [(2.0**x, float(y)) for x, y in points]
    before = hypervolume(in_bpp, CORNER)
    after = hypervolume([*in_bpp, (2.0**octave, float(quality))], CORNER)
    assert after >= before - 1e-12
    kept = [point for point, keep in zip(in_bpp, pareto_mask(in_bpp), strict=True) if keep]
    assert hypervolume(kept, CORNER) == pytest.approx(before)


def test_every_part_of_a_frontier_counts() -> None:
    # From 19 dB at 1/32 bpp to 35 dB at 2 bpp, steeper towards the top as real curves are. In
    # plain bpp the best point alone makes up 62 %, and the lower half adds 5 %.
    rates = [2 ** (step / 4) for step in range(-20, 5)]
    points = [(bpp, 18.0 + 6.0 * math.log2(1 + 3 * bpp)) for bpp in rates]
    corner = Corner(bpp=2.0, quality_db=15.0)
    whole = hypervolume(points, corner)
    assert max(hypervolume([point], corner) for point in points) < 0.5 * whole
    assert hypervolume(points[len(points) // 2 :], corner) < 0.75 * whole
    assert hypervolume(points[: len(points) // 2], corner) < 0.75 * whole


def test_a_launch_can_import_it_without_pandas_torch_or_mlflow() -> None:
    code = "import sys, analysis.frontier; print({'pandas', 'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
