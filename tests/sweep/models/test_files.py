"""rdsweep compress and decompress, with models that lie in every place they may."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from analysis.frontier import frontier
from analysis.store.runs import Sweep, read_sweep
from rdmodels.coding.bitstream import compress_batch
from rdmodels.coding.coding_model import load_coding_model
from rdmodels.data.splits import load_splits
from rdmodels.training.reconstructions import reconstruct
from sweep.models.lookup import pick_point
from tests.conftest import write_photo
from tests.sweep.cli.test_cli import rdsweep
from tests.sweep.run.test_launch import write_config

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep over photographs, and images to compress."""
    root = tmp_path_factory.mktemp("coding")
    for index in range(8):
        write_photo(root / "photos" / f"{index}.png", 48 + index, 56, seed=index)
    trial = {"dataset": "folder:photos", "crop_size": 32, "width": 8, "groups": 1, "epochs": 2}
    trial |= {"context_features": 6, "num_latent_channels": 4, "batch_size": 2}
    search = {"sampler": "grid"}
    space = {"h_target": [0.3, 2.5]}
    config = write_config(root / "c.yaml", trial=trial, search=search, space=space)
    done = rdsweep("launch", config, "--output", "sweeps/one", cwd=root)
    assert done.returncode == 0, done.stderr
    write_photo(root / "wide.png", 37, 131, seed=50)
    write_photo(root / "tall.jpg", 90, 41, seed=51)
    write_photo(root / "grey.png", 33, 33, seed=52, mode="L")
    return root


@pytest.fixture(scope="module")
def trial_id(root: Path) -> str:
    sweep = read_sweep(root / "sweeps" / "one")
    return str(frontier(sweep.trials, "mse")["trial_id"].iloc[-1])


@pytest.fixture(scope="module")
def model(root: Path, trial_id: str) -> str:
    return f"sweeps/one@{trial_id}"


def test_images_come_back_as_the_codec_makes_them(root: Path, model: str, trial_id: str) -> None:
    sources = ["wide.png", "tall.jpg", "grey.png"]
    done = rdsweep("compress", *sources, "--model", model, "-o", "coded", cwd=root)
    assert done.returncode == 0, done.stderr
    streams = [f"coded/{Path(source).stem}.rdi" for source in sources]
    done = rdsweep("decompress", *streams, "--model", model, "-o", "back", cwd=root)
    assert done.returncode == 0, done.stderr
    codec = load_coding_model(root / "sweeps" / "one" / "trials" / trial_id).codec
    for source in sources:
        with Image.open(root / source) as original:
            pixels = np.asarray(original.convert("RGB")).transpose(2, 0, 1)
        with Image.open(root / "back" / f"{Path(source).stem}.png") as image:
            decoded = np.asarray(image).transpose(2, 0, 1)
        assert np.array_equal(decoded, reconstruct(codec, pixels.copy()))


def model_uri(sweep: Sweep, run_id: str) -> str:
    return str(MlflowClient(sweep.tracking_uri).get_run(run_id).data.tags["model_uri"])


def test_every_way_to_name_a_model_gives_the_same_stream(
    root: Path, model: str, trial_id: str
) -> None:
    sweep = read_sweep(root / "sweeps" / "one")
    (row,) = sweep.trials[sweep.trials["trial_id"] == trial_id].to_dict("records")
    names = [
        model,
        f"sweeps/one/trials/{trial_id}",
        f"{sweep.info.sweep_id}@{trial_id}",
        f"sweeps/one@{row['val_bpp'] + 0.01}",
        f"runs:/{row['run_id']}",
        model_uri(sweep, row["run_id"]),
    ]
    streams = set()
    for index, name in enumerate(names):
        done = rdsweep("compress", "wide.png", "--model", name, "-o", f"w{index}.rdi", cwd=root)
        assert done.returncode == 0, done.stderr
        streams.add((root / f"w{index}.rdi").read_bytes())
    assert len(streams) == 1
    # MLflow's own defaults would have made a store here.
    assert not (root / "mlflow.db").exists()


def test_the_rate_on_the_frontier_is_bytes(root: Path, trial_id: str) -> None:
    sweep = root / "sweeps" / "one"
    info = json.loads((sweep / "sweep.json").read_text())
    config = json.loads((sweep / "trials" / trial_id / "config.json").read_text())
    assert info["distortion"] == config["trial"]["distortion"]
    (row,) = read_sweep(sweep).trials.query("trial_id == @trial_id").to_dict("records")
    sources = sorted((root / "photos").glob("*.png"))
    done = rdsweep(
        "compress", *map(str, sources), "--model", f"sweeps/one@{trial_id}", "-o", "all", cwd=root
    )
    assert done.returncode == 0, done.stderr
    from rdmodels.config import make_trial

    names = load_splits(
        make_trial({**config["trial"], "dataset": f"folder:{root / 'photos'}"})
    ).test.names
    rates = []
    for name in names:
        with Image.open(root / "photos" / name) as image:
            pixels = image.width * image.height
        rates.append(8 * (root / "all" / f"{Path(name).stem}.rdi").stat().st_size / pixels)
    assert row["test_bpp"] == pytest.approx(sum(rates) / len(rates))
    assert row["test_bpp_estimated"] < row["test_bpp"]


