"""TrialConfig: every field that defines one trial, flat, validated as a whole."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rdmodels.validation import validate

STRIDE = 8
"""Image pixels per latent position, along each axis."""

MAX_PIXELS = 2**26
"""Pixels of all images of a stream together, padding included."""

MAX_SIDE = 2**16
"""Pixels of an image's longer side."""

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10")
FOLDER_PREFIX = "folder:"


Distortion = Literal["mse", "ms_ssim"]
RateControl = Literal["controller", "hinge"]

ORIGINAL_DISTORTION_SCALE: dict[str, float] = {"mse": 255.0**2, "ms_ssim": 5000.0}
"""The released code's distortion over ours: MSE on 0..255 and 5000 (1 - MS-SSIM)."""


def latent_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the latent of an image of that size, its sides filled up."""
    return -(-height // STRIDE), -(-width // STRIDE)


def coded_pixels(height: int, width: int) -> int:
    """Pixels of an image that are coded, the filling up to multiples of the stride included."""
    rows, columns = latent_size(height, width)
    return rows * columns * STRIDE**2


class TrialConfig(BaseModel):
    """One trial: data, codec, loss and training. Notation as in `rdmodels.model.codec`.

    Defaults follow Mentzer et al., CVPR 2018, except where the field's description says why not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Data
    dataset: str = Field(
        "digits", description=f"one of {', '.join(DATASETS)}, or folder:PATH with images in it"
    )
    data_dir: str = Field("datasets", description="where torchvision's data sets lie")
    color: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="image channels; auto keeps what the data set has"
    )
    train_images: int | None = Field(
        None, ge=2, description="use only this many to learn from; validation is cut from them"
    )
    test_images: int | None = Field(None, ge=1, description="use only this many for the test")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="cut from the images to learn from"
    )
    validation_images: int = Field(
        1000, ge=1, description="at most this many of them, the rest is trained on"
    )
    split_seed: int = Field(0, ge=0, description="seed of the validation cut")
    crop_size: int = Field(
        160, ge=STRIDE, multiple_of=STRIDE, description="training crops of a folder's images, px"
    )
    crops_per_image: int = Field(1, ge=1, description="crops an image gives in an epoch")

    # Codec
    width: int = Field(128, ge=4, multiple_of=4, description="n: channels of the residual trunk")
    groups: int = Field(5, ge=1, description="B: groups of three residual blocks in each trunk")
    num_latent_channels: int = Field(32, ge=1, le=1024, description="C: channels of the latent")
    num_centers: int = Field(6, ge=2, le=64, description="L: values a latent symbol can take")
    sigma: float = Field(1.0, gt=0, description="softness of the quantizer")
    center_at_zero: bool = Field(
        True,
        description="one center begins at 0, where the importance map puts what it shuts out;"
        " else they begin evenly in [-2, 2], for an even num_centers with 0 half way between two",
    )
    importance_map: bool = Field(True, description="mask latents by an importance map")
    context_features: int = Field(24, ge=2, le=128, description="k: features of the context model")
    normalisation: Literal["batch", "group"] = Field(
        "batch",
        description="after each inner convolution; batch statistics are re-estimated before each"
        " evaluation, running ones lag behind",
    )

    # Loss
    distortion: Distortion = Field(
        "mse", description="MSE on [0, 1] or 1 - MS-SSIM, both computed before rounding to 8 bits"
    )
    rate_control: RateControl = Field(
        "controller",
        description="controller: a weight of the rate that is adjusted until the target is met;"
        " hinge: the paper's fixed weight of the rate above the target",
    )
    h_target: float | None = Field(
        None,
        gt=0,
        description="target rate in bits per latent symbol; 1 if target_bpp is not given either",
    )
    target_bpp: float | None = Field(
        None,
        gt=0,
        description="in its place, the target rate in written bits per pixel: headers and the"
        " filling up of sides are accounted for",
    )
    beta: float = Field(
        0.002,
        gt=0,
        description="controller: scale of the weight of the rate, which begins at 0 and is beta"
        " sinh(drive): how hard the rate is pressed, and how early. hinge: weight of the rate"
        " above the target; the paper's is 0.1 for MS-SSIM, 0.0038 for MSE, which leaves short"
        " trainings far above it",
    )
    rate_ramp: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which the weight of the rate grows from 0",
    )
    target_anneal: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which the target falls from log2(num_centers), what"
        " any symbols cost, to its own",
    )
    rate_trim: bool = Field(
        True,
        description="with the controller, after the last epoch: shift the importance map's logit"
        " until validation meets the target",
    )
    weight_decay: float = Field(
        0.005, ge=0, description="of the autoencoder's convolutions, in the released code's units"
    )
    centers_decay: float = Field(
        0.1, ge=0, description="of the quantizer's centers, in the released code's units"
    )

    # Training
    epochs: int = Field(50, ge=1)
    batch_size: int = Field(30, ge=1)
    learning_rate: float = Field(
        2e-3, gt=0, description="of the autoencoder; the paper's 8e-5 is for days on ImageNet"
    )
    context_learning_rate: float = Field(
        4e-3, gt=0, description="of the context model; the paper's 1e-4 likewise"
    )
    learning_rate_decay: float = Field(
        0.2,
        ge=0,
        le=1,
        description="share of the steps, the last ones, in which both rates fall"
        " linearly to 0; 0 keeps them",
    )
    averaging: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay, a step, of the running average of the weights that is evaluated and"
        " kept; 0 keeps the last weights",
    )
    context_share: float = Field(
        0.33,
        gt=0,
        le=1,
        description="share of a batch's images whose rate a step computes; the context model is"
        " most of a step otherwise",
    )
    gradient_clip: float | None = Field(
        None, gt=0, description="largest norm of the autoencoder's gradient"
    )
    residual_init: float = Field(
        0.0,
        ge=0,
        description="scale of what each residual block adds at the start: 0 begins with the skips"
        " alone and learns far faster; the paper's is 1",
    )
    importance_bias: float = Field(
        0.0,
        description="of the importance map's logit at the start: 0 opens half of the channels",
    )
    seed: int = Field(0, ge=0, description="of the weights and of the order of the images")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 runs the convolutions in mixed precision"
    )
    channels_last: bool = Field(
        True, description="memory format of the autoencoder's convolutions; False is slower"
    )
    compiled: bool = Field(
        False,
        description="compile the loss of a step and its gradients, which takes a minute: steps on"
        " digits were up to 1.2 times as fast, on photographs slower",
    )

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        if name.startswith(FOLDER_PREFIX):
            if not name.removeprefix(FOLDER_PREFIX):
                raise ValueError("folder: needs a path, as in folder:/data/photos")
        elif name not in DATASETS:
            raise ValueError(f"is not one of {', '.join(DATASETS)} or folder:PATH")
        return name

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.h_target is not None and self.target_bpp is not None:
            raise ValueError(
                f"h_target ({self.h_target:g}) and target_bpp ({self.target_bpp:g}) say the same"
                " thing twice: give one of them (null removes a field)"
            )
        return self

    @model_validator(mode="after")
    def _controllable_rate(self) -> Self:
        if self.rate_control == "controller" and not self.importance_map:
            raise ValueError(
                "importance_map: false leaves the encoder nothing to lower its rate by, so no"
                " controller can meet a target: set rate_control: hinge"
            )
        return self

    @model_validator(mode="after")
    def _reachable_rate(self) -> Self:
        if self.h_target is not None and self.h_target > self.bits_per_raw_symbol:
            raise ValueError(
                f"h_target must be at most log2(num_centers) = {self.bits_per_raw_symbol:.3f} bits"
                f" per symbol, which any {self.num_centers} symbols cost uncompressed;"
                f" got {self.h_target:g}"
            )
        return self

    @property
    def bits_per_raw_symbol(self) -> float:
        """log2(L): what a symbol costs without any model."""
        return math.log2(self.num_centers)

    @property
    def is_folder(self) -> bool:
        """Whether the data set is a folder of images rather than a named set."""
        return self.dataset.startswith(FOLDER_PREFIX)


def make_trial(values: Mapping[str, Any], *, where: str = "") -> TrialConfig:
    """Validate `values` into a TrialConfig.

    `where` is the path of `values` in the user's file (such as "trial"), for messages.

    Raises:
        ConfigError: if a field is unknown, mistyped or out of range.
    """
    return validate(TrialConfig, values, where=where)


def override(config: TrialConfig, values: Mapping[str, Any], *, where: str = "") -> TrialConfig:
    """A copy of `config` with `values` in place, validated again as a whole.

    Raises:
        ConfigError: as `make_trial`.
    """
    return make_trial({**config.model_dump(), **values}, where=where)
