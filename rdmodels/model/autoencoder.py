"""Encoder and decoder: strided convolutions around a residual trunk with nested skips."""

from collections.abc import Callable

from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def make_norm(kind: str) -> Norm:
    """The normalisation put after every inner convolution, as a function of its channels.

    "batch" is the paper's (decay 0.9, eps 1e-5), its statistics re-estimated before evaluations by
    `rdmodels.training.statistics`. "group" keeps no statistics, so training and
    evaluation compute the same function, but it starts slowly and may collapse to a rate of zero.
    """
    if kind == "batch":
        return lambda channels: nn.BatchNorm2d(channels, momentum=0.1, eps=1e-5)
    return lambda channels: nn.GroupNorm(max(1, channels // 8), channels, eps=1e-5)


class ResidualBlock(nn.Module):
    """x + conv3(act(conv3(x))), each convolution normalised; no activation after the sum."""

    def __init__(self, width: int, norm: Norm, *, activation: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU() if activation else nn.Identity(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ResidualGroup(nn.Module):
    """Three residual blocks and a skip around them."""

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(width, norm) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.blocks(x)
        return out


class Trunk(nn.Module):
    """B groups, a linear residual block, and a skip around all of it: (B, n, h, w) both ways."""

    def __init__(self, width: int, groups: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(ResidualGroup(width, norm) for _ in range(groups)),
            ResidualBlock(width, norm, activation=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Encoder(nn.Sequential):
    """(B, channels, H, W), normalised -> (B, outputs, H/8, W/8), linear.

    The last convolution has a bias and no normalisation: normalising the latent over an image
    would give every image the same mean importance, hence the same rate.
    Source: paper, figure 6.
    """

    def __init__(self, channels: int, width: int, groups: int, outputs: int, norm: Norm) -> None:
        super().__init__(
            nn.Conv2d(channels, width // 2, 5, stride=2, padding=2, bias=False),
            norm(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 5, stride=2, padding=2, bias=False),
            norm(width),
            nn.ReLU(),
            Trunk(width, groups, norm),
            nn.Conv2d(width, outputs, 5, stride=2, padding=2),
        )


class Decoder(nn.Sequential):
    """(B, C, h, w) -> (B, channels, 8h, 8w), normalised image range, linear.

    The last convolution has a bias and no normalisation, which would fix each image's brightness.
    Source: paper, figure 6.
    """

    def __init__(self, latents: int, width: int, groups: int, channels: int, norm: Norm) -> None:
        super().__init__(
            nn.ConvTranspose2d(
                latents, width, 3, stride=2, padding=1, output_padding=1, bias=False
            ),
            norm(width),
            nn.ReLU(),
            Trunk(width, groups, norm),
            nn.ConvTranspose2d(
                width, width // 2, 5, stride=2, padding=2, output_padding=1, bias=False
            ),
            norm(width // 2),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 2, channels, 5, stride=2, padding=2, output_padding=1),
        )
