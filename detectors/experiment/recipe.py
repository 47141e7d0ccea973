"""A training recipe: every setting of a run, from `recipes/<name>.yaml` and `key=value` words.

Unfrozen dataclasses of primitives and enums, because OmegaConf fills them; nothing changes them
afterwards. Sizes are pixels, steps are updates of the weights. A long file, because each key has
its sentence here and nowhere else; what is done with a recipe stands in the files beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from detectors.experiment.recipe_changes import Change, recipe_changes
from detectors.experiment.recipe_checks import LIMITS, NICKNAMES, check_recipe
from detectors.experiment.recipe_files import list_recipes, recipe_file
from detectors.experiment.resolved import image_size, resolve
from detectors.experiment.starting_weights import long_words, start_from
from detectors.experiment.structured import fill_schema, yaml_text
from detectors.experiment.training_options import inference_options, poptorch_options

__all__ = [
    "Change",
    "Recipe",
    "image_size",
    "inference_options",
    "list_recipes",
    "load_recipe",
    "poptorch_options",
    "recipe_changes",
    "recipe_yaml",
    "resolve",
]


class Task(Enum):
    """What to do."""

    train = "train"
    check = "check"
    evaluate = "evaluate"
    throughput = "throughput"


class Device(Enum):
    """Where; `auto` is the IPU with an SDK, else CUDA where there is a GPU, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    ipu = "ipu"


class Precision(Enum):
    """Of training. `mixed`: the seed's fp16 plan on the IPU, autocast on CUDA, fp32 on the CPU."""

    fp32 = "fp32"
    mixed = "mixed"


class DataFormat(Enum):
    """Of the annotations; `auto` looks at what is in the folder."""

    auto = "auto"
    voc = "voc"
    coco = "coco"
    yolo = "yolo"
    generated = "generated"


class Norm(Enum):
    """Batch norms of the network; `auto`: Faster R-CNN's are frozen, but trained where
    `model.weights` is random; EfficientDet's are trained.
    """

    auto = "auto"
    frozen = "frozen"
    batch = "batch"


class Schedule(Enum):
    """Of the learning rate, after its linear warm-up."""

    step = "step"
    cosine = "cosine"
    constant = "constant"


class Algorithm(Enum):
    """The optimizer, of PopTorch's or, outside it, torch's."""

    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"
    rmsprop = "rmsprop"
    lamb = "lamb"


@dataclass
class RunSettings:
    """Where results go and what is told."""

    root: str = "runs"
    """Folder of the run folders; a run is `<root>/<recipe>/<number>`."""
    log_every_steps: int = 20
    """Steps between two rows of `metrics.csv`; a twentieth of the run where that is less."""
    loggers: List[str] = field(default_factory=list)
    """Besides `metrics.csv`: tensorboard, wandb."""


@dataclass
class DataSettings:
    """Pictures and boxes."""

    format: DataFormat = DataFormat.voc
    """auto (by what is there; sets too), voc, coco, yolo or generated."""
    root: str = "datasets"
    """Folder of the dataset, read where it lies."""
    train: List[str] = field(default_factory=lambda: ["train"])
    """Sets to train on."""
    val: List[str] = field(default_factory=lambda: ["val"])
    """Sets to evaluate on; [] evaluates nothing."""
    classes: Optional[List[str]] = None
    """Names by label; null = those of the data: VOC's in alphabetical order, else by number."""
    labels: str = "order"
    """order = 0, 1, 2, ... by `classes`; ids = COCO's category id - 1, and an output of the model
    that no class has between them, as in AutoML's 90.
    """
    classes_alias: Dict[str, str] = field(default_factory=dict)
    """Name in the data -> class to take it for."""
    difficult: str = "use"
    """Training with VOC's difficult boxes: use, ignore or leave_out."""
    max_boxes: int = 100
    """Boxes per picture that the graph has room for; more are counted and reported."""
    validation: float = 0.2
    """Share that is evaluated on where the data has no lists."""
    limit: Optional[int] = None
    """The first so many pictures of each split alone, to try things or to overfit; null = all."""
    skip_bad: bool = False
    """Go on although pictures cannot be read or annotations are damaged: leave those out."""
    workers: int = 2
    """Processes that read and augment; 0 = in the main one."""
    count: List[int] = field(default_factory=lambda: [400, 100])
    """Generated pictures to train and to evaluate on."""
    noise: int = 64
    """Grey values of the generated ground, 2..256: the fewer, the easier."""


