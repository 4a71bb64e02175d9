"""The context model in integers: the same probabilities on every machine, to the last bit.

A range decoder must meet exactly the probabilities that the encoder used, while a float network's
depend on batch size, threads and device. So a trained context model is converted, once, into one
whose weights, biases and activations are integers held in float64. Every sum stays below 2^53,
so it is exact in whatever order it is formed; matrix products are the only sums, because a
convolution may be computed by an algorithm that divides. Rescaling is by powers of two and floor.

    symbols -> values -> conv0 -> relu -> + -> logits -> exp2 table -> pmf, integers of sum 2^16
                                  |       |
                                  conv1 -> relu -> conv2

The conversion itself is float arithmetic and is never repeated elsewhere: its integers travel with
the model. Source: Ballé, Johnston, Minnen, "Integer Networks for Data Compression with
Latent-Variable Models", ICLR 2019; here scales come from calibration instead of training.
"""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rdmodels import checkpoint
from rdmodels.errors import ConfigError

INTEGER_CONTEXT = "integer_context.safetensors"
LAYERS = ("conv0", "conv1", "conv2", "logits")

PMF_BITS = 16
"""Every pmf is integers of at least 1 that sum to 2^16."""

VALUE_BITS = 15
WEIGHT_BITS = 15
BIAS_BITS = 40
ACTIVATION_BITS = 13
ACTIVATION_MAX = 2**16 - 1
"""Activations are clamped here, at eight times the largest one met in calibration."""

LOGIT_BITS = 8
"""Logits are in units of 2^-8 bit."""
LOGIT_MAX = 2**20
EXP_BITS = 24
MAX_SUM = 2**52
MAX_SHIFT = 512

