"""EfficientDet for inference: pixels in, detections out.

B images of H x W pixels, K candidates, D detections. Boxes are xyxy pixels of the network input.
"""

from __future__ import annotations

from dataclasses import replace
from typing import List, Tuple, Union

from torch import Tensor, nn

from detectors.layers import Normalise, require_size
from detectors.models.efficientdet.anchors import build_anchors
from detectors.models.efficientdet.config import AnchorAspects, EfficientDetConfig
from detectors.models.efficientdet.network import EfficientDetNetwork, build_network
from detectors.models.efficientdet.training import EfficientDetTraining
from detectors.postprocess import Candidates, Detections, Postprocess, PostprocessConfig

__all__ = ["EfficientDet", "build_efficientdet"]


class EfficientDet(nn.Module):
    """Normalise, network, postprocess.

    Args:
        config: what was built.
        network: its trainable part.
        postprocess: settings of top-k and NMS.
        nms: "device": NMS is part of `forward`; "none": `forward` ends with the candidates, and
            `postprocess.select` does the rest wherever it is called.
    """

    half_parts = ("backbone", "bifpn")
    """Of the network: half in mixed precision on the IPU."""

    def __init__(
        self,
        config: EfficientDetConfig,
        network: EfficientDetNetwork,
        postprocess: PostprocessConfig,
        nms: str = "device",
    ) -> None:
        super().__init__()
        if nms not in ("device", "none"):
            raise ValueError(f"nms must be 'device' or 'none', got '{nms}'")
        self.network = network
        self.nms = nms
        self._bind(config, postprocess)

    def _bind(self, config: EfficientDetConfig, postprocess: PostprocessConfig) -> None:
        self.config = config
        self.normalise = Normalise(config.mean, config.std)
        self.postprocess = Postprocess(build_anchors(config), config.image_size, postprocess)

    def configure(
        self,
        *,
        image_size: Union[int, Tuple[int, int], None] = None,
        mean: Union[Tuple[float, float, float], None] = None,
        std: Union[Tuple[float, float, float], None] = None,
        anchor_aspects: Union[AnchorAspects, None] = None,
        postprocess: Union[PostprocessConfig, None] = None,
    ) -> EfficientDet:
        """Change what surrounds the network, in place; its parameters stay.

        Args:
            image_size: pixels, one number or (height, width).
            mean: of RGB values 0..255.
            std: of RGB values 0..255.
            anchor_aspects: "exact" or "rounded", or (width, height) factors, as many as before.
            postprocess: settings of top-k and NMS.

        Returns:
            The model.

        Raises:
            ValueError: a setting is out of range.
        """
        given = {
            "image_size": (image_size, image_size) if isinstance(image_size, int) else image_size,
            "mean": mean,
            "std": std,
            "anchor_aspects": anchor_aspects,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        config = replace(self.config, **changes)  # type: ignore[arg-type]
        if config.num_anchors != self.config.num_anchors:
            raise ValueError(
                f"anchor_aspects {config.anchor_aspects} make {config.num_anchors} anchors a cell,"
                f" the heads have outputs for {self.config.num_anchors}: build another model"
            )
        parameter = next(self.network.parameters())
        self._bind(config, postprocess or self.postprocess.config)
        self.normalise.to(parameter.device, parameter.dtype)
        self.postprocess.to(parameter.device)
        return self

    def predict(self, images: Tensor) -> Tuple[List[Tensor], List[Tensor]]:
        """The network's outputs for images of 0..255; shapes as `EfficientDetNetwork.forward`."""
        require_size(images, self.config.image_size, self.config.name)
        out: Tuple[List[Tensor], List[Tensor]] = self.network(self.normalise(images))
        return out

    def candidates(self, images: Tensor) -> Candidates:
        """What enters NMS: (B, K, 4) boxes, (B, K) scores and labels."""
        return self.postprocess.candidates(*self.predict(images))

    def forward(self, images: Tensor) -> Union[Detections, Candidates]:
        """Detect.

        Args:
            images: (B, 3, H, W) uint8 or float, RGB values 0..255; H, W as `config.image_size`.

        Returns:
            Detections: float32 boxes (B, D, 4) and scores (B, D), int32 labels (B, D) and count
            (B,); with nms="none" the candidates.

        Raises:
            ValueError: the images have another size.
        """
        if self.nms == "none":
            return self.candidates(images)
        out: Detections = self.postprocess(*self.predict(images))
        return out

    def for_training(self) -> EfficientDetTraining:
        """A training module, in training mode, on the same parameters.

        The network has one mode: call `.eval()` on this module again before it is used.

        Raises:
            ValueError: the model is folded.
        """
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules()):
            raise ValueError(f"{self.config.name} is folded: it detects, and cannot be trained")
        training = EfficientDetTraining(self.config, self.network, self.postprocess.anchors())
        parameter = next(self.network.parameters())
        training.normalise.to(parameter.device, parameter.dtype)
        training.anchors.to(parameter.device)
        return training.train()


def build_efficientdet(
    config: EfficientDetConfig, postprocess: PostprocessConfig, nms: str = "device"
) -> EfficientDet:
    """A detector in evaluation mode with random weights."""
    return EfficientDet(config, build_network(config), postprocess, nms).eval()
