"""The Pareto set equals brute force whatever the order; hypervolume equals hand-made sums."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.frontier import frontier, hypervolume, pareto_mask
from rdmodels.results.quality import quality_db, reference_point

REFERENCE = {"bpp": 2.0, "psnr_db": 10.0}

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
    trials = table([(1.0, 20.0), (0.5, 25.0)], val_ms_ssim=[0.99, 0.9])
    assert frontier(trials, "ms_ssim")["trial_id"].tolist() == ["t0001", "t0000"]
    with pytest.raises(ValueError, match="mse, ms_ssim, got 'l1'"):
        frontier(trials, "l1")


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(1.0, 20.0)], 10.0),
        ([(1.0, 20.0), (0.5, 15.0)], 10.0 + 0.5 * 5.0),
        ([(0.5, 15.0), (1.0, 20.0), (1.5, 18.0), (1.0, 20.0)], 12.5),
        ([(2.0, 20.0), (1.0, 10.0), (3.0, 40.0), (1.0, 5.0)], 0.0),
        ([(1.0, 20.0), (3.0, 40.0), (None, 30.0), (0.1, None), (0.1, float("nan"))], 10.0),
    ],
)
def test_hypervolume_by_hand(points, area: float) -> None:
    assert hypervolume(points, REFERENCE) == pytest.approx(area)


@given(POINTS, COORDINATE, COORDINATE)
def test_hypervolume_never_falls_with_a_point_more(points, rate: float, quality: float) -> None:
    reference = {"bpp": 2.0, "psnr_db": 1.0}
    before = hypervolume(points, reference)
    after = hypervolume([*points, (rate, quality)], reference)
    assert after >= before - 1e-12
    kept = [point for point, keep in zip(points, pareto_mask(points), strict=True) if keep]
    assert hypervolume(kept, reference) == pytest.approx(before)


def test_ms_ssim_is_measured_in_db() -> None:
    assert quality_db(0.99, "ms_ssim") == pytest.approx(20.0)
    assert quality_db(1.0, "ms_ssim") is None
    assert quality_db(float("nan"), "mse") is None
    assert hypervolume([(1.0, 0.99)], REFERENCE, "ms_ssim") == pytest.approx(20.0)
    assert reference_point(REFERENCE | {"ms_ssim_db": 5.0}, "ms_ssim") == (2.0, 5.0)


def test_a_launch_can_import_it_without_pandas_torch_or_mlflow() -> None:
    code = "import sys, analysis.frontier; print({'pandas', 'torch', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
