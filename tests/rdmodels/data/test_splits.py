import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from rdmodels.config import TrialConfig, make_trial
from rdmodels.data import sources
from rdmodels.data.batches import TrainingBatches, channel_statistics
from rdmodels.data.images import ImageSet, read_image
from rdmodels.data.splits import Splits, check_fit, load_splits
from rdmodels.errors import DatasetError
from tests.conftest import write_photo


def folder_config(path: Path, **values: object) -> TrialConfig:
    return make_trial({"dataset": f"folder:{path}", "crop_size": 32, **values})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(6):
        write_photo(tmp_path / f"{index}.png", 40 + index, 50 + 3 * index, seed=index)
    return tmp_path


def test_digits_are_cut_into_three_disjoint_splits() -> None:
    splits = load_splits(make_trial({}))
    names = [set(split.names) for split in splits]
    assert sum(map(len, names)) == len(names[0] | names[1] | names[2]) == 1797
    assert splits.train.images[0].shape == (1, 32, 32)


def test_the_split_seed_changes_validation_and_never_the_test() -> None:
    first, second = (load_splits(make_trial({"split_seed": seed})) for seed in (0, 1))
    assert first.test.names == second.test.names
    assert first.validation.names != second.validation.names


def test_shares_are_about_what_was_asked_for() -> None:
    splits = load_splits(make_trial({"validation_fraction": 0.25}))
    assert len(splits.test) == pytest.approx(0.2 * 1797, rel=0.1)
    assert len(splits.validation) == pytest.approx(0.25 * 0.8 * 1797, rel=0.1)


def test_validation_is_cut_from_the_images_in_use_and_capped() -> None:
    few = load_splits(make_trial({"train_images": 100, "test_images": 7}))
    assert len(few.train) + len(few.validation) == 100
    assert 3 <= len(few.validation) <= 20
    assert len(few.test) == 7
    capped = load_splits(make_trial({"validation_images": 20}))
    assert len(capped.validation) == 20
    whole = load_splits(make_trial({}))
    assert set(capped.validation.names) < set(whole.validation.names)
    # What the cap leaves over is trained on.
    assert len(capped.train) + 20 == len(whole.train) + len(whole.validation)


def names_of(splits: Splits) -> list[set[str]]:
    return [set(split.names) for split in splits]


def test_one_more_image_moves_no_other(tmp_path: Path) -> None:
    for index in range(50):
        write_photo(tmp_path / f"{index:02d}.png", 40, 40, seed=index)
    before = names_of(load_splits(folder_config(tmp_path)))
    assert min(map(len, before)) > 0
    for index in range(8):
        write_photo(tmp_path / f"a{index}.png", 40, 40, seed=100 + index)
        after = names_of(load_splits(folder_config(tmp_path)))
        # Each stays where it was: the new one apart, every split is what it was.
        assert [kept - {f"a{each}.png" for each in range(8)} for kept in after] == before
    assert sum(map(len, after)) == 58


def test_another_name_or_order_moves_no_image_and_duplicates_stay_together(
    tmp_path: Path,
) -> None:
    for index in range(30):
        write_photo(tmp_path / f"{index:02d}.png", 40, 40, seed=index)
    before = load_splits(folder_config(tmp_path))
    for index in range(30):
        (tmp_path / f"{index:02d}.png").rename(tmp_path / f"renamed-{29 - index:02d}.png")
    after = load_splits(folder_config(tmp_path))
    renamed = [{f"renamed-{29 - int(n[:2]):02d}.png" for n in split.names} for split in before]
    assert names_of(after) == renamed
    assert before.fingerprint == after.fingerprint
    for file in sorted(tmp_path.glob("*.png")):
        (tmp_path / f"copy-{file.name}").write_bytes(file.read_bytes())
    for names in names_of(load_splits(folder_config(tmp_path))):
        originals = {name for name in names if not name.startswith("copy-")}
        assert {f"copy-{name}" for name in originals} == names - originals


def test_a_changed_data_set_says_what_changed(tmp_path: Path) -> None:
    for index in range(30):
        write_photo(tmp_path / f"{index:02d}.png", 40, 40, seed=index)
    config = folder_config(tmp_path)
    splits = load_splits(config)
    before = splits.fingerprint
    assert before.changes_to(load_splits(config).fingerprint) is None
    (tmp_path / splits.test.names[0]).unlink()
    count = len(splits.test)
    changes = before.changes_to(load_splits(config).fingerprint)
    assert changes == f"test ({count} images, now {count - 1})"
    write_photo(tmp_path / splits.test.names[0], 40, 40, seed=99)
    assert before.changes_to(load_splits(config).fingerprint) is not None


