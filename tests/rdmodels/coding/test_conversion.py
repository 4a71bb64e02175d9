import numpy as np
import torch

from rdmodels.coding.conversion import calibration_symbols
from rdmodels.config import make_trial
from rdmodels.data.images import ImageSet
from rdmodels.model.codec import Codec


def test_calibration_looks_at_the_whole_set_evenly() -> None:
    torch.manual_seed(0)
    codec = Codec(
        make_trial({"width": 8, "groups": 1, "num_latent_channels": 2}), [0.5], [0.3]
    ).eval()
    rng = np.random.default_rng(0)
    # More pixels than calibration takes: 2^18 / 128^2 = 16 of 40 images.
    pixels = rng.integers(0, 256, (40, 1, 128, 128), dtype=np.uint8)
    images = ImageSet(pixels, tuple(map(str, range(40))))
    symbols = calibration_symbols(codec, images)
    assert len(symbols) == 16
    chosen = np.linspace(0, 39, 16).round().astype(int)
    with torch.no_grad():
        for index, found in zip(chosen, symbols, strict=True):
            x = torch.tensor(pixels[index : index + 1]).float() / 255
            assert torch.equal(codec.encode(x)[0].symbols[0], found)


def test_images_of_several_sizes_are_cut_to_a_common_one() -> None:
    codec = Codec(
        make_trial({"width": 8, "groups": 1, "num_latent_channels": 2}), [0.5], [0.3]
    ).eval()
    images = ImageSet(
        (np.zeros((1, 40, 24), np.uint8), np.zeros((1, 16, 300), np.uint8)), ("a", "b")
    )
    assert calibration_symbols(codec, images).shape == (2, 2, 2, 3)
