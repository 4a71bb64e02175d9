"""Training speed of this codec against a plain rendition of it, in one run.

The plain rendition follows the released code's structure: 3-D convolutions on an input padded once
by the whole receptive field, batch norm, two Adams, and a DataLoader with its defaults over images
decoded one by one. Same sizes, same data, same number of threads.

    python tests/benchmarks/training.py [--device cuda] [--batches 30] [--width 32] [--groups 1]
        [--compiled]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.batches import TrainingBatches
from rdmodels.data.images import ImageSet
from rdmodels.data.splits import load_splits
from rdmodels.model.autoencoder import Decoder, Encoder, make_norm
from rdmodels.model.importance import importance_mask
from rdmodels.training.averaging import averaged, update_average
from rdmodels.training.compiled import step_loss_of
from rdmodels.training.rate import after_step, gain_of, start_rate
from rdmodels.training.start import make_codec, make_optimiser
from rdmodels.training.step import step_options, train_step

TARGET = 1.0
PLAIN_BETA = 0.1
STEPS = 600


class PlainConv3d(nn.Conv3d):
    """A causal (2, 3, 3) convolution: valid, its mask applied to the weights."""

    def __init__(self, inputs: int, outputs: int, *, see_current: bool) -> None:
        super().__init__(inputs, outputs, (2, 3, 3))
        mask = torch.ones(2, 3, 3)
        mask[1, 1, 1 + int(see_current) :] = 0
        mask[1, 2] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv3d(x, self.weight * self.mask, self.bias)


class PlainContext(nn.Module):
    def __init__(self, features: int, centers: int) -> None:
        super().__init__()
        self.conv0 = PlainConv3d(1, features, see_current=False)
        self.conv1 = PlainConv3d(features, features, see_current=True)
        self.conv2 = PlainConv3d(features, features, see_current=True)
        self.out = PlainConv3d(features, centers, see_current=True)

    def forward(self, y_hat: Tensor, pad_value: float) -> Tensor:
        x = F.pad(y_hat.unsqueeze(1), (4, 4, 4, 4, 4, 0), value=pad_value)
        first = F.relu(self.conv0(x))
        residual = self.conv2(F.relu(self.conv1(first)))
        return self.out(residual + first[:, :, 2:, 2:-2, 2:-2])


class PlainCodec(nn.Module):
    def __init__(self, config: TrialConfig, channels: int) -> None:
        super().__init__()
        norm = make_norm("batch")
        latents = config.num_latent_channels
        self.latents = latents
        self.encoder = Encoder(channels, config.width, config.groups, latents + 1, norm)
        self.decoder = Decoder(latents, config.width, config.groups, channels, norm)
        self.centers = nn.Parameter(torch.linspace(-2, 2, config.num_centers))
        self.context = PlainContext(config.context_features, config.num_centers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.encoder(x)
        importance = importance_mask(z[:, 0], self.latents)
        y = importance * z[:, 1:]
        squares = (y.unsqueeze(-1) - self.centers).square()
        soft = (torch.softmax(-squares, -1) * self.centers).sum(-1)
        symbols = squares.argmin(-1)
        y_hat = soft + (self.centers[symbols] - soft).detach()
        logits = self.context(y_hat.detach(), float(self.centers[0].detach()))
        bits = F.cross_entropy(logits, symbols, reduction="none") / math.log(2)
        return self.decoder(y_hat), bits, importance


class Pictures(Dataset[Tensor]):
    """Images decoded one by one, as torchvision's sets do."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self.images.images[index]
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        return to_tensor(image)


def plain_step(config: TrialConfig, train: ImageSet, device: torch.device) -> Callable[[], int]:
    torch.manual_seed(0)
    codec = PlainCodec(config, train.channels).to(device)
    context = list(codec.context.parameters())
    known = set(map(id, context))
    rest = [parameter for parameter in codec.parameters() if id(parameter) not in known]
    optimisers = [torch.optim.Adam(rest, 1e-3), torch.optim.Adam(context, 1e-3)]
    loader = DataLoader(Pictures(train), batch_size=config.batch_size, shuffle=True)
    batches = iter(loader)

    def step() -> int:
        nonlocal batches
        x = next(batches, None)
        if x is None:
            batches = iter(loader)
            x = next(batches)
        x = x.to(device)
        x_hat, bits, importance = codec(x)
        h_soft = (bits.mean() + (bits * importance).mean()) / 2
        excess = (h_soft - TARGET).clamp(min=0)
        loss = (x_hat - x).square().mean() + PLAIN_BETA * excess
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        loss.item()
        return len(x)

    return step


def our_step(config: TrialConfig, train: ImageSet, device: torch.device) -> Callable[[], int]:
    codec = make_codec(config, train).to(device)
    optimiser = make_optimiser(codec, config)
    data = TrainingBatches(train, config, device)
    batches = data.epoch(0)
    options = step_options(config)
    target, gain = torch.tensor(TARGET, device=device), gain_of(STEPS)
    average, rate, done = averaged(codec), start_rate(0.0, device), 0
    loss = step_loss_of(config, device, config.batch_size)

    def step() -> int:
        nonlocal batches, rate, done
        x = next(batches, None)
        if x is None:
            batches = data.epoch(1)
            x = next(batches)
        # As the loop of a training does it: rate control and the average of the weights too.
        figures = train_step(codec, optimiser, x, rate.weight, target, options, loss)
        rate = after_step(rate, figures[2], target, gain, config.beta)
        update_average(average, codec, done, config.averaging)
        done += 1
        return len(x)

    return step


def rate(step: Callable[[], int], batches: int, device: torch.device) -> float:
    wait(device)
    started = time.perf_counter()
    images = sum(step() for _ in range(batches))
    wait(device)
    return images / (time.perf_counter() - started)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--compiled", action="store_true", help="needs a C++ compiler")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    config = make_trial(
        {
            "width": arguments.width,
            "groups": arguments.groups,
            "num_latent_channels": arguments.channels,
            "batch_size": arguments.batch_size,
        }
    )
    train = load_splits(config).train
    all_bits = override(config, {"context_share": 1.0})
    steps = {
        "plain": plain_step(config, train, device),
        "all bits": our_step(all_bits, train, device),
        "ours": our_step(config, train, device),
    }
    if arguments.compiled:
        steps["compiled"] = our_step(override(config, {"compiled": True}), train, device)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        started = time.perf_counter()
        rate(step, 3, device)
        if name == "compiled":
            print(f"compiled in {time.perf_counter() - started:.0f} s")
    # Interleaved, so that a noisy neighbour slows both.
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            rates[name].append(rate(step, arguments.batches, device))
    print(f"digits 32x32, width {config.width}, groups {config.groups},", end=" ")
    print(f"C {config.num_latent_channels}, batch {config.batch_size}, {device},", end=" ")
    print(f"{torch.get_num_threads()} threads")
    for name, values in rates.items():
        ratios = [own / plain for own, plain in zip(values, rates["plain"], strict=True)]
        print(f"{name:>8}: {statistics.median(values):7.1f} images/s,", end=" ")
        print(f"{statistics.median(ratios):.2f} times plain", end=" ")
        print(f"(of {len(ratios)} rounds: {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
