from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdmodels import checkpoint
from rdmodels.coding.conversion import calibration_symbols, convert_context
from rdmodels.coding.fronts import Fronts, LatentShape, front_pass
from rdmodels.coding.integer_context import (
    ACTIVATION_MAX,
    EXP_BITS,
    INTEGER_CONTEXT,
    IntegerContext,
    exp2_table,
    integer_softmax,
    load_integer_context,
    save_integer_context,
)
from rdmodels.config import make_trial
from rdmodels.data.images import ImageSet
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
from tests.rdmodels.coding.parallel_pass import pmfs_by_channel

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def random_codec(centers: int = 6, features: int = 24, seed: int = 0) -> Codec:
    """A codec whose context model is far from uniform, though it has learned nothing."""
    config = make_trial({"width": 4, "groups": 1, "num_centers": centers})
    torch.manual_seed(seed)
    codec = Codec(config.model_copy(update={"context_features": features}), [0.5], [0.25])
    torch.nn.init.normal_(codec.context.logits.weight, std=0.3)
    torch.nn.init.normal_(codec.context.logits.bias)
    return codec.eval()


def random_symbols(*shape: int, centers: int = 6, seed: int = 1) -> Tensor:
    return torch.randint(0, centers, shape, generator=torch.Generator().manual_seed(seed))


def parallel_pmfs(integer: IntegerContext, symbols: Tensor) -> Tensor:
    """(N, C, h, w, L), by a pass of its own over the whole latent."""
    return torch.stack(list(pmfs_by_channel(integer, symbols)), dim=1)


def front_pmfs(integer: IntegerContext, symbols: Tensor) -> Tensor:
    """(N, C, h, w, L), by the walk that codes, fed with the true symbols."""
    images, channels, height, width = symbols.shape
    channel, row, column = torch.meshgrid(*map(torch.arange, symbols.shape[1:]), indexing="ij")
    order = (column + 2 * row + 4 * channel).flatten().argsort(stable=True)
    coded = symbols.reshape(images, -1)[:, order].T.flatten()
    parts: list[Tensor] = []
    done = 0

    def next_symbols(pmfs: Tensor) -> Tensor:
        nonlocal done
        parts.append(pmfs)
        done += len(pmfs)
        return coded[done - len(pmfs) : done].to(pmfs.device)

    fronts = Fronts.of(LatentShape(images, channels, height, width))
    walked = front_pass(integer, fronts, images, next_symbols)
    assert torch.equal(walked.cpu(), symbols)
    found = torch.cat(parts).reshape(len(order), images, -1).cpu()
    out = torch.empty_like(found)
    out[order] = found
    return out.transpose(0, 1).reshape(*symbols.shape, -1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def integer() -> IntegerContext:
    return convert_context(random_codec(), random_symbols(4, 6, 8, 8))


@pytest.mark.parametrize(("centers", "features"), [(2, 2), (6, 24), (64, 128)])
def test_pmfs_are_those_of_the_float_network_rounded(centers: int, features: int) -> None:
    codec = random_codec(centers, features)
    symbols = random_symbols(2, 5, 9, 7, centers=centers)
    pmfs = parallel_pmfs(convert_context(codec, symbols), symbols)
    values = codec.quantizer.values(symbols)
    with torch.no_grad():
        logits = codec.context(values, codec.quantizer.centers[0])
    ratio = pmfs.double() / 2**16 - torch.softmax(logits.double(), -1)
    # A unit for each symbol, and half a percent of a probability for all roundings together.
    assert float(ratio.abs().max()) < centers / 2**16 + 0.005


@given(
    st.lists(st.integers(-(2**20), 2**20), min_size=2, max_size=64),
    st.integers(-3, 3),
)
def test_an_integer_softmax_is_positive_and_sums_to_two_to_the_sixteen(
    logits: list[int], shift: int
) -> None:
    pmf = integer_softmax(torch.tensor([logits], dtype=torch.float64))
    assert int(pmf.sum()) == 2**16
    assert int(pmf.min()) >= 1
    moved = torch.tensor([[logit + shift for logit in logits]], dtype=torch.float64)
    assert torch.equal(integer_softmax(moved), pmf)


def test_the_exponential_table_is_correctly_rounded_and_reaches_zero() -> None:
    table = exp2_table(torch.device("cpu"))
    index = torch.arange(len(table), dtype=torch.float64)
    assert torch.equal(table, (2.0 ** (EXP_BITS - index / 256)).round().long())
    assert table[-1] == 0
    assert table[-2] == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 7, 1, 5), (2, 1, 6, 1), (3, 9, 11, 8)])
