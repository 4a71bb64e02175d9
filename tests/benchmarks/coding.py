"""Measure the entropy coder: rate against the float network, and speed against naive decoding.

    python tests/benchmarks/coding.py [--data-dir DIR] [--photos FOLDER]

Small images are MNIST where DIR has it, else the bundled digits cut to 28x28; photographs are
those in FOLDER, else scikit-learn's two, cut into tiles. A codec is trained for about a minute on
each: enough for a context model that has learned something, which is all that coding depends on.
Every ratio is taken within this run, on two threads, with fixed seeds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdmodels.coding import bitstream
from rdmodels.coding.coding_model import CodingModel, make_coding_model
from rdmodels.coding.container import read_header
from rdmodels.coding.conversion import calibration_symbols, convert_context
from rdmodels.coding.entropy import decode_symbols, encode_symbols, in_order
from rdmodels.coding.fronts import LatentShape
from rdmodels.coding.range_coder import RangeDecoder, RangeEncoder
from rdmodels.config import make_trial
from rdmodels.data.splits import Splits, load_splits
from rdmodels.model.storage import load_codec
from rdmodels.training.fit import fit

Pixels = NDArray[np.uint8]

THREADS = 2
HEIGHT, WIDTH = 512, 768
TILE = 160
SINGLE_SYMBOLS = 300
SINGLE_IMAGES = 200
BATCH = 1000


class Trained(NamedTuple):
    """A coding model and its data set."""

    name: str
    model: CodingModel
    splits: Splits


def train(name: str, values: dict[str, object], directory: Path) -> Trained:
    config = make_trial({"width": 16, "groups": 1, "batch_size": 32, **values})
    splits = load_splits(config)
    started = time.perf_counter()
    *_, record = fit(config, splits, directory)
    codec, _ = load_codec(directory)
    integer = convert_context(codec, calibration_symbols(codec, splits.train))
    print(
        f"{name}: {config.epochs} epochs in {time.perf_counter() - started:.0f} s,"
        f" C = {config.num_latent_channels}, k = {config.context_features},"
        f" {record.val.bits_per_symbol_estimated:.3f} bits per symbol"
    )
    return Trained(name, make_coding_model(codec, integer, config), splits)


def train_small(data_dir: Path | None, directory: Path) -> Trained:
    values: dict[str, object] = {"h_target": 0.5, "epochs": 8}
    if data_dir is None:
        return train("digits", {**values, "dataset": "digits"}, directory)
    mnist: dict[str, object] = {
        "dataset": "mnist",
        "data_dir": str(data_dir),
        "train_images": 2000,
        "test_images": BATCH,
        "validation_fraction": 0.01,
    }
    return train("MNIST", {**values, **mnist}, directory)


def train_photos(photos: Path | None, directory: Path) -> Trained:
    # Without the importance map, which takes far longer to learn a rate on photographs.
    values: dict[str, object] = {
        "importance_map": False,
        "rate_control": "hinge",
        "crop_size": 64,
        "crops_per_image": 4,
        "context_learning_rate": 4e-3,
        "batch_size": 8,
        "epochs": 8,
    }
    if photos is None:
        photos = directory / "tiles"
        write_tiles(photos)
    return train("photographs", {**values, "dataset": f"folder:{photos}"}, directory / "model")


def write_tiles(folder: Path) -> None:
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True)
    for number, image in enumerate(load_sample_images().images):
        for top in range(0, image.shape[0] - TILE + 1, TILE // 2):
            for left in range(0, image.shape[1] - TILE + 1, TILE // 2):
                tile = Image.fromarray(image[top : top + TILE, left : left + TILE])
                tile.save(folder / f"{number}-{top:03d}-{left:03d}.png")


def large_photo(images: tuple[Pixels, ...] | Pixels) -> Pixels:
    """768x512 RGB from photographs side by side, each in its own pixels."""
    rows = []
    pool = list(images)
    height, width = (min(image.shape[axis] for image in pool) for axis in (1, 2))
    index = 0
    for _ in range(0, HEIGHT, height):
        row = []
        for _ in range(0, WIDTH, width):
            row.append(pool[index % len(pool)][:, :height, :width])
            index += 1
        rows.append(np.concatenate(row, axis=2))
    return np.ascontiguousarray(np.concatenate(rows, axis=1)[:, :HEIGHT, :WIDTH])


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Least wall time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


@torch.no_grad()
def float_bits(model: CodingModel, symbols: Tensor) -> float:
    parts = symbols.split(max(1, 2**18 // symbols[0].numel()))
    return float(sum(model.codec.symbol_bits(part).double().sum() for part in parts))


def report_rate(trained: Trained, symbols: Tensor) -> None:
    bits = 8 * len(encode_symbols(in_order(trained.model.integer_context, symbols)))
    estimated = float_bits(trained.model, symbols)
    print(
        f"(a) {trained.name}: {bits} bits written over {estimated:.0f} estimated by the float"
        f" network, {symbols.numel()} symbols at {estimated / symbols.numel():.3f} bits:"
        f" ratio {bits / estimated:.5f} (at most 1.005)"
    )


def single_symbol_seconds(model: CodingModel, symbols: Tensor) -> float:
    """Time per symbol when each is decoded after its own call of the network.

    The call is on the symbol's receptive field, 5x9x9, in the middle of the latent, and on one
    thread, which is faster for so little work.
    """
    # The tests' own pass over a latent: no package that is installed has it.
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.rdmodels.coding.parallel_pass import pmfs_by_channel

    integer = model.integer_context
    _, channels, height, width = symbols.shape
    channel, row = channels // 2, height // 2
    places = [
        (channel, row + i // (width - 8), 4 + i % (width - 8)) for i in range(SINGLE_SYMBOLS)
    ]

    def pmf(c: int, h: int, w: int) -> NDArray[np.float64]:
        patch = symbols[:, c - 4 : c + 1, h - 4 : h + 5, w - 4 : w + 5]
        *_, last = pmfs_by_channel(integer, patch)
        return last[0, 4, 4:5].numpy().astype(np.float64)

    encoder = RangeEncoder()
    for place in places:
        encoder.put(symbols[0][place].reshape(1).numpy().astype(np.int32), pmf(*place))
    decoder = RangeDecoder(encoder.finish())
    torch.set_num_threads(1)
    started = time.perf_counter()
    decoded = [int(decoder.get(pmf(*place))[0]) for place in places]
    elapsed = time.perf_counter() - started
    torch.set_num_threads(THREADS)
    if decoded != [int(symbols[0][place]) for place in places]:
        raise SystemExit("symbol by symbol decoding gave other symbols")
    return elapsed / len(places)


def report_decoding(trained: Trained) -> None:
    model = trained.model
    image = large_photo(tuple(trained.splits.train.images))
    symbols = bitstream.encode_images(model, image[None])
    shape = LatentShape(*symbols.shape)
    message = encode_symbols(in_order(model.integer_context, symbols))
    if not torch.equal(decode_symbols(model.integer_context, shape, message), symbols):
        raise SystemExit("decoding gave other symbols")
    encoding = seconds(lambda: encode_symbols(in_order(model.integer_context, symbols)), 3)
    decoding = seconds(lambda: decode_symbols(model.integer_context, shape, message), 3)
    pixels = seconds(lambda: bitstream.decode_images(model, symbols, (HEIGHT, WIDTH)), 2)
    naive = single_symbol_seconds(model, symbols) * symbols.numel()
    print(
        f"(b) {WIDTH}x{HEIGHT} RGB, {symbols.numel()} symbols, {8 * len(message)} bits: decoded in"
        f" {decoding:.2f} s (at most 2), {naive / decoding:.0f} times faster than symbol by symbol"
        f" with the same network (at least 100), which takes {naive:.0f} s (extrapolated from"
        f" {SINGLE_SYMBOLS} symbols, each from its 5x9x9 patch); encoded in {encoding:.2f} s;"
        f" the image decoder takes {pixels:.2f} s"
    )


def report_batching(trained: Trained) -> None:
    model = trained.model
    pool = np.stack(list(trained.splits.test.images) + list(trained.splits.train.images))
    top = (pool.shape[-1] - 28) // 2
    images = np.ascontiguousarray(pool[:BATCH, :, top : top + 28, top : top + 28])
    data = bitstream.compress_batch(model, images)
    batched = len(images) / seconds(lambda: bitstream.decompress_batch(model, data), 2)
    streams = [bitstream.compress(model, image) for image in images]
    part = streams[:SINGLE_IMAGES]
    alone = len(part) / seconds(lambda: [bitstream.decompress(model, one) for one in part])
    header = read_header(streams[0])
    total = sum(map(len, streams))
    print(
        f"(c) {len(images)} images of 28x28: {batched:.0f} images/s decoded from one stream,"
        f" {alone:.0f} one by one (timed on {len(part)}), {batched / alone:.0f} times faster;"
        f" {len(data) / len(images):.1f} and {total / len(streams):.1f} bytes an image,"
        f" {header.header_bytes} of the latter are header"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, help="where torchvision's MNIST lies")
    parser.add_argument("--photos", type=Path, help="a folder with RGB photographs")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as temporary:
        small = train_small(arguments.data_dir, Path(temporary) / "small")
        photos = train_photos(arguments.photos, Path(temporary) / "photos")
    report_rate(
        small, bitstream.encode_images(small.model, np.stack(list(small.splits.test.images)))
    )
    image = large_photo(tuple(photos.splits.test.images))
    report_rate(photos, bitstream.encode_images(photos.model, image[None]))
    report_decoding(photos)
    report_batching(small)


if __name__ == "__main__":
    main()
