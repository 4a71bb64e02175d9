"""The codec: autoencoder, importance map, quantizer and context model wired together.

    x -> Encoder -> y -> * importance -> Quantizer -> y_hat -> Decoder -> x_hat
                                            |
                                         symbols -> ContextModel -> bits

| here       | paper     | meaning                                                              |
|------------|-----------|----------------------------------------------------------------------|
| x, x_hat   | x, x̂      | image and reconstruction, (B, channels, H, W) in [0, 1]              |
| y          | z         | continuous latent, (B, C, h, w), h = H / 8, after the importance map |
| importance | ⌈m⌉       | mask in [0, 1], (B, C, h, w)                                         |
| y_hat      | ẑ         | quantized latent, values are centers                                 |
| symbols    | –         | index of the nearest center, int64 (B, C, h, w)                      |
| centers    | C         | L learned scalars                                                    |
| bits       | -log2 P   | cost of each symbol, (B, C, h, w)                                    |
| h_target   | H_target  | bits per symbol; bpp = that * C / 64 where 8 divides both sides      |
| beta       | β         | scale of the rate's weight in the loss; the hinge's weight           |

Images whose sides are no multiple of 8 are padded by repeating the border; the padding is coded,
but is neither counted as pixels nor part of the distortion.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdmodels.config import STRIDE, TrialConfig
from rdmodels.model.autoencoder import Decoder, Encoder, make_norm
from rdmodels.model.context import ContextModel, cross_entropy_bits
from rdmodels.model.importance import importance_mask
from rdmodels.model.quantizer import Quantized, Quantizer


class CodecOutput(NamedTuple):
    """Everything one pass produces; shapes in the module's table.

    bits are of the first images of the batch alone where no others' were asked for.
    """

    x_hat: Tensor
    importance: Tensor
    y_hat: Tensor
    symbols: Tensor
    bits: Tensor


class Codec(nn.Module):
    """The whole codec of one trial.

    Args:
        config: sizes and options.
        mean, std: per channel, of training images in [0, 1]; stored with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: TrialConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.channels = len(mean)
        self.num_latent_channels = config.num_latent_channels
        self.importance_map = config.importance_map
        norm = make_norm(config.normalisation)
        latents = config.num_latent_channels
        outputs = latents + int(config.importance_map)
        self.encoder = Encoder(self.channels, config.width, config.groups, outputs, norm)
        self.decoder = Decoder(latents, config.width, config.groups, self.channels, norm)
        self.quantizer = Quantizer(config.num_centers, config.sigma, at_zero=config.center_at_zero)
        self.context = ContextModel(config.num_centers, config.context_features)
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def encode(self, x: Tensor) -> tuple[Quantized, Tensor]:
        """Image (B, channels, H, W) in [0, 1], any size -> quantized latent and importance."""
        return self.quantize(self.analyse(x))

    def analyse(self, x: Tensor) -> Tensor:
        """Image -> what the encoder says of it, (B, C + 1, h, w) with an importance map."""
        y: Tensor = self.encoder((pad_to_stride(x) - self.mean) / self.std)
        return y

    def quantize(self, y: Tensor, shift: float = 0.0) -> tuple[Quantized, Tensor]:
        """What `analyse` gives -> quantized latent and importance, its logit moved by `shift`."""
        if self.importance_map:
            importance = importance_mask(y[:, 0].float() + shift, self.num_latent_channels)
            y = importance * y[:, 1:]
        else:
            importance = torch.ones_like(y)
        quantized: Quantized = self.quantizer(y.float())
        return quantized, importance

    def decode(self, y_hat: Tensor, size: tuple[int, int]) -> Tensor:
        """Latent (B, C, h, w) -> image (B, channels, *size) in [0, 1], padding cut off."""
        x_hat = self.decoder(y_hat).float() * self.std + self.mean
        cropped: Tensor = x_hat[..., : size[0], : size[1]]
        return cropped.clamp(0.0, 1.0)

    def symbol_bits(self, symbols: Tensor) -> Tensor:
        """Cost in bits of each symbol; a gradient reaches the context model alone."""
        centers = self.quantizer.centers.detach()
        logits = self.context(self.quantizer.values(symbols), centers[0])
        return cross_entropy_bits(logits, symbols)

    def forward(self, x: Tensor, rated: int | None = None) -> CodecOutput:
        """One pass; `rated`: how many images have their bits computed, all unless given."""
        (y_hat, symbols), importance = self.encode(x)
        x_hat = self.decode(y_hat, (x.shape[-2], x.shape[-1]))
        return CodecOutput(x_hat, importance, y_hat, symbols, self.symbol_bits(symbols[:rated]))


def pad_to_stride(x: Tensor) -> Tensor:
    """`x` (B, channels, H, W) with its last row and column repeated up to multiples of 8."""
    bottom, right = -x.shape[-2] % STRIDE, -x.shape[-1] % STRIDE
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