def test_every_way_to_call_the_network_gives_the_same_pmfs(
    integer: IntegerContext, shape: tuple[int, int, int, int], device: str
) -> None:
    symbols = random_symbols(*shape)
    whole = parallel_pmfs(integer, symbols)
    assert torch.equal(whole.sum(-1), torch.full(shape, 2**16))
    assert int(whole.min()) >= 1
    assert torch.equal(parallel_pmfs(integer.to(device), symbols.to(device)).cpu(), whole)
    for count in (1, 2):
        with threads(count):
            assert torch.equal(front_pmfs(integer.to(device), symbols), whole)
            alone = [parallel_pmfs(integer, part) for part in symbols.split(1)]
            assert torch.equal(torch.cat(alone), whole)
            alone = [front_pmfs(integer, part) for part in symbols.split(1)]
            assert torch.equal(torch.cat(alone), whole)


def test_blocks_of_rows_do_not_change_pmfs(
    integer: IntegerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = random_symbols(2, 3, 13, 9)
    whole = parallel_pmfs(integer, symbols)
    for block in (1, 50, 100):
        monkeypatch.setattr("tests.rdmodels.coding.parallel_pass.BLOCK", block)
        assert torch.equal(parallel_pmfs(integer, symbols), whole)


def test_a_patch_with_its_receptive_field_gives_the_pmfs_of_the_whole(
    integer: IntegerContext,
) -> None:
    symbols = random_symbols(1, 9, 20, 21)
    whole = parallel_pmfs(integer, symbols)
    patch = parallel_pmfs(integer, symbols[:, 2:, 3:16, 4:18])
    # The receptive field reaches four channels back, four rows up and four columns sideways,
    # and the patch's lower rows are not looked at by the upper ones of the same channel.
    assert torch.equal(patch[:, 4:, 4:-4, 4:-4], whole[:, 6:, 7:12, 8:14])


def test_saturated_activations_stay_exact() -> None:
    quiet = convert_context(random_codec(), random_symbols(1, 4, 5, 5))
    loud = IntegerContext.from_tensors(
        {
            name: tensor - 9 if name == "conv0.shift" else tensor
            for name, tensor in quiet.tensors().items()
        }
    )
    symbols = random_symbols(2, 5, 6, 7)
    x = torch.full((1, 13), float(loud.values.abs().max()), dtype=torch.float64)
    assert float(loud.first(x).max()) == ACTIVATION_MAX
    assert torch.equal(front_pmfs(loud, symbols), parallel_pmfs(loud, symbols))


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)))
def test_changing_a_symbol_leaves_all_earlier_and_its_own_pmfs_alone(
    integer: IntegerContext, position: tuple[int, int, int]
) -> None:
    symbols = random_symbols(1, 4, 5, 6)
    changed = symbols.clone()
    changed[0][position] = (changed[0][position] + 3) % 6
    differs = (parallel_pmfs(integer, symbols) != parallel_pmfs(integer, changed)).any(-1)[0]
    index = int(torch.arange(4 * 5 * 6).reshape(4, 5, 6)[position])
    assert not differs.flatten()[: index + 1].any()