def test_numbered_images_of_a_stream_replace_nothing_unasked(
    root: Path, model: str, trial_id: str
) -> None:
    coder = load_coding_model(root / "sweeps" / "one" / "trials" / trial_id)
    pixels = np.zeros((2, 3, 16, 16), np.uint8)
    (root / "two.rdi").write_bytes(compress_batch(coder, pixels))
    (root / "many").mkdir()
    (root / "many" / "two-00001.png").write_text("mine")
    decompress = ["decompress", "two.rdi", "--model", model, "-o", "many"]
    done = rdsweep(*decompress, cwd=root)
    assert done.returncode == 2
    assert "two-00001.png is there already" in done.stderr
    assert [file.name for file in (root / "many").iterdir()] == ["two-00001.png"]
    done = rdsweep(*decompress, "--overwrite", cwd=root)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (root / "many").iterdir()) == [
        "two-00000.png",
        "two-00001.png",
    ]
    assert (root / "many" / "two-00001.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_takes_the_highest_point_that_is_not_above_it(root: Path) -> None:
    directory = root / "sweeps" / "one"
    members = frontier(read_sweep(directory).trials, "mse")
    for trial, rate in zip(members["trial_id"], members["val_bpp"], strict=True):
        assert pick_point(directory, repr(rate)) == trial
        assert pick_point(directory, str(rate * (1 + 1e-9))) == trial
    assert pick_point(directory, "1000") == members["trial_id"].iloc[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "none.png", "--model", "MODEL", "-o", "x"], ["none.png", "cannot be read"]),
        (["compress", "c.yaml", "--model", "MODEL", "-o", "x"], ["c.yaml", "cannot be read"]),
        (["compress", "clear.png", "--model", "MODEL", "-o", "x"], ["clear.png", "transparent"]),
        (["compress", "wide.png", "--model", "nowhere", "-o", "x"], ["nowhere", "model"]),
        (["compress", "wide.png", "--model", "sweeps/one@t9999", "-o", "x"], ["t9999", "bpp"]),
        (["compress", "wide.png", "--model", "sweeps/one@0.0", "-o", "x"], ["0 bpp", "no point"]),
        (["compress", "wide.png", "--model", "runs:/nothing", "-o", "x"], ["does not answer"]),
        (
            ["compress", "wide.png", "more/wide.png", "--model", "MODEL", "-o", "x"],
            ["would both become"],
        ),
        (["compress", "wide.png", "tall.jpg", "--model", "MODEL", "-o", "c.yaml"], ["is a file"]),
        (["decompress", "wide.png", "--model", "MODEL", "-o", "x"], ["wide.png", "not a stream"]),
        (["decompress", "empty.rdi", "--model", "MODEL", "-o", "x"], ["empty.rdi", "stream"]),
        (["decompress", "cut.rdi", "--model", "MODEL", "-o", "x"], ["cut.rdi", "bytes"]),
        (["decompress", "flip.rdi", "--model", "MODEL", "-o", "x"], ["flip.rdi", "damaged"]),
        (["decompress", "good.rdi", "--model", "OTHER", "-o", "x"], ["good.rdi", "written by"]),
        (["compress", "wide.png", "--model", "MODEL", "-o", "good.rdi"], ["--overwrite"]),
        (["compress", "wide.png", "--model", "MODEL", "-o", "wide.png"], ["replace the input"]),
    ],
    ids=lambda value: " ".join(value[:4]) if len(value) > 4 else None,
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], words: list[str], root: Path, model: str, trial_id: str
) -> None:
    good = root / "good.rdi"
    if not good.exists():
        done = rdsweep("compress", "wide.png", "--model", model, "-o", "good.rdi", cwd=root)
        assert done.returncode == 0, done.stderr
        data = good.read_bytes()
        (root / "empty.rdi").write_bytes(b"")
        (root / "cut.rdi").write_bytes(data[:-3])
        (root / "flip.rdi").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        Image.new("RGBA", (16, 16), (1, 2, 3, 100)).save(root / "clear.png")
        write_photo(root / "more" / "wide.png", 20, 20)
    other = {"t0000": "t0001", "t0001": "t0000"}[trial_id]
    places = {"MODEL": model, "OTHER": f"sweeps/one/trials/{other}"}
    done = rdsweep(*(places.get(argument, argument) for argument in arguments), cwd=root)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert not (root / "x").exists()
