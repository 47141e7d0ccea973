"""What an executor says of the tensors of its graph: their names, and those that are anchored."""

from __future__ import annotations

from typing import Dict, List, Optional

from torch import Tensor, nn

from .. import settings
from ..engine.anchors import Anchors, shapes_of
from ..engine.engine import Engine
from ..errors import createPoptorchError
from ..executable.executable import Executable
from ..options import Options
from ..tensors.microbatch import Plan
from .compiled import AnyEngine


class Anchored:
    """Members of an executor."""

    _training: bool
    _options: Options
    _plan: Plan
    _model: nn.Module
    _executable: Optional[Executable]
    _anchors: Optional[Anchors] = None
    _anchored_values: Dict[str, Tensor]

    def getTensorNames(self) -> List[str]:
        """Names of the graph's tensors that `Options.anchorTensor` takes.

        Weights as in `named_parameters`, what `forward` computes (`fc2/MatMul:0`: modules, operator
        in PopART's words, number of the result), and in training `Gradient___` and `UpdatedVar___`
        of trained weights and `finalLossScale`. Names of operators are a best effort: PopTorch may
        make others of a torch function.

        Raises:
            AssertionError: the model is not compiled.
        """
        assert self._executable is not None, "Model must be compiled before calling getTensorNames"
        return list(shapes_of(self._executable.program, self._named(), self._trained()))

    def getAnchoredTensor(self, short_name: str) -> Tensor:
        """The value of a tensor anchored with `Options.anchorTensor`, of the latest call.

        Raises:
            AssertionError: no tensor was anchored by this name, or there was no call.
        """
        assert short_name in self._anchored_values, (
            f"No tensor with name {short_name} found. Anchored are"
            f" {list(self._options.anchored_tensors)}, which have values after a call"
        )
        return self._anchored_values[short_name]

    def _anchor(self, engine: AnyEngine, executable: Executable) -> None:
        """Let an engine keep what the options anchor."""
        if not self._options.anchored_tensors:
            return
        if not isinstance(engine, Engine):
            raise createPoptorchError(
                "anchorTensor: a model whose stages run on ranks has no anchored tensors; run it in"
                " one process, or return the tensor from forward"
            )
        if settings.current().engine != "eager":
            raise createPoptorchError(
                "anchorTensor needs host.configure(engine='eager'), it is"
                f" {settings.current().engine!r}"
            )
        self._anchors = Anchors(
            self._options, executable.program, self._plan, self._named(), self._trained()
        )
        engine.keep(self._anchors)

    def _named(self) -> Dict[str, Tensor]:
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}

    def _trained(self) -> Dict[str, Tensor]:
        if not self._training:
            return {}
        return {name: w for name, w in self._model.named_parameters() if w.requires_grad}