@dataclass
class ImageSettings:
    """The network's input."""

    size: Any = None
    """One number or [height, width]; null = the model's: 800 for Faster R-CNN."""
    fit: str = "letterbox"
    """letterbox, squash (Graphcore's) or short_edge (Detectron2's)."""
    short_edges: List[int] = field(default_factory=list)
    """For short_edge: training draws one, evaluation takes the last."""
    long_edge: int = 0
    """For short_edge: limit of the long side."""


@dataclass
class AugmentSettings:
    """What training changes about a picture; `augment=albumentations` sets the first."""

    library: str = "own"
    """own (the settings below), albumentations (`compose` first, then the settings below), none."""
    compose: str = ""
    """For albumentations: gridmask, autoaugment, or the file of a serialised `A.Compose` (json or
    yaml)."""
    flip: float = 0.5
    """Probability of mirroring left to right."""
    scale: List[float] = field(default_factory=lambda: [1.0, 1.0])
    """Range of a factor on the fitted size, inside the fixed canvas."""
    scale_probability: float = 1.0
    """Of drawing that factor."""
    place: str = "middle"
    """Where a scaled picture lies: middle, anywhere, or corner (as AutoML: cut at random, or at the
    top left)."""
    mosaic: float = 0.0
    """Probability of a picture of four, this one and three others."""
    mosaic_close: float = 0.1
    """Share of the run, at its end, without such pictures."""
    colour_probability: float = 0.5
    """Of touching the colours of a picture at all."""
    brightness: float = 0.0
    """Added to all pixels: -brightness..brightness, as a fraction of white."""
    contrast: List[float] = field(default_factory=lambda: [1.0, 1.0])
    """Range of the factor around the picture's mean grey."""
    saturation: List[float] = field(default_factory=lambda: [1.0, 1.0])
    """Range of the factor around each pixel's grey."""


@dataclass
class AnchorSettings:
    """Of the proposals; null = the variant's."""

    sizes: Optional[List[float]] = None
    """Roots of areas, input pixels."""
    ratios: Optional[List[float]] = None
    """Height / width."""


@dataclass
class RpnSettings:
    """First stage; null = the variant's."""

    channels: Optional[int] = None
    """Of the 3x3 convolution; 0 = as many as the features have."""
    num_samples: Optional[int] = None
    """Anchors trained on, per image."""
    pre_nms: Optional[List[int]] = None
    """Anchors that enter NMS, in training and inference."""
    post_nms: Optional[List[int]] = None
    """Proposals that leave it."""


@dataclass
class BoxHeadSettings:
    """Second stage; null = the variant's."""

    pool_size: Optional[int] = None
    """Bins along each side of a pooled region."""
    sampling_ratio: Optional[int] = None
    """Samples along each side of a bin; 0 = adaptive."""
    num_samples: Optional[int] = None
    """Regions trained on, per image."""
    append_boxes: Optional[bool] = None
    """The ground truth is among the regions to be drawn from."""
    score_threshold: Optional[float] = None
    """Only scores over this become detections."""


@dataclass
class PyramidSettings:
    """Anchors of EfficientDet; null = the model's."""

    scale: Any = None
    """Side of a level's smallest square anchor, in strides."""
    octaves: Optional[int] = None
    """Anchor sizes for each doubling."""
    aspects: Any = None
    """Sides of a size's anchors: exact, rounded, or pairs of factors [width, height]."""


@dataclass
class LossSettings:
    """Of EfficientDet's training."""

    alpha: float = 0.25
    """Focal loss: weight of an anchor's own class."""
    gamma: float = 1.5
    """Focal loss: how much less counts what is known already."""
    label_smoothing: float = 0.0
    """Targets are s / 2 and 1 - s / 2."""
    delta: float = 0.1
    """Huber loss: linear beyond this difference."""
    box_weight: float = 50.0
    """The box loss times this."""


