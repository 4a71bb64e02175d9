"""The loss of a step, compiled."""

import functools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rdmodels.config import TrialConfig
from rdmodels.errors import ConfigError
from rdmodels.model.codec import Codec
from rdmodels.training.step import StepLoss, step_loss

NEEDS = {"cpu": "a C++ compiler (g++ or clang++)", "cuda": "Triton and a C compiler"}
PROBE = """
import sys
from rdmodels.training.compiled import compile_little
sys.exit(compile_little("{device}"))
"""


def step_loss_of(config: TrialConfig, device: torch.device, usual: int) -> StepLoss:
    """`step_loss` as `config` asks for it: itself, or compiled for batches of `usual` images.

    An epoch's last batch may be smaller: it goes uncompiled, since each size is a compilation.
    What was compiled in this process before is forgotten, by whomever: torch compiles one
    function a limited number of times.

    Raises:
        ConfigError: if it is to be compiled and nothing here can.
    """
    if not config.compiled:
        return step_loss
    check_compiler(device.type)
    torch.compiler.reset()
    compiled = torch.compile(step_loss, dynamic=False)

    def loss(
        codec: Codec, tensors: Mapping[str, Tensor], x: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor]:
        chosen = compiled if len(x) == usual else step_loss
        return chosen(codec, tensors, x, *rest)

    return loss


@functools.cache
def check_compiler(device: str) -> None:
    """Check, once, that steps can be compiled here for a `cpu` or `cuda`.

    In a process of its own: compiling leaves threads behind, and a GPU's memory taken.

    Raises:
        ConfigError: if they cannot.
    """
    code = PROBE.format(device=device)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ConfigError(
            f"compiled: true needs {NEEDS[device]} on the machine that trains, and compiling for"
            f" {device} failed here ({said[-1]}): install it, or set compiled to false"
        )


def compile_little(device: str) -> str | None:
    """Compile next to nothing for `device`: why it failed, in a line, or None."""
    x = torch.zeros(2, device=device)
    try:
        torch.compile(lambda x: x + 1.0)(x)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return next((line for line in lines if not line.endswith("raised:")), repr(error))
    return None
