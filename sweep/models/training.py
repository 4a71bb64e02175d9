"""Training one model, without Ray and without a tracking server."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdmodels import checkpoint
from rdmodels.config import TrialConfig, make_trial, override
from rdmodels.data.splits import Splits, load_splits
from rdmodels.errors import ConfigError
from rdmodels.results.trial import EpochRecord, TrialResult
from rdmodels.training.compiled import check_compiler
from rdmodels.training.target import check_target
from sweep.models.device import pick_device
from sweep.run.trial import run_trial
from sweep.spec.overrides import apply_overrides, read_yaml

METRICS = "metrics.jsonl"
RESULT = "result.json"
LOG = "train.log"
Advance = Callable[[int, str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One training to run."""

    config: TrialConfig
    directory: Path
    resume: bool
    splits: Splits | None = None

    def with_images(self) -> "Job":
        """The job with its data set read.

        Raises:
            ConfigError: if its target rate cannot be met on these images.
        """
        splits = load_splits(self.config)
        check_target(self.config, splits.validation)
        return dataclasses.replace(self, splits=splits)


def prepare(
    config: Path | None,
    flags: Mapping[str, Any],
    overrides: Sequence[str],
    output: Path | None,
    resume: Path | None,
    root: Path,
    stamp: str,
) -> Job:
    """Validate what `rdsweep train` was given into a Job.

    Raises:
        ConfigError: naming the field, the value and the way out.
    """
    if resume is not None:
        if config is not None or output is not None:
            raise ConfigError(
                "--resume takes everything from its directory: leave out --config and --output"
            )
        known = checkpoint.read_config(resume).config
        if not (resume / checkpoint.CHECKPOINT).exists():
            raise ConfigError(
                f"--resume {resume}: there is no {checkpoint.CHECKPOINT} to go on from"
            )
        return Job(override(known, apply_overrides(flags, overrides)), resume, resume=True)
    values: Mapping[str, Any] = {} if config is None else read_yaml(config)
    # A sweep's YAML serves too: its shared fields are a trial's.
    values = values.get("trial", values)
    trial = make_trial(apply_overrides({**values, **flags}, overrides))
    directory = output or root / f"{trial.dataset.split(':')[0]}-{stamp}"
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(
            f"--output {directory} is in use: choose a new directory, or --resume {directory}"
        )
    return Job(trial, directory, resume=False)


def train_model(job: Job, *, device: str, advance: Advance) -> TrialResult:
    """Run the job: metrics a line an epoch, a log, the model and sample reconstructions.

    Raises:
        ConfigError: if there is no such device, or steps are to be compiled and cannot be.
    """
    assert job.splits is not None
    where = pick_device(device)
    if job.config.compiled:
        # Before the directory is made: nothing is left behind where nothing compiles.
        check_compiler(where)
    job.directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(job.directory / LOG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    with _logged_by(handler):
        logger.info("training on %s: %s", where, job.config.model_dump_json())
        _keep_epochs_before(job)

        def report(record: EpochRecord) -> None:
            _append(job.directory / METRICS, {"epoch": record.epoch, **record.metrics()})
            message = _summary(record)
            logger.info("epoch %d: loss %.5g, %s", record.epoch, record.train.loss, message)
            advance(record.epoch + 1, message)

        result = run_trial(
            job.config, job.splits, job.directory, report, device=where, resume=job.resume
        )
        figures = {
            "best_epoch": result.best_epoch,
            "epochs": result.epochs,
            "collapsed": result.collapsed,
            **result.metrics(),
        }
        checkpoint.write_text(job.directory / RESULT, json.dumps(figures, indent=2) + "\n")
        logger.info("done: %s", figures)
        return result


@contextmanager
def _logged_by(handler: logging.Handler) -> Iterator[None]:
    """Have `handler` take what this module and the training itself log, and an error's trace.

    The file has the detail, the terminal the progress bar.
    """
    loggers = [logger, logging.getLogger("rdmodels")]
    before = [(each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(logging.INFO)
        each.propagate = False
    try:
        yield
    except Exception:
        logger.exception("the training ended with an error")
        raise
    finally:
        for each, (level, propagate) in zip(loggers, before, strict=True):
            each.removeHandler(handler)
            each.setLevel(level)
            each.propagate = propagate
        handler.close()


def _summary(record: EpochRecord) -> str:
    if record.val is None:
        return "the validation failed, see the log"
    quality = "lossless" if record.val.psnr_db is None else f"{record.val.psnr_db:.2f} dB"
    return f"bpp_estimated {record.val.bpp_estimated:.3f}  PSNR {quality}"


def _append(path: Path, record: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _keep_epochs_before(job: Job) -> None:
    """Drop metrics of epochs that the resumed training will run again."""
    path = job.directory / METRICS
    if not (job.resume and path.exists()):
        return
    saved = checkpoint.load(job.directory / checkpoint.CHECKPOINT).record
    lines = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["epoch"] < saved["state"]["epochs"]:
            lines.append(line + "\n")
    checkpoint.write_text(path, "".join(lines))
