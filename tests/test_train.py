"""`train.py` from command line to files: what it promises, and every mistake people make."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import pytest
import torch
from PIL import Image

import detectors
import infer
import train
from detectors.commands.screen import versions
from detectors.commands.train.model import build_model
from detectors.experiment.lightning_guard import LossGuard
from detectors.experiment.lightning_strategy import PopTorchStrategy
from detectors.experiment.recipe import load_recipe, recipe_yaml
from detectors.weights import save

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # torch 2.0.1

TINY = (
    "image.size=64",
    "data.count=[6,2]",
    "data.workers=0",
    "model.anchors.sizes=[16,32]",
    "model.rpn.channels=8",
    "model.rpn.num_samples=16",
    "model.rpn.pre_nms=[32,32]",
    "model.rpn.post_nms=[8,8]",
    "model.box_head.pool_size=4",
    "model.box_head.num_samples=8",
    "micro_batch_size=1",
    "gradient_accumulation=1",
    "pipeline.splits=[]",
    "optim.name=sgd",
    "optim.lr=0.02",
    "optim.schedule=constant",
    "optim.warmup_steps=2",
    "run.log_every_steps=1",
    "checkpoint.every_steps=2",
    "evaluate.every_steps=0",
    "evaluate.resamples=0",
    "device=cpu",
)
"""The recipe `generated`, as small as it goes; a step takes tens of milliseconds."""


class Run(NamedTuple):
    """What a run left behind."""

    code: int
    out: str
    err: str


Train = Callable[..., Run]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Run train.py's main in an empty folder, with the words as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTORS_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> Run:
        capsys.readouterr()
        code = train.main([str(word) for word in words])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.err
        return Run(code, seen.out, seen.err)

    return call


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small recipe as a file: words take time to read."""
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(recipe_yaml(load_recipe("generated", TINY)), encoding="utf-8")
    return path


@pytest.fixture
def tiny(run: Train, small: Path) -> Train:
    """The same, of the small recipe."""

    def call(*words: object) -> Run:
        return run(f"recipe={small}", *words)

    return call


