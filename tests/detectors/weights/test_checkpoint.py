"""Our own checkpoints hold all it takes to use them again, and nothing that could run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import detectors
from detectors import efficientdet
from detectors.folding import fold_batch_norm
from detectors.models.efficientdet.inference import EfficientDet
from detectors.weights import load_weights, save
from detectors.weights.preprocess import ADVPROP
from detectors.weights.tensor_file import read_tensor_file

# torch 2.0's own reader of weights trips over its own deprecation
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")

SUFFIXES = [".pt", ".safetensors"]
NAMES = ["cat", "dog", "cow"]


@pytest.fixture
def small() -> EfficientDet:
    """A D0 with three classes, another size, other anchors and other normalisation."""
    model = efficientdet("d0", num_classes=3, image_size=(128, 256), anchor_aspects="rounded")
    return model.configure(mean=ADVPROP.mean, std=ADVPROP.std)


def _require(suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_model_is_loaded_as_it_was(
    small: EfficientDet, tmp_path: Path, suffix: str
) -> None:
    _require(suffix)
    path = save(small, tmp_path / "deep" / f"best{suffix}", classes=NAMES)
    loaded = detectors.load(path)
    assert loaded.config == small.config
    assert not loaded.training
    state = loaded.network.state_dict()
    assert all(torch.equal(state[name], v) for name, v in small.network.state_dict().items())
    assert torch.equal(loaded.postprocess.anchors.boxes, small.postprocess.anchors.boxes)
    report = load_weights(efficientdet("d0", num_classes=3, image_size=128), path)
    assert report.origin == "detectors"
    assert report.class_names == tuple(NAMES)
    assert report.preprocess == ADVPROP
    assert "saved at (128, 256) pixels, model has (128, 128)" in report.render()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checkpoint_is_tensors_and_plain_types(small: EfficientDet, tmp_path: Path) -> None:
    path = save(small, tmp_path / "a.pt", classes=NAMES)
    content = torch.load(path, weights_only=True)
    assert set(content) == {"detectors", "state_dict"}
    record = content["detectors"]
    assert record["version"] == 1
    assert record["model"] == "efficientdet-d0"
    assert record["classes"] == NAMES
    assert record["preprocess"]["pad"] == [0, 0, 0]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (str, int, float, bool)

    assert plain(record)


def test_a_run_folder_means_its_best_checkpoint(small: EfficientDet, tmp_path: Path) -> None:
    save(small, tmp_path / "last.ckpt")
    assert detectors.load(tmp_path).config == small.config
    for parameter in small.network.parameters():
        parameter.data.zero_()
    save(small, tmp_path / "best.ckpt")
    assert not any(parameter.any() for parameter in detectors.load(tmp_path).network.parameters())


def test_a_bare_state_dict_of_ours_loads_with_a_note(
    model: EfficientDet, blank: EfficientDet, tmp_path: Path
) -> None:
    torch.save(model.state_dict(), tmp_path / "bare.pt")  # names start with network.
    report = load_weights(blank, tmp_path / "bare.pt")
    assert report.origin == "detectors"
    assert "the file has no record" in report.render()
    state = blank.network.state_dict()
    assert all(torch.equal(state[name], v) for name, v in model.network.state_dict().items())
    with pytest.raises(ValueError, match="does not say which model it is"):
        detectors.load(tmp_path / "bare.pt")


def test_equal_tensors_of_another_configuration_are_refused(
    small: EfficientDet, tmp_path: Path
) -> None:
    path = save(small, tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    content["detectors"]["config"].update(name="efficientdet-x", anchor_scale=5.0)
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"anchor_scale 5\.0 -> 4\.0"):
        load_weights(small, path)


def test_a_later_version_is_refused(small: EfficientDet, tmp_path: Path) -> None:
    path = save(small, tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    content["detectors"]["version"] = 2
    torch.save(content, path)
    with pytest.raises(ValueError, match="it has version 2, this code reads up to 1"):
        detectors.load(path)


def test_a_damaged_record_is_told(small: EfficientDet, tmp_path: Path) -> None:
    path = save(small, tmp_path / "a.pt")
    content = torch.load(path, weights_only=True)
    content["detectors"]["config"]["colour"] = "red"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        detectors.load(path)
    content["detectors"] = {"version": 1}
    torch.save(content, path)
    with pytest.raises(ValueError, match="'detectors' record is not usable"):
        detectors.load(path)


def test_save_refuses_what_it_could_not_bring_back(small: EfficientDet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes has 2 names, the model 3"):
        save(small, tmp_path / "a.pt", classes=NAMES[:2])
    with pytest.raises(ValueError, match="must end in"):
        save(small, tmp_path / "a.h5")
    with pytest.raises(ValueError, match="layout must be"):
        save(small, tmp_path / "a.pt", layout="onnx")
    folded = fold_batch_norm(efficientdet("d0", image_size=128))
    with pytest.raises(ValueError, match="is folded: save it before"):
        save(folded, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is folded: load weights before"):
        load_weights(folded, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file(
    small: EfficientDet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(small, tmp_path / "a.pt")
    before = path.read_bytes()

    def full(content: object, target: str) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(small, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


class Evil:
    """Would run code where a pickle is simply loaded."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("pwned"),))


def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="more than tensors and plain values") as caught:
        read_tensor_file(tmp_path / "evil.pth")
    assert "torch.save(model.state_dict(), file)" in str(caught.value)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(range(256)) * 8])
def test_files_that_are_something_else_are_told(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    _require(suffix)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"\({len(content)} bytes.*\) is damaged") as caught:
        read_tensor_file(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file_is_told(small: EfficientDet, tmp_path: Path, suffix: str) -> None:
    _require(suffix)
    path = save(small, tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="is damaged or no file of tensors"):
        detectors.load(path)


def test_a_file_of_one_tensor_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="holds a Tensor, expected named tensors"):
        read_tensor_file(tmp_path / "x.pt")