def test_every_split_gets_an_image_of_three(tmp_path: Path) -> None:
    for index in range(3):
        write_photo(tmp_path / f"{index}.png", 40, 40, seed=index)
    assert [len(split) for split in load_splits(folder_config(tmp_path))] == [1, 1, 1]
    (tmp_path / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"1 training image.*too few"):
        load_splits(folder_config(tmp_path))


def test_only_images_in_use_are_decoded(photos: Path) -> None:
    config = folder_config(photos, train_images=2, test_images=1)
    used = [name for split in load_splits(config) for name in split.names]
    assert len(used) == 3
    seen = []
    honest = sources.decode_file
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sources, "decode_file", lambda file: (seen.append(file.name), honest(file))[1]
        )
        load_splits(config)
    assert sorted(seen) == sorted(used)


def test_a_set_that_is_not_to_be_downloaded_is_not(tmp_path: Path) -> None:
    for name in ("mnist", "cifar10"):
        config = make_trial({"dataset": name, "data_dir": str(tmp_path)})
        with pytest.raises(DatasetError, match=f"dataset {name} is not under data_dir"):
            load_splits(config, download=False)


def test_an_image_whose_padding_takes_it_over_the_limit_is_refused_at_once() -> None:
    # 8191 x 8193 pixels are below 2^26, the 8192 x 8200 that would be coded are not.
    big = ImageSet((np.zeros((1, 8191, 8193), np.uint8),), ("big.png",))
    small = ImageSet((np.zeros((1, 8192, 8192), np.uint8),), ("small.png",))
    config = make_trial({"dataset": "folder:x", "crop_size": 32})
    check_fit(Splits(small, small, small), config)
    with pytest.raises(DatasetError, match=r"big\.png is 8191x8193"):
        check_fit(Splits(small, small, big), config)
    long = ImageSet((np.zeros((1, 8, 2**16 + 1), np.uint8),), ("long.png",))
    with pytest.raises(DatasetError, match=r"long\.png is 8x65537"):
        check_fit(Splits(long, small, small), config)


def write_idx(path: Path, images: np.ndarray) -> None:
    header = struct.pack(">IIII", 0x0803, *images.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + images.tobytes())


def test_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 30), ("t10k", 10)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / "MNIST" / "raw" / f"{stem}-images-idx3-ubyte", images)
        labels = struct.pack(">II", 0x0801, count) + bytes(count)
        (tmp_path / "MNIST" / "raw" / f"{stem}-labels-idx1-ubyte").write_bytes(labels)
    splits = load_splits(make_trial({"dataset": "mnist", "data_dir": str(tmp_path)}))
    assert len(splits.train) + len(splits.validation) == 30
    assert len(splits.validation) >= 1
    assert len(splits.test) == 10
    assert splits.test.images[0].shape == (1, 28, 28)
    assert np.array_equal(np.asarray(splits.test.images[9])[0], images[9])


def test_cifar10_is_read_from_the_binary_version(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        rng.integers(0, 256, (4, 3073), dtype=np.uint8).tofile(folder / name)
    splits = load_splits(make_trial({"dataset": "cifar10", "data_dir": str(tmp_path)}))
    assert len(splits.train) + len(splits.validation) == 20
    assert len(splits.test) == 4
    assert splits.train.channels == 3
    (folder / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(DatasetError, match="5 bytes"):
        load_splits(make_trial({"dataset": "cifar10", "data_dir": str(tmp_path)}))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_set_that_is_not_there_offline_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port nobody listens on stands for a network that is not there.
    kind = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    monkeypatch.setattr(kind, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DatasetError) as error:
        load_splits(make_trial({"dataset": name, "data_dir": str(tmp_path)}))
    assert str(tmp_path) in str(error.value)
    assert "digits" in str(error.value)


def test_a_folder_gives_whole_images_for_evaluation(photos: Path) -> None:
    splits = load_splits(folder_config(photos))
    assert sum(map(len, splits)) == 6
    for split in splits:
        for name, image in zip(split.names, split.images, strict=True):
            with Image.open(photos / name) as original:
                assert image.shape == (3, original.height, original.width)


def test_a_folder_with_train_and_val_keeps_val_for_the_test(tmp_path: Path) -> None:
    for index in range(5):
        write_photo(tmp_path / "train" / f"{index}.png", 40, 40, seed=index)
    write_photo(tmp_path / "val" / "x.jpg", 48, 33)
    splits = load_splits(folder_config(tmp_path))
    assert splits.test.names == ("val/x.jpg",)
    assert len(splits.train) + len(splits.validation) == 5
    assert len(splits.test) == 1


@pytest.mark.parametrize(("color", "channels"), [("auto", 1), ("rgb", 3), ("grey", 1)])
def test_a_grey_folder_stays_grey_unless_told(tmp_path: Path, color: str, channels: int) -> None:
    for index in range(4):
        write_photo(tmp_path / f"{index}.png", 40, 40, seed=index, mode="L")
    assert load_splits(folder_config(tmp_path, color=color)).train.channels == channels


def test_a_corrupt_image_among_good_ones_is_named(photos: Path) -> None:
    whole = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"3\.png cannot be read"):
        load_splits(folder_config(photos))


def test_a_sixteen_bit_image_is_refused_rather_than_clipped(photos: Path) -> None:
    Image.fromarray(np.full((40, 40), 4000, dtype=np.uint16)).save(photos / "deep.png")
    with pytest.raises(DatasetError, match=r"deep\.png has 16 bits a channel"):
        load_splits(folder_config(photos))


def test_a_transparent_image_is_refused_rather_than_flattened(photos: Path) -> None:
    Image.new("RGBA", (40, 40), (1, 2, 3, 128)).save(photos / "clear.png")
    with pytest.raises(DatasetError, match=r"clear\.png has transparent pixels"):
        load_splits(folder_config(photos))


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "portrait.jpg", exif=exif)
    assert read_image(tmp_path / "portrait.jpg", 3).shape == (3, 60, 40)