PREVIOUS = [(-1, row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
CURRENT = [(0, -1, -1), (0, -1, 0), (0, -1, 1), (0, 0, -1), (0, 0, 0)]
TAPS = (*PREVIOUS, *CURRENT)
"""(channel, row, column) offsets of a layer's inputs; the first layer lacks the last one."""


@dataclass(frozen=True)
class IntegerLayer:
    """floor((x @ weight + bias) / 2^shift): weight (taps * inputs, outputs), bias (outputs,).

    Both are float64 with integer values; `bias` includes the half that rounds.
    """

    weight: Tensor
    bias: Tensor
    shift: int

    def __call__(self, x: Tensor) -> Tensor:
        """Integers (rows, taps * inputs) -> integers (rows, outputs), exact."""
        return torch.addmm(self.bias, x, self.weight).mul_(2.0**-self.shift).floor_()


@dataclass(frozen=True)
class IntegerContext:
    """The converted context model. `values` (L,) float64 are the centers as integers."""

    values: Tensor
    layers: tuple[IntegerLayer, ...]

    @property
    def num_centers(self) -> int:
        """L: values a symbol can take."""
        return self.values.numel()

    @property
    def features(self) -> int:
        """k: features of the inner layers."""
        return self.layers[0].bias.numel()

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.values.device

    def to(self, device: torch.device | str) -> "IntegerContext":
        """The same network on `device`."""
        layers = (
            IntegerLayer(layer.weight.to(device), layer.bias.to(device), layer.shift)
            for layer in self.layers
        )
        return IntegerContext(self.values.to(device), tuple(layers))

    def first(self, x: Tensor) -> Tensor:
        """conv0 and its ReLU: values (rows, 13) -> (rows, k)."""
        return self.layers[0](x).clamp_(0, ACTIVATION_MAX)

    def hidden(self, x: Tensor) -> Tensor:
        """conv1 and its ReLU: first (rows, 14 k) -> (rows, k)."""
        return self.layers[1](x).clamp_(0, ACTIVATION_MAX)

    def residual(self, x: Tensor, first: Tensor) -> Tensor:
        """conv2 plus the skip: hidden (rows, 14 k) and first (rows, k) -> (rows, k)."""
        return self.layers[2](x).add_(first).clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)

    def pmfs(self, x: Tensor) -> Tensor:
        """Residual (rows, 14 k) -> int64 pmfs (rows, L)."""
        return integer_softmax(self.layers[3](x).clamp_(-LOGIT_MAX, LOGIT_MAX))

    def tensors(self) -> dict[str, Tensor]:
        """The network as integer tensors, for a file; `from_tensors` is the inverse."""
        named = {"values": self.values.int().cpu()}
        for name, layer in zip(LAYERS, self.layers, strict=True):
            named[f"{name}.weight"] = layer.weight.int().cpu()
            named[f"{name}.bias"] = layer.bias.long().cpu()
            named[f"{name}.shift"] = torch.tensor(layer.shift)
        return named

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "IntegerContext":
        """The network in `tensors`, which may come from anywhere and are not trusted.

        Raises:
            ConfigError: if a tensor is missing, unknown, no integer, misshapen, or so large that
                a sum could pass 2^52.
        """
        parts = [f"{name}.{part}" for name in LAYERS for part in ("weight", "bias", "shift")]
        expected = ["values", *parts]
        if set(tensors) != set(expected):
            raise ConfigError(
                f"an integer context model has the tensors {', '.join(expected)};"
                f" got {', '.join(sorted(tensors))}"
            )
        for name in expected:
            dtype = torch.int64 if name.endswith(("bias", "shift")) else torch.int32
            if tensors[name].dtype != dtype:
                raise ConfigError(f"{name} must be {dtype}, got {tensors[name].dtype}")
        _check_shapes(tensors)
        layers = (
            IntegerLayer(
                tensors[f"{name}.weight"].double(),
                tensors[f"{name}.bias"].double(),
                int(tensors[f"{name}.shift"]),
            )
            for name in LAYERS
        )
        integer = cls(tensors["values"].double(), tuple(layers))
        _check_bounds(integer)
        return integer


def _check_shapes(tensors: dict[str, Tensor]) -> None:
    centers, features = tensors["values"].numel(), tensors["conv0.bias"].numel()
    if not (2 <= centers <= 64 and 2 <= features <= 128):
        raise ConfigError(
            f"an integer context model has 2 to 64 centers and 2 to 128 features,"
            f" got {centers} and {features}"
        )
    wide = len(TAPS) * features
    inputs = (len(TAPS) - 1, wide, wide, wide)
    outputs = (features, features, features, centers)
    shapes: dict[str, tuple[int, ...]] = {"values": (centers,)}
    for name, rows, columns in zip(LAYERS, inputs, outputs, strict=True):
        shapes[f"{name}.weight"] = (rows, columns)
        shapes[f"{name}.bias"] = (columns,)
        shapes[f"{name}.shift"] = ()
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ConfigError(f"{name} must be {shape}, got {tuple(tensors[name].shape)}")


def _check_bounds(integer: IntegerContext) -> None:
    largest_input = float(integer.values.abs().max())
    if largest_input > 2**VALUE_BITS:
        raise ConfigError(f"values must be at most 2^{VALUE_BITS} in size, got {largest_input:g}")
    for name, layer in zip(LAYERS, integer.layers, strict=True):
        largest = float((layer.weight.abs().sum(0) * largest_input + layer.bias.abs()).max())
        if not largest < MAX_SUM:
            raise ConfigError(f"{name} sums up to {largest:g}: exact sums are below 2^52")
        if abs(layer.shift) > MAX_SHIFT:
            raise ConfigError(f"{name}.shift must be within ±{MAX_SHIFT}, got {layer.shift}")
        largest_input = ACTIVATION_MAX


@functools.cache
def exp2_table(device: torch.device) -> Tensor:
    """round(2^24 * 2^(-i / 256)) for i = 0, 1, ... to the first zero, int64.

    Made by integer square roots, so that it is the same everywhere without being stored.
    """
    scale = 128
    step = 1 << (scale - 1)
    for _ in range(LOGIT_BITS):
        step = math.isqrt(step << scale)
    entries: list[int] = []
    power = 1 << scale
    drop = scale - EXP_BITS
    while not entries or entries[-1]:
        entries.append((power + (1 << (drop - 1))) >> drop)
        power = power * step >> scale
    return torch.tensor(entries, device=device)


def integer_softmax(logits: Tensor) -> Tensor:
    """Integer logits (..., L) in units of 2^-8 bit -> int64 pmfs, at least 1, of sum 2^16."""
    table = exp2_table(logits.device)
    below = (logits.amax(-1, keepdim=True) - logits).clamp_(max=len(table) - 1)
    mass = table[below.long()].cumsum(-1)
    total = mass[..., -1:].clone()
    symbols = logits.shape[-1]
    spread = mass.mul_(2**PMF_BITS - symbols) // total
    # One unit for each symbol, then differences: no remainder is left to hand out.
    pmfs: Tensor = spread + 1
    pmfs[..., 1:] -= spread[..., :-1]
    return pmfs


def save_integer_context(directory: Path, integer: IntegerContext) -> None:
    """Write `integer` beside the weights of the model in `directory`."""
    checkpoint.save(directory / INTEGER_CONTEXT, integer.tensors(), {})


def load_integer_context(directory: Path, device: torch.device | str = "cpu") -> IntegerContext:
    """The integer context model in `directory`.

    Raises:
        ConfigError: if the file is missing, damaged or no valid integer context model.
    """
    path = directory / INTEGER_CONTEXT
    try:
        return IntegerContext.from_tensors(checkpoint.load(path).tensors).to(device)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