def rows(folder: Path) -> List[Dict[str, str]]:
    """`metrics.csv`."""
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, table: List[Dict[str, str]]) -> None:
    with open(folder / "metrics.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def losses(folder: Path) -> List[Tuple[str, ...]]:
    """Step, losses and learning rate of each row, every digit."""
    keys = [key for key in rows(folder)[0] if key == "step" or key.startswith(("train/", "optim/"))]
    return [tuple(row[key] for key in keys) for row in rows(folder) if row["train/loss"]]


def saved(path: Path) -> Dict[str, Any]:
    content: Dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def signal_after(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal in the middle of a step."""
    before = LossGuard.on_train_batch_end

    def signalling(self: LossGuard, trainer: Any, *args: Any) -> None:
        before(self, trainer, *args)
        if trainer.global_step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(LossGuard, "on_train_batch_end", signalling)


# What it promises


def test_a_run_leaves_a_folder_that_says_everything(
    tiny: Train, run: Train, tmp_path: Path
) -> None:
    result = tiny("trainer.max_steps=3", "seed=5")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert {file.name for file in folder.iterdir()} >= {
        "best.ckpt",
        "command.txt",
        "comp4_det_test_circle.txt",
        "config.yaml",
        "detections.json",
        "environment.txt",
        "last.ckpt",
        "metrics.csv",
        "run.log",
        "scores.json",
        "train_batches.jpg",
    }
    lines = result.out.splitlines()
    assert lines[0] == "device cpu · fp32"
    assert lines.index("run runs/generated/1") <= 11  # a header of at most twelve lines
    assert "lr 0.02 is for 16 images per step, this run has 1: unchanged" in result.out
    assert "AP50_voc07" in result.out
    assert lines[-3:] == [
        "runs/generated/1/best.ckpt",
        "draw some: python -m data.generated images --size 64 64 --noise 64 --seed 7",
        "try it: python infer.py runs/generated/1/best.ckpt images/",
    ]
    assert os.readlink(tmp_path / "runs" / "generated" / "last") == "1"
    assert (folder / "command.txt").read_text().startswith("python train.py recipe=")
    assert f"torch {versions('torch')['torch']}" in (folder / "environment.txt").read_text()
    scores = json.loads((folder / "scores.json").read_text())
    assert 0 <= scores["AP50_voc07"] <= 1
    assert scores["step"] == 3

    table = rows(folder)
    assert [row["step"] for row in table] == ["1", "2", "3"]
    parts = ("rpn_objectness", "rpn_box", "roi_class", "roi_box")
    for row in table:
        total = sum(float(row[f"train/loss_{part}"]) for part in parts)
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
        assert float(row["speed/images_per_second"]) > 0
    assert table[-1]["val/AP50_voc07"] != ""
    assert float(table[-1]["optim/lr"]) == pytest.approx(0.02)

    checkpoint = saved(folder / "last.ckpt")
    assert checkpoint["step"] == 3
    assert checkpoint["detectors"]["classes"] == ["circle", "square", "triangle"]
    model = detectors.load(folder / "best.ckpt")
    assert model.config.image_size == (64, 64)
    words = [str(folder / "best.ckpt"), "--generated", "2", "--out", "out", "--score", "0"]
    assert infer.main(words) == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert found["classes"] == ["circle", "square", "triangle"]

    again = run("recipe=runs/generated/1/config.yaml", "data.val=[]")
    assert again.code == 0, again.err
    assert losses(folder) == losses(tmp_path / "runs" / "generated" / "2")


def test_a_run_does_without_the_drawing_of_its_first_pictures(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no room for a drawing")

    monkeypatch.setattr("detectors.commands.train.batch_view.write_whole", full)
    result = tiny("trainer.max_steps=1", "data.val=[]", "augment.mosaic=1", "data.max_boxes=1")
    assert result.code == 0, result.err
    beyond = [line for line in result.out.splitlines() if "beyond data.max_boxes" in line]
    assert len(beyond) == 1
    assert beyond[0].endswith("and left out")  # what came next stood on the same line
    folder = tmp_path / "runs/generated/1"
    assert not (folder / "train_batches.jpg").exists()
    assert "no train_batches.jpg: no room for a drawing" in (folder / "run.log").read_text()


def test_ctrl_c_saves_and_the_resumed_run_is_the_uninterrupted_one(
    tiny: Train, run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("trainer.max_steps=6", "evaluate.every_steps=3", "gradient_accumulation=2")
    assert tiny(*words).code == 0
    with monkeypatch.context() as patch:
        signal_after(4, signal.SIGINT, patch)
        stopped = tiny(*words)
    assert stopped.code == 130
    assert "stopping after this step" in stopped.err
    assert stopped.out.splitlines()[-1] == (
        "saved last.ckpt (step 4); continue: python train.py resume=runs/generated/2"
    )
    whole, parts = (tmp_path / "runs" / "generated" / name for name in "12")
    assert saved(parts / "last.ckpt")["step"] == 4
    assert not (parts / "scores.json").exists()
    going_on = run("resume=runs/generated/2")
    assert going_on.code == 0, going_on.err
    assert "going on at step 4" in going_on.out
    assert losses(whole) == losses(parts)
    one, other = (saved(folder / "last.ckpt") for folder in (whole, parts))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    assert len((parts / "command.txt").read_text().splitlines()) == 2


def test_sigterm_saves_and_auto_goes_on(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("trainer.max_steps=2", "data.val=[]", "resume=auto")
    with monkeypatch.context() as patch:
        signal_after(1, signal.SIGTERM, patch)
        begun = tiny(*words)
    assert begun.code == 143
    assert "resume=auto: no run of generated to go on with: this is a new one" in begun.out
    result = tiny(*words)
    assert result.code == 0, result.err
    assert "run runs/generated/1" in result.out
    assert "data.val is []: nothing was evaluated on" in result.out


def test_a_killed_run_goes_on_to_the_last_digit(
    run: Train, repository: Path, shared_data: Path, tmp_path: Path
) -> None:
    # Real pictures, a worker, and another process: no test can kill its own.
    recipe = tmp_path / "small.yaml"
    words = [word for word in TINY if not word.startswith("data.")]
    words += ["model.weights=random", "model.depth=18", f"data.root={shared_data / 'bccd'}"]
    words += ["data.val=[]", "data.workers=1", "trainer.max_steps=8"]
    recipe.write_text(recipe_yaml(load_recipe("voc_custom", words)), encoding="utf-8")
    folder = tmp_path / "runs" / "voc_custom" / "1"
    threads = str(torch.get_num_threads())  # sums depend on them
    process = subprocess.Popen(
        [sys.executable, str(repository / "train.py"), f"recipe={recipe}"],
        env={**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(repository)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (folder / "metrics.csv").exists() or len(losses(folder)) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    step, seen = saved(folder / "last.ckpt")["step"], losses(folder)
    assert 3 <= step <= len(seen)
    going_on = run(f"recipe={recipe}", "resume=auto")
    assert f"going on at step {step}" in going_on.out
    assert run(f"recipe={recipe}", "run.root=other").code == 0
    whole = losses(tmp_path / "other" / "voc_custom" / "1")
    assert len(whole) == 8
    assert losses(folder) == whole
    assert seen == whole[: len(seen)]


def test_a_finished_run_is_told_evaluated_and_made_longer(
    tiny: Train, run: Train, tmp_path: Path
) -> None:
    assert tiny("trainer.max_steps=2").code == 0
    folder = tmp_path / "runs" / "generated" / "1"
    finished = tiny("trainer.max_steps=2", "resume=auto")
    assert finished.code == 0
    assert re.search(r"run runs/generated/1 finished at step 2 \(AP50_voc07 0\.\d+\)", finished.out)
    assert "task=evaluate weights=runs/generated/1" in finished.out
    assert len((folder / "command.txt").read_text().splitlines()) == 1  # nothing was run
    longer = finished.out.splitlines()[-1].partition("train.py ")[2].split()
    assert longer == ["resume=runs/generated/1", "trainer.max_steps=3", "resume_changes=allow"]

    scores, table = (folder / "scores.json").read_text(), rows(folder)
    for name in ("scores.json", "best.ckpt", "detections.json"):  # killed in its last evaluation
        (folder / name).unlink()
    write_rows(folder, [{**row, "val/AP50_voc07": "", "val/AP50_voc12": ""} for row in table])
    assert run("resume=runs/generated/1").code == 0
    assert (folder / "scores.json").read_text() == scores
    assert rows(folder) == table
    assert (folder / "best.ckpt").exists()

    assert run(*longer).code == 0
    assert json.loads((folder / "scores.json").read_text())["step"] in (2, 3)
    assert [row["step"] for row in rows(folder)] == ["1", "2", "3"]


def test_time_is_up_after_a_step(tiny: Train, tmp_path: Path) -> None:
    stopped = tiny("trainer.max_steps=3", "trainer.max_time=00:00:00:00")
    assert stopped.code == 0
    assert "trainer.max_time is up: saved last.ckpt (step 1)" in stopped.out
    assert "continue: python train.py resume=runs/generated/1" in stopped.out
    folder = tmp_path / "runs" / "generated" / "1"
    assert saved(folder / "last.ckpt")["step"] == 1
    assert not (folder / "scores.json").exists()


def test_patience_ends_a_run_that_gets_no_better(tiny: Train, run: Train, tmp_path: Path) -> None:
    words = ("trainer.max_steps=9", "evaluate.every_steps=1", "evaluate.patience=2")
    result = tiny(*words, "optim.lr=1e-9")
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert len(rows(folder)) == 3  # the first is the best, two more are not better
    assert json.loads((folder / "scores.json").read_text())["step"] == 1
    assert saved(folder / "best.ckpt")["step"] == 1
    assert saved(folder / "last.ckpt")["step"] == 3
    assert detectors.load(folder / "best.ckpt").config.num_classes == 3  # whole

    (folder / "scores.json").unlink()  # killed before they were written
    assert run("resume=runs/generated/1").code == 0
    assert len(rows(folder)) == 3
    assert json.loads((folder / "scores.json").read_text())["step"] == 1


def test_a_call_of_two_updates_counts_as_two_steps(tiny: Train, tmp_path: Path) -> None:
    words = ("device_iterations=2", "evaluate.every_steps=2", "trainer.deterministic=true")
    result = tiny("trainer.max_steps=4", *words)
    torch.use_deterministic_algorithms(False)
    assert result.code == 0, result.err
    folder = tmp_path / "runs" / "generated" / "1"
    assert [row["step"] for row in rows(folder) if row["val/AP50_voc07"]] == ["2", "4"]
    assert saved(folder / "last.ckpt")["step"] == 4


def test_tensorboard_has_the_run_folder(tiny: Train, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = tiny("trainer.max_steps=1", "data.val=[]", "run.loggers=[tensorboard]")
    assert result.code == 0, result.err
    assert list((tmp_path / "runs" / "generated" / "1").glob("events.out.tfevents.*"))


def test_throughput_ends_and_writes_nothing(tiny: Train, tmp_path: Path) -> None:
    result = tiny("task=throughput", "trainer.max_steps=4", "micro_batch_size=2")
    assert result.code == 0, result.err
    assert re.search(r"samples/s +p50 +p90 +p99\nms per step +\d", result.out)
    assert "one batch of 2 repeated" in result.out
    assert "2 calls timed" in result.out
    assert list(tmp_path.iterdir()) == []


def test_check_says_what_the_data_is_and_whether_it_can_be_learned(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.commands.train.check.STEPS", 25)
    result = tiny("task=check")
    assert result.code == 0, result.err
    assert "data: sound" in result.out
    assert re.search(r"loss \d\.\d\d -> \d\.\d\d in 25 steps: can learn", result.out)
    assert re.search(r"estimate: [\d:]+ for \d+ steps at", result.out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of Lightning's, about this machine
def test_the_documented_program_trains_with_a_plain_trainer(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (repository / "docs" / "training.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: Dict[str, Any] = {}
    exec(program, names)
    assert names["trainer"].global_step == 1


def test_cfg_prints_a_recipe_that_is_the_same(run: Train, tmp_path: Path) -> None:
    words = ("recipe=voc0712_mixed", "optim.lr=0.01")
    result = run(*words, "--cfg")
    assert result.code == 0
    assert run(*words, "--cfg", "job").out == result.out
    (tmp_path / "voc0712_mixed.yaml").write_text(result.out)
    again = load_recipe("./voc0712_mixed.yaml")
    assert again.optim.lr == 0.01
    assert again.model.norm.value == "frozen"  # resolved


def test_the_list_and_the_help_are_answered_without_torch(repository: Path) -> None:
    program = (
        "import sys, train; codes = [train.main(words) for words in ([], ['--recipes'], ['--help'],"
        " ['recipe=x'])]; print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 2] False"
    assert done.stdout.count("voc0712_mixed ") == 2
    assert "usage: python train.py recipe=NAME" in done.stdout


# Mistakes, which leave nothing behind


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["recipe=voc0712_mixd"], ["no recipe 'voc0712_mixd'", "did you mean voc0712_mixed?"]),
        (["recpe=voc0712_mixed"], ["unknown key 'recpe'; did you mean recipe=voc0712_mixed?"]),
        (["--recipe", "generated"], ["write recipe=generated"]),
        (["--recipe=generated"], ["write recipe=generated"]),
        (["generated"], ["unknown word 'generated'; write recipe=generated"]),
        (["recipe=generated", "--recipess"], ["did you mean --recipes?"]),
        (["recipe=generated", "recipe=voc_custom"], ["recipe= is given 2 times"]),
        (["seed=1"], ["name a recipe", "recipes: bccd_d0, "]),
        (
            ["recipe=voc0712_mixed", "optim.learning_rate=.1"],
            ["no key 'optim.learning_rate' in voc0712_mixed; did you mean optim.lr (now 0.02)?"],
        ),
        (["recipe=generated", "optim.lr=abc"], ["optim.lr must be a number > 0, got 'abc'"]),
        (["recipe=generated", "seed=1.5"], ["seed must be a whole number", "got 1.5"]),
        (["recipe=generated", "micro_batch_size=0"], ["micro_batch_size must be"]),
        (["recipe=generated", "+new=1"], ["+new"]),
        (["recipe=generated", "evaluate.patience=2", "evaluate.every_steps=0"], ["every_steps"]),
        (["recipe=generated", "weights=best.ckpt"], ["model.weights", "no best.ckpt"]),
        (["recipe=generated", "device_iterations=7"], ["device_iterations"]),
        (["recipe=generated", "optim.name=lamb", "optim.max_grad_norm=1"], ["max_grad_norm"]),
        (["resume=runs/generated/7"], ["runs/generated/7/config.yaml"]),
        (["recipe=voc_custom", "data.root=nowhere"], ["nowhere"]),
        (["SMALL", "evaluate.metric=AP60_voc07"], ["evaluate.metric must be one of"]),
        (
            ["SMALL", "pipeline.splits=[head]", "gradient_accumulation=3"],
            ["pipeline.splits 'head'"],
        ),
        (["SMALL", "augment=albumentations"], ["augment.compose=FILE"]),
        (["SMALL", "resume=runs/generated/7"], ["no runs/generated/7"]),
        (["SMALL", "model.weights=nothing.ckpt"], ["nothing.ckpt"]),
        (["SMALL", "model.weights=imagnet"], ["there is no imagnet; did you mean imagenet?"]),
        (["recipe=generated", "device=gpu"], ["got 'gpu'; did you mean cuda?"]),
        (["recipe=generated", "image.size=[256,"], ["is not YAML", "no blanks, or quotes"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_word_is_explained(
    words: List[str], lines: List[str], run: Train, small: Path, tmp_path: Path
) -> None:
    result = run(*(f"recipe={small}" if word == "SMALL" else word for word in words))
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) <= 6
    for line in lines:
        assert line in result.err
    assert list(tmp_path.iterdir()) == []


def voc_folder(root: Path, names: Tuple[str, ...] = ("cat", "dog")) -> Path:
    """Two pictures with two objects each."""
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{10 + 20 * place}</xmin><ymin>5</ymin>"
        f"<xmax>{25 + 20 * place}</xmax><ymax>40</ymax></bndbox></object>"
        for place, name in enumerate(names)
    )
    for number in range(4):
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        (root / "Annotations").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (40 * number, 90, 90)).save(root / f"JPEGImages/{number}.jpg")
        (root / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>64</width>"
            f"<height>48</height><depth>3</depth></size>{boxes}</annotation>"
        )
    return root


def custom(folder: Path, *words: str) -> str:
    """`recipe=` of a file: voc_custom made small, for pictures at `folder`."""
    small = [word for word in TINY if not word.startswith("data.count")]
    own = ["model.weights=random", "model.depth=18", f"data.root={folder}", "data.val=[]"]
    path = folder.with_suffix(".yaml")
    path.write_text(recipe_yaml(load_recipe("voc_custom", [*small, *own, *words])))
    return f"recipe={path}"


def test_an_unreadable_picture_stops_the_run_before_it_begins(run: Train, tmp_path: Path) -> None:
    root = voc_folder(tmp_path / "mine")
    picture = root / "JPEGImages/2.jpg"
    picture.write_bytes(picture.read_bytes()[:200])
    recipe = custom(root)
    result = run(recipe)
    assert result.code == 1
    assert "JPEGImages/2.jpg" in result.err
    assert "data.skip_bad=true" in result.err
    check = run(recipe, "task=check")
    assert check.code == 1
    assert "JPEGImages/2.jpg" in check.out
    assert not (tmp_path / "runs").exists()
    skipped = run(recipe, "data.skip_bad=true", "trainer.max_steps=1")
    assert skipped.code == 0, skipped.err
    listed = (tmp_path / "runs/voc_custom/1/bad_images.txt").read_text()
    assert listed.startswith("JPEGImages/2.jpg: ")


def test_a_detector_of_other_classes_needs_a_word_about_its_head(
    run: Train, small: Path, tmp_path: Path
) -> None:
    model, _ = build_model(load_recipe(small), ("circle", "square", "triangle"))
    save(model, tmp_path / "start.ckpt", classes=("circle", "square", "triangle"))
    root = voc_folder(tmp_path / "mine", ("circle", "dog"))
    recipe = custom(root, "model.anchors.ratios=[1.0]", "model.box_head.append_boxes=true")
    words = ("model.weights=start.ckpt", "model.norm=batch", "model.frozen_stages=0")
    result = run(recipe, *words)
    assert result.code == 2
    assert "checkpoint: 3 classes (circle, square, triangle); data: 2 (circle, dog)" in result.err
    assert "to fine-tune: weights=start.ckpt head=map keeps the rows of circle" in result.err
    assert "weights=start.ckpt head=new" in result.err
    assert not (tmp_path / "runs").exists()
    tuned = run(recipe, *words, "model.head=map", "trainer.max_steps=1")
    assert tuned.code == 0, tuned.err
    assert "rows kept of circle; new: dog" in tuned.out


def test_a_loss_that_is_no_number_ends_the_run(tiny: Train, tmp_path: Path) -> None:
    result = tiny("trainer.max_steps=9", "optim.lr=1e20", "optim.warmup_steps=0", "data.val=[]")
    assert result.code == 1
    found = re.search(
        r"error: loss_\w+ became (nan|inf) at step (\d); images generated_", result.err
    )
    assert found, result.err
    folder = tmp_path / "runs/generated/1"
    assert saved(folder / "nan_batch.pt")["step"] == int(found.group(2))
    assert "Traceback" in (folder / "run.log").read_text()


def test_out_of_memory_names_the_settings_that_need_less(
    tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*tensors: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")

    monkeypatch.setattr(PopTorchStrategy, "run_training", full)
    result = tiny("micro_batch_size=4", "gradient_accumulation=4", "trainer.max_steps=1")
    assert result.code == 1
    assert "out of memory on cpu: micro-batch 4 of 64x64" in result.err
    assert "micro_batch_size=2 gradient_accumulation=8 gives the same batch" in result.err


def test_a_disk_without_room_is_told_before_the_run(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(90_000_000))
    result = tiny()
    assert result.code == 1
    assert "90 MB free" in result.err
    assert "run.root=DIR" in result.err
    assert list(tmp_path.iterdir()) == []


def test_a_logger_that_is_not_installed_is_told_before_the_run(
    tiny: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    result = tiny("run.loggers=[wandb]")
    assert result.code == 1
    assert "run.loggers has wandb, which is not installed: pip install wandb" in result.err
    assert list(tmp_path.iterdir()) == []


def test_the_ipu_is_not_replaced(tiny: Train, tmp_path: Path) -> None:
    result = tiny("device=ipu")
    assert result.code == 1
    assert "device=ipu needs the Poplar SDK" in result.err
    assert list(tmp_path.iterdir()) == []