@dataclass
class ModelSettings:
    """The detector; see `config.py` of its family. Keys of one family stay untouched in recipes of
    the other.
    """

    name: str = "faster_rcnn"
    """faster_rcnn, or one of EfficientDet: efficientdet-d0, ..., efficientdet-d7x."""
    pyramid: PyramidSettings = field(default_factory=PyramidSettings)
    """EfficientDet: anchors."""
    loss: LossSettings = field(default_factory=LossSettings)
    """EfficientDet: losses."""
    survival: Optional[float] = None
    """EfficientDet: probability that stochastic depth keeps the deepest block; null = the model's.
    """
    norm_momentum: float = 0.01
    """EfficientDet: share of a micro-batch in the batch norms' running statistics; 0.1 for runs of
    less than some thousand steps, whose evaluations would find nothing with AutoML's 0.01.
    """
    frozen: List[str] = field(default_factory=list)
    """EfficientDet: modules of the network that are not trained, such as [backbone]."""
    depth: int = 50
    """Layers of the ResNet: 18, 34, 50, 101."""
    variant: str = "seed"
    """Whose anchors, sampling and losses: seed, pytorch-faster-rcnn, detectron2."""
    weights: str = "imagenet"
    """To start from: imagenet (downloaded once), random (nothing), or a file."""
    origin: Optional[str] = None
    """Whose weights a file in torchvision's names is: torchvision, timm, caffe; null = by its name.
    """
    head: Optional[str] = None
    """Of a detector's weights, for other classes: map = rows of classes that both have, by name,
    are kept; new = no row is.
    """
    norm: Norm = Norm.auto
    """frozen, batch or auto; EfficientDet's auto is batch."""
    frozen_stages: Optional[int] = None
    """First stages that are not trained; null = 2, and 0 where `weights` is random."""
    stride_in_1x1: bool = False
    """Fixed by the weights: torchvision false, Caffe and MSRA true."""
    anchors: AnchorSettings = field(default_factory=AnchorSettings)
    """Of the proposals."""
    rpn: RpnSettings = field(default_factory=RpnSettings)
    """First stage."""
    box_head: BoxHeadSettings = field(default_factory=BoxHeadSettings)
    """Second stage."""


@dataclass
class OptimSettings:
    """Optimizer and learning rate."""

    name: Algorithm = Algorithm.sgd
    """sgd, adam, adamw, rmsprop, lamb."""
    lr: float = 0.02
    """After the warm-up, for `base_batch` images per step."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-4
    """Of weights."""
    bias_decay: bool = True
    """Decay biases and batch norms too."""
    max_grad_norm: float = 0.0
    """Clip the norm of all gradients together; 0 = do not."""
    loss_scaling: float = 1.0
    """For half precision."""
    schedule: Schedule = Schedule.step
    """step, cosine, constant."""
    steps: List[int] = field(default_factory=list)
    """Where the step schedule multiplies by `gamma`."""
    gamma: float = 0.1
    """Of the step schedule."""
    warmup_steps: int = 100
    """Linear, from `warmup_factor` times the learning rate."""
    warmup_factor: float = 0.001
    """Of the first step."""
    scale_lr: bool = False
    """Multiply `lr` by images per step / `base_batch`."""
    base_batch: int = 16
    """Images per step that `lr` is meant for."""
    ema: float = 0.0
    """Decay of the averaged weights, which are evaluated and saved beside the trained ones; 0 =
    none.
    """
    ema_every: int = 1
    """Updates between two looks at the weights to average."""


@dataclass
class TrainerSettings:
    """How long."""

    max_steps: int = 18000
    """Updates of the weights."""
    max_time: Optional[str] = None
    """DD:HH:MM:SS after which to stop, saved."""
    deterministic: bool = False
    """torch's deterministic algorithms."""


@dataclass
class CheckpointSettings:
    """What is kept."""

    every_steps: int = 1000
    """Steps between two `last.ckpt`; a tenth of the run where that is less."""


@dataclass
class EvaluateSettings:
    """How detections are judged."""

    every_steps: int = 0
    """Steps between two evaluations in training; 0 = at the end only."""
    flavours: List[str] = field(default_factory=lambda: ["voc07", "voc12"])
    """voc07, voc12, coco."""
    metric: str = "AP50_voc07"
    """What `best.ckpt` is the best by."""
    nms: List[str] = field(default_factory=lambda: ["hard"])
    """hard, soft; the first is the metric's, the second is scored and written beside it at the end.
    """
    coco_backend: str = "pycocotools"
    """pycocotools, or faster-coco-eval: the same numbers sooner, from Python 3.10 on."""
    resamples: int = 300
    """For 95 % intervals at the end; 0 = none."""
    micro_batch_size: int = 1
    """Images per pass."""
    patience: int = 0
    """Evaluations without a better metric after which to stop; 0 = never."""


