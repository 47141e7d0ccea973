"""`python -m detectors evaluate`: scores, files, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import torch

from data.generated import GeneratedImages
from detectors.__main__ import main
from detectors.backbones.resnet import ResNet
from detectors.commands.evaluate.arguments import evaluation_recipe
from detectors.commands.train.model import build_model
from detectors.experiment.recipe import Recipe

MakeRun = Callable[..., Path]
FLAVOURS = "evaluate.flavours=[voc07,voc12,coco]"


def evaluate(*words: str) -> int:
    return main(["evaluate", *words])


def scores_of(folder: Path) -> Dict[str, Any]:
    content: Dict[str, Any] = json.loads((folder / "scores.json").read_text())
    return content


def perfect(folder: Path, share: int = 1) -> Path:
    """COCO results of the six pictures: every `share`-th box."""
    images = GeneratedImages(6, (64, 64), seed=1, noise=64)
    results = []
    for sample in (images[index] for index in range(6)):
        for (x1, y1, x2, y2), label in list(zip(sample.boxes.tolist(), sample.labels))[::share]:
            entry = {"image_id": sample.image_id, "category_id": int(label) + 1, "score": 0.5}
            results.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    file = folder / f"every_{share}.json"
    file.write_text(json.dumps(results))
    return file


def test_hard_and_soft_nms_stand_beside_each_other(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    assert evaluate(f"weights={run}", "evaluate.nms=[soft,hard]", FLAVOURS) == 0
    shown = capsys.readouterr().out
    folder = tmp_path / "runs" / "evaluate" / "generated" / "1"
    scores = scores_of(folder)
    assert scores["nms"] == "soft"
    assert list(scores["other_nms"]) == ["hard"]
    for kind in ("soft", "hard"):
        assert len(re.findall(rf"^[^\n]*: +AP50_voc07 \({kind} NMS\) \d", shown, re.M)) == 1
        assert len(re.findall(rf"^[^\n]*: +AP_coco \({kind} NMS\) \d", shown, re.M)) == 1
    assert "detections.json, detections_hard.json" in shown

    # Each file, scored again without a model, gives the numbers that stand under its name.
    theirs = {"detections.json": scores, "detections_hard.json": scores["other_nms"]["hard"]}
    for number, (file, wanted) in enumerate(theirs.items(), 2):
        assert evaluate(f"detections={folder / file}", FLAVOURS) == 0
        again = scores_of(folder.parent / str(number))
        assert "nms" not in again  # a file does not say
        assert {k: v for k, v in again.items() if "AP" in k} == {
            k: v for k, v in wanted.items() if "AP" in k
        }
    soft, hard = (json.loads((folder / file).read_text()) for file in theirs)
    assert soft != hard
    assert len(soft) > len(hard)  # nothing is dropped for overlap


def test_a_run_folder_says_everything(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    assert evaluate(f"weights={run}") == 0
    shown = capsys.readouterr().out
    folder = tmp_path / "runs" / "evaluate" / "generated" / "1"
    assert {path.name for path in folder.iterdir()} == {
        "comp4_det_test_circle.txt",
        "comp4_det_test_square.txt",
        "comp4_det_test_triangle.txt",
        "config.yaml",
        "detections.json",
        "detections_images.json",
        "scores.json",
    }
    scores = scores_of(folder)
    assert (scores["step"], scores["images"]) == (7, 6)
    assert 0 <= scores["AP50_voc07_low"] <= scores["AP50_voc07"] <= scores["AP50_voc07_high"] <= 1
    assert set(scores["classes"]) == {"circle", "square", "triangle"}
    assert re.search(r"^class +images +boxes +P +R +AP50_voc07 +AP50_voc12$", shown, re.M)
    assert re.search(r"^VOC2007, 11 points: +AP50_voc07 \(hard NMS\) \d", shown, re.M)
    assert re.search(r"^VOC2010-2012, area: +AP50_voc12 \(hard NMS\) \d", shown, re.M)
    assert shown.startswith("val 6 images")
    assert "device cpu · faster_rcnn-r18_c4 64x64 · 3 classes" in shown

    # The file that it wrote scores the same to the last digit, without a model.
    assert evaluate(f"detections={folder}") == 0
    again = scores_of(folder.parent / "2")
    assert {k: v for k, v in again.items() if "AP" in k} == {
        k: v for k, v in scores.items() if "AP" in k
    }
    assert again["classes"] == scores["classes"]


def test_a_checkpoint_alone_knows_its_recipe(make_run: MakeRun, tmp_path: Path) -> None:
    checkpoint = (make_run() / "best.ckpt").rename(tmp_path / "best.ckpt")
    recipe = evaluation_recipe([f"weights={checkpoint}", "data.count=[1,2]"])
    assert (recipe.name, recipe.image.size, recipe.data.count) == ("generated", 64, [1, 2])
    assert recipe.task.name == "evaluate"


def test_perfect_detections_score_one_hundred(
    words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    assert evaluate(*words, f"detections={perfect(tmp_path)}", FLAVOURS) == 0
    shown = capsys.readouterr().out
    assert "AP50_voc07 100.0 [100.0, 100.0]" in shown
    assert "AP_coco 100.0 [100.0, 100.0]" in shown
    folder = tmp_path / "runs" / "evaluate" / "generated" / "1"
    assert scores_of(folder)["AP_coco"] == pytest.approx(1.0)


def test_against_tells_who_is_better(
    words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, half = perfect(tmp_path), perfect(tmp_path, share=2)
    assert evaluate(*words, f"detections={whole}", f"against={half}") == 0
    shown = capsys.readouterr().out
    assert re.search(r"AP50_voc07 \+\d+\.\d \[\+\d.*\] against .*every_2\.json: better", shown)
    against = scores_of(tmp_path / "runs" / "evaluate" / "generated" / "1")["against"]
    assert 0 < against["AP50_voc07_low"] <= against["AP50_voc07"] <= against["AP50_voc07_high"]
    assert evaluate(*words, f"detections={whole}", f"against={whole}") == 0
    assert "no difference that these images show" in capsys.readouterr().out


REFUSED = [
    ([], "usage: python -m detectors evaluate", False),
    (["data.root=x"], "nothing to evaluate: give weights=FILE", True),
    (["weights=nowhere.ckpt"], "there is no nowhere.ckpt", True),
    (["recipe=generated"], "takes weights=FILE .* got neither", True),
    (["recipe=generated", "weights=a", "detections=b"], "got both", True),
    (["recipe=generated", "weights=nowhere.ckpt"], "no weights at nowhere.ckpt", True),
    (["recipe=generated", "detections=nowhere.json"], "no detections at nowhere.json", True),
    (["recipe=generatd", "weights=a"], "did you mean generated", True),
    (["--weights", "x"], "unknown word '--weights'", True),
    (["recipe=generated", "weights=a", "task=train"], "has one task, got task=train", True),
    (["recipe=generated", "detections=a", "evaluate.metric=AP_coco"], "needs coco in", True),
]


@pytest.mark.parametrize(("given", "message", "is_error"), REFUSED)
def test_mistakes_end_with_two_and_leave_nothing(
    given: List[str],
    message: str,
    is_error: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate(*given) == 2
    output = capsys.readouterr()
    shown = output.err if is_error else output.out
    assert re.search(message, shown)
    assert not is_error or (shown.startswith("error: ") and len(shown.splitlines()) <= 6)
    assert list(tmp_path.iterdir()) == []


def test_other_classes_are_refused(
    make_run: MakeRun, words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(classes=("cat", "dog"))
    assert evaluate(*words, f"weights={run}") == 2
    shown = capsys.readouterr().err
    assert "2 classes (cat, dog); data: 3 classes (circle, square, triangle)" in shown
    assert not (tmp_path / "runs").exists()


def test_imagenet_weights_are_no_detector(
    words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = ResNet(18).state_dict()
    torch.save({**trunk, "fc.weight": torch.zeros(1000, 512)}, tmp_path / "resnet18.pth")
    assert evaluate(*words, f"weights={tmp_path / 'resnet18.pth'}") == 2
    shown = capsys.readouterr().err
    assert re.search(r"without a detection head: \d+ tensors of .* would be missing", shown)
    assert not (tmp_path / "runs").exists()


def test_what_differs_from_the_training_is_told(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    (run / "scores.json").write_text(json.dumps({"data_fingerprint": "another"}))
    changes = ["image.size=[64,96]", "data.count=[1,3]", "evaluate.micro_batch_size=2"]
    assert evaluate(f"weights={run}", *changes, "evaluate.resamples=0") == 0
    shown = capsys.readouterr().out
    assert "faster_rcnn-r18_c4 64x96" in shown
    assert "note: these are not the data" in shown
    assert "judged" not in shown  # all three, the last in a batch of its own


def test_weights_without_a_record_go_by_the_recipe(
    tiny: Callable[..., Recipe],
    words: List[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, _ = build_model(tiny(), ["circle", "square", "triangle"])
    torch.save(model.network.state_dict(), tmp_path / "bare.pt")
    few = ["data.count=[1,2]", "evaluate.resamples=0"]
    assert evaluate(*words, *few, f"weights={tmp_path / 'bare.pt'}") == 0
    scores = scores_of(tmp_path / "runs" / "evaluate" / "generated" / "1")
    assert (scores["step"], scores["images"]) == (None, 2)
    assert evaluate(f"weights={tmp_path / 'bare.pt'}") == 2
    assert "says which data: add recipe=NAME" in capsys.readouterr().err


def test_part_of_the_images(
    words: List[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}
    found = [
        {"label": "circle", "score": 0.5, "box": box},
        {"label": "cow", "score": 1, "box": box},
    ]
    images = [{"file": "generated_000002.png", "detections": found}]
    content = {"classes": ["cow", "circle", "square", "triangle"], "images": images}
    (tmp_path / "detections.json").write_text(json.dumps(content))
    assert evaluate(*words, f"detections={tmp_path}") == 0
    shown = capsys.readouterr().out
    assert "judged 1 of the 6 images" in shown
    assert "1 detections are of classes that the data does not have" in shown
    every = perfect(tmp_path)
    assert evaluate(*words, f"detections={every}", f"against={tmp_path}") == 2
    assert "has 1 of these 6 images" in capsys.readouterr().err


def test_train_py_does_the_same(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    train: Any = pytest.importorskip("train")
    run = f"run.root={tmp_path / 'runs'}"
    settings = ["data.count=[1,6]", "image.size=64", "evaluate.resamples=0", "device=cpu", run]
    file = perfect(tmp_path)
    assert train.main(["recipe=generated", "task=evaluate", f"detections={file}", *settings]) == 0
    assert scores_of(tmp_path / "runs" / "evaluate" / "generated" / "1")["AP50_voc12"] == 1.0


def test_detections_of_another_split_are_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = ["recipe=voc_custom", f"data.root={shared_data / 'bccd'}", f"run.root={tmp_path}"]
    (tmp_path / "none.json").write_text("[]")
    few = ["evaluate.resamples=0", "data.skip_bad=true"]
    assert evaluate(*recipe, f"detections={tmp_path / 'none.json'}", "data.val=[val]", *few) == 0
    found = tmp_path / "evaluate" / "voc_custom" / "1"
    assert evaluate(*recipe, f"detections={found}", "data.val=[test]", *few) == 2
    assert "another split?" in capsys.readouterr().err
