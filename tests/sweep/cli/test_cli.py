"""The command line as a user meets it: a process, its output, its exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rdmodels import checkpoint
from rdmodels.results.images import TEST_IMAGES, VALIDATION_IMAGES, read_images
from tests.conftest import write_photo

ROOT = Path(__file__).parents[3]
CODE = "from sweep.cli.main import main; main()"
QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
TINY = ["--width", "8", "--groups", "1", "--num-latent-channels", "4", "--epochs", "2"]
TINY += ["--beta", "0.01", "--set", "train_images=150", "--set", "test_images=20"]
TINY += ["--set", "context_features=8"]


def rdsweep(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nimport sweep.cli.main\nfrom typer.testing import CliRunner\n"
        "result = CliRunner().invoke(sweep.cli.main.app, ['launch', '--help'])\n"
        "assert result.exit_code == 0 and '--dry-run' in result.output, result.output\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'plotly', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert done.stdout.strip() == "[]", done.stderr


def refused(*arguments: str, cwd: Path) -> str:
    """What a command says that ends with an expected error and leaves nothing behind."""
    (cwd / "something").write_text("here")
    done = rdsweep(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert not (cwd / "new").exists()
    assert not (cwd / "models").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["launch", "nowhere.yaml"], ["nowhere.yaml", "cannot be read"]),
        (["launch", QUICKSTART, "--set", "space.h_target.high=3"], ["space.h_target", "2.585"]),
        (
            ["launch", QUICKSTART, "--set", "space.target_bpp=[0.2]"],
            ["h_target", "target_bpp", "give one of them"],
        ),
        (
            [
                *("launch", QUICKSTART, "--set", "space.h_target=null"),
                *("--set", "space.target_bpp=[0.2, 0.9]", "--dry-run"),
            ],
            ["target_bpp 0.9", "num_latent_channels to 23"],
        ),
        (["launch", QUICKSTART, "--set", "trial.dataset=folder:none"], ["none", "not a folder"]),
        (["launch", QUICKSTART, "--output", "."], ["--output .", "in use"]),
        (["launch", QUICKSTART, "--set", "resources.gpu=3"], ["resources.gpu", "3", "set"]),
        (
            ["launch", QUICKSTART, "--tracking-uri", "http://127.0.0.1:9", "--output", "new"],
            ["http://127.0.0.1:9", "does not answer"],
        ),
        (["launch", QUICKSTART, "--address", "127.0.0.1:9"], ["--address 127.0.0.1:9", "answers"]),
        (["train", "--dataset", "imagenet"], ["dataset", "'imagenet'", "digits"]),
        (["train", "--set", "widht=8"], ["widht", "did you mean width?"]),
        (["train", "--target-bpp", "3"], ["target_bpp 3", "num_latent_channels to 75"]),
        (["train", "--resume", "nowhere"], ["nowhere", "config.json"]),
        (["train", "--device", "tpu"], ["--device", "'tpu'"]),
        (["evaluate", "nowhere"], ["nowhere", "not a directory"]),
        (["report", "nowhere"], ["nowhere"]),
        (["ui", "nowhere"], ["nowhere"]),
        (["ui"], ["no sweep under sweeps"]),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None,
)
def test_an_expected_error_is_one_line_and_exit_code_two(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    message = refused(*arguments, cwd=tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize("command", [["train"], ["launch", QUICKSTART, "--output", "new"]])
def test_without_a_compiler_nothing_that_needs_one_begins(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    field = "compiled=true" if command == ["train"] else "trial.compiled=true"
    message = refused(*command, "--set", field, cwd=tmp_path)
    assert "compiled: true needs a C++ compiler" in message
    assert "No working C++ compiler" in message
    assert "set compiled to false" in message


def test_train_resume_and_evaluate(tmp_path: Path) -> None:
    done = rdsweep("train", *TINY, "--output", "models/one", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    model = tmp_path / "models" / "one"
    for name in ("config.json", "model.safetensors", "checkpoint.safetensors", "train.log"):
        assert (model / name).stat().st_size > 0
    assert (model / "reconstructions.png").read_bytes().startswith(b"\x89PNG")
    assert re.search(r"Time: .* training, .* coding; \d+% of it training steps", done.stdout)
    done = rdsweep("train", "--resume", "models/one", "--epochs", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert {"train/loss", "val/bpp_estimated", "val/psnr_db"} <= set(records[0])
    # What the training itself has to say, at the end of each of both.
    log = (model / "train.log").read_text()
    assert log.count("the importance map was shifted by") == 2
    fewer = rdsweep("train", "--resume", "models/one", "--epochs", "2", cwd=tmp_path)
    assert fewer.returncode == 2
    assert "epochs is 2" in fewer.stderr
    assert "give more than 3" in fewer.stderr

    again = rdsweep("train", *TINY, "--output", "models/one", cwd=tmp_path)
    assert again.returncode == 2
    assert "--resume models/one" in again.stderr

    config = tmp_path / "trial.yaml"
    config.write_text("trial: {dataset: digits, width: 8, groups: 1}\n")
    done = rdsweep("train", "--config", str(config), *TINY, "--output", "models/b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = rdsweep("evaluate", "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "one" in done.stdout
    page = (tmp_path / "models" / "evaluation.html").read_text()
    assert "data:image/png;base64" in page


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    few = ["--set", "trial.train_images=100", "--set", "trial.width=8"]
    done = rdsweep("launch", QUICKSTART, "--dry-run", *few, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("12 trials of 8 epochs by tpe, 2 at once, on CPU: about", "images/s"):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_photographs_are_trained_on_and_evaluated_whole(tmp_path: Path) -> None:
    for index in range(12):
        write_photo(tmp_path / "photos" / f"{index}.jpg", 41 + index, 67, seed=index)
    folder = ["--dataset", "folder:photos", "--set", "crop_size=32", "--set", "batch_size=2"]
    tiny = [*TINY[:-4], "--set", "context_features=8"]
    # Enough images for a validation set of two sizes.
    values = [
        "validation_fraction=0.3",
        "dataset=folder:photos",
        "crop_size=32",
        "batch_size=2",
        "width=8",
    ]
    sets = [part for value in values for part in ("--set", f"trial.{value}")]
    done = rdsweep("launch", QUICKSTART, "--dry-run", *sets, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = rdsweep("train", *folder, *tiny, "--output", "model", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test" in done.stdout

    done = rdsweep("evaluate", "model", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    data = checkpoint.read_config(tmp_path / "model").data
    known = {image.name for image in read_images(tmp_path / "model" / VALIDATION_IMAGES)}
    known |= {image.name for image in read_images(tmp_path / "model" / TEST_IMAGES)}
    learned_from = sorted({file.name for file in (tmp_path / "photos").iterdir()} - known)
    assert len(learned_from) == data.train.images
    (tmp_path / "photos" / learned_from[0]).unlink()
    changed = f"train ({data.train.images} images, now {data.train.images - 1})"
    done = rdsweep("evaluate", "model", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        f"warning: model: the images have changed since it was trained: {changed}" in done.stderr
    )
    done = rdsweep("train", "--resume", "model", "--epochs", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert f"have changed since model/checkpoint.safetensors was written: {changed}" in done.stderr