@dataclass
class PipelineSettings:
    """Stages of the training graph."""

    splits: List[str] = field(default_factory=list)
    """Modules that start a stage (`detectors.splits`); [] = one stage."""
    recompute: bool = False
    """Keep only what passes between stages, compute the rest again on the way back."""
    checkpoints: List[str] = field(default_factory=list)
    """Modules whose inputs stages keep, too (`detectors.checkpoints`): what lies between is
    computed again on its own. Of stages that are devices or ranks; without splits not used."""


@dataclass
class IpuSettings:
    """What only an IPU knows."""

    available_memory_proportion: float = 0.3
    """Share of tile memory that convolutions may use for temporary data, 0..1."""
    stochastic_rounding: bool = False
    """Of half precision."""
    partials: str = "float"
    """Precision of the sums inside convolutions: float or half."""
    executable_cache: str = ""
    """Folder of compiled executables; empty = no cache."""


@dataclass
class Recipe:
    """One run."""

    name: str = ""
    """Stem of the file; filled in by the loader."""
    task: Task = Task.train
    """train, check, evaluate, throughput."""
    seed: int = 0
    """Of initial weights, order, augmentation and sampling."""
    device: Device = Device.auto
    """auto, cpu, cuda, ipu."""
    precision: Precision = Precision.fp32
    """fp32 or mixed."""
    micro_batch_size: int = 1
    """Images per pass through the network."""
    gradient_accumulation: int = 16
    """Passes per update of the weights."""
    replication_factor: int = 1
    """Copies of the model."""
    device_iterations: int = 1
    """Updates per call of the executor."""
    resume: Optional[str] = None
    """auto = the newest unfinished run of this recipe; or a run folder or checkpoint."""
    resume_changes: str = "refuse"
    """allow = a resumed run may differ in keys that are safe to change."""
    weights: Optional[str] = None
    """For task=evaluate: a checkpoint or a run folder. On the command line of a training it is
    short for `model.weights`, as `head` is for `model.head`.
    """
    detections: Optional[str] = None
    """For task=evaluate: a COCO results file to score without a model."""
    against: Optional[str] = None
    """For task=evaluate: another results file, compared with these on the same pictures."""
    run: RunSettings = field(default_factory=RunSettings)
    """Where results go."""
    data: DataSettings = field(default_factory=DataSettings)
    """Pictures and boxes."""
    image: ImageSettings = field(default_factory=ImageSettings)
    """The network's input."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """What training changes about a picture."""
    model: ModelSettings = field(default_factory=ModelSettings)
    """The detector."""
    optim: OptimSettings = field(default_factory=OptimSettings)
    """Optimizer and learning rate."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    """How long."""
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    """What is kept."""
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    """How detections are judged."""
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    """Stages."""
    ipu: IpuSettings = field(default_factory=IpuSettings)
    """What only an IPU knows."""

    @property
    def images_per_step(self) -> int:
        """Pictures per update of the weights."""
        return self.micro_batch_size * self.gradient_accumulation * self.replication_factor


def load_recipe(path_or_name: Union[str, Path], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe, changed by words, checked.

    Args:
        path_or_name: `voc0712_mixed` (a stem in `recipes/`), a YAML file, or a run folder for its
            `config.yaml`.
        overrides: `key=value`, such as `optim.lr=0.01`; a word for a section is the value of its
            first field (`augment=albumentations`). `weights=` and `head=` of a training are short
            for `model.weights=` and `model.head=`.

    Raises:
        ValueError: no such recipe or key, or a value of another type or out of range.
        FileNotFoundError: no such file.
    """
    path = recipe_file(path_or_name)
    recipe = fill_schema(
        Recipe, path, long_words(overrides), name=path.stem, limits=LIMITS, nicknames=NICKNAMES
    )
    start_from(recipe, overrides)
    recipe.name = recipe.name or path.stem
    check_recipe(recipe)
    return recipe


def recipe_yaml(recipe: Recipe) -> str:
    """Every key; `load_recipe` makes an equal recipe of it."""
    return yaml_text(recipe)