def test_a_front_depends_only_on_earlier_fronts(integer: IntegerContext) -> None:
    symbols = random_symbols(1, 4, 5, 6)
    channel, row, column = torch.meshgrid(*map(torch.arange, (4, 5, 6)), indexing="ij")
    time = column + 2 * row + 4 * channel
    whole = parallel_pmfs(integer, symbols)
    for now in range(int(time.max()) + 1):
        changed = torch.where(time >= now, (symbols + 1) % 6, symbols)
        same = (parallel_pmfs(integer, changed) == whole).all(-1)[0]
        assert same[time <= now].all()


def test_the_network_survives_a_file(integer: IntegerContext, tmp_path: Path) -> None:
    save_integer_context(tmp_path, integer)
    loaded = load_integer_context(tmp_path)
    symbols = random_symbols(1, 3, 4, 5)
    assert torch.equal(parallel_pmfs(loaded, symbols), parallel_pmfs(integer, symbols))
    for name, tensor in loaded.tensors().items():
        assert torch.equal(tensor, integer.tensors()[name])


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("values", torch.zeros(6), r"values must be torch\.int32"),
        ("values", torch.full((6,), 2**15 + 1, dtype=torch.int32), "values must be at most"),
        ("values", torch.zeros(1, dtype=torch.int32), "2 to 64 centers"),
        ("conv0.bias", torch.zeros(129, dtype=torch.int64), "2 to 128 features"),
        ("conv1.weight", torch.zeros(336, 23, dtype=torch.int32), r"conv1\.weight must be"),
        ("conv1.weight", torch.full((336, 24), 2**31 - 1, dtype=torch.int32), r"conv1 sums up"),
        ("conv2.bias", torch.full((24,), 2**62), r"conv2 sums up"),
        ("conv2.bias", torch.full((24,), -(2**63)), r"conv2 sums up"),
        ("logits.shift", torch.tensor(513), r"within ±512"),
        ("logits.shift", torch.tensor([3]), r"logits\.shift must be"),
        ("extra", torch.zeros(1), "has the tensors"),
    ],
)
def test_a_file_that_breaks_the_bounds_is_refused(
    integer: IntegerContext, tmp_path: Path, name: str, tensor: Tensor, message: str
) -> None:
    checkpoint.save(tmp_path / INTEGER_CONTEXT, {**integer.tensors(), name: tensor}, {})
    with pytest.raises(ConfigError, match=message):
        load_integer_context(tmp_path)


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        load_integer_context(tmp_path)
    (tmp_path / INTEGER_CONTEXT).write_bytes(b"\xff" * 100)
    with pytest.raises(ConfigError, match="not a file that rdsweep wrote"):
        load_integer_context(tmp_path)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-4, 1e4])
def test_models_of_any_scale_convert(scale: float) -> None:
    codec = random_codec(features=4)
    with torch.no_grad():
        for parameter in codec.context.parameters():
            parameter.mul_(scale)
    symbols = random_symbols(1, 3, 6, 6)
    pmfs = parallel_pmfs(convert_context(codec, symbols), symbols)
    if scale < 1e-10:
        assert int(pmfs.min()) == 2**16 // 6


def test_what_cannot_be_converted_is_named() -> None:
    codec = random_codec(features=4)
    with pytest.raises(ConfigError, match="calibration needs symbols"):
        convert_context(codec, random_symbols(0, 3, 4, 4))
    with torch.no_grad():
        codec.context.conv1.bias[0] = float("nan")
    with pytest.raises(ConfigError, match="not finite"):
        convert_context(codec, random_symbols(1, 3, 4, 4))


def test_calibration_takes_images_of_mixed_sizes() -> None:
    codec = random_codec()
    images = tuple(np.zeros((1, 40 + side, 300 - side), np.uint8) for side in range(7))
    symbols = calibration_symbols(codec, ImageSet(images, tuple("abcdefg")))
    assert symbols.shape == (7, codec.num_latent_channels, 5, 32)