def test_images_of_one_size_are_stacked(tmp_path: Path) -> None:
    for index in range(4):
        write_photo(tmp_path / f"{index}.png", 40, 48, seed=index)
    train = load_splits(folder_config(tmp_path)).train
    assert train.stacked is not None
    batches = TrainingBatches(train, folder_config(tmp_path), torch.device("cpu"))
    assert next(batches.epoch(0)).shape[1:] == (3, 32, 32)


def test_folders_that_cannot_serve_are_refused(tmp_path: Path, photos: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("none")
    with pytest.raises(DatasetError, match="has no image"):
        load_splits(folder_config(empty))
    with pytest.raises(DatasetError, match="is not a folder"):
        load_splits(folder_config(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="crop_size 64 is more than the short side"):
        load_splits(folder_config(photos, crop_size=64))
    with pytest.raises(DatasetError, match="ms_ssim needs 161 px"):
        load_splits(folder_config(photos, distortion="ms_ssim"))


def test_batches_depend_on_seed_and_epoch_alone(digits) -> None:
    config = make_trial({"batch_size": 32})

    def pixels(epoch: int) -> torch.Tensor:
        batches = TrainingBatches(digits.train, config, torch.device("cpu"))
        list(batches.epoch(0))
        return torch.cat(list(batches.epoch(epoch)))

    assert torch.equal(pixels(3), pixels(3))
    assert not torch.equal(pixels(3), pixels(4))
    images = [sorted(image.numpy().tobytes() for image in pixels(epoch)) for epoch in (3, 4)]
    assert images[0] == images[1]


def test_crops_come_from_their_image_flipped_or_not() -> None:
    image = np.arange(3 * 40 * 56, dtype=np.int64).reshape(3, 40, 56) % 251
    train = ImageSet((image.astype(np.uint8),), ("one",))
    config = make_trial({"dataset": "folder:x", "crop_size": 32, "crops_per_image": 20})
    (batch,) = TrainingBatches(train, config, torch.device("cpu")).epoch(0)
    windows = np.lib.stride_tricks.sliding_window_view(train.images[0], (3, 32, 32))
    windows = windows.reshape(-1, 3, 32, 32)
    crops = (batch * 255).round().byte().numpy()
    plain = [any(np.array_equal(c, w) for w in windows) for c in crops]
    mirrored = [any(np.array_equal(c[:, :, ::-1], w) for w in windows) for c in crops]
    assert all(a or b for a, b in zip(plain, mirrored, strict=True))
    assert any(plain)
    assert any(mirrored)


def test_statistics_are_those_of_all_pixels(photos: Path) -> None:
    train = load_splits(folder_config(photos)).train
    mean, std = channel_statistics(train)
    pixels = np.concatenate([i.reshape(3, -1) for i in train.images], axis=1) / 255
    assert np.allclose(mean, pixels.mean(axis=1))
    assert np.allclose(std, pixels.std(axis=1))


def test_gzip_files_alone_are_unpacked_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"not MNIST"))
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        load_splits(make_trial({"dataset": "mnist", "data_dir": str(tmp_path)}))
