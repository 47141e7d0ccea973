"""`PoplarExecutor`: a model compiled once, then called like the model.

A call's inputs hold DI * R micro-batches along their first dimension (DI device iterations, R
replicas); parameters and buffers have copies on the device from compile on, which host writes
reach by `copyWeightsToDevice` only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set, Tuple, Union

import torch
from torch import nn

from .. import settings
from .._logging import logger
from ..blocks.printing import module_repr
from ..capture import capture
from ..checks import (
    check_inference_options,
    check_model,
    check_online,
    check_options_type,
    check_output_mode,
    micro_batch_size,
)
from ..engine import memory
from ..engine.engine import Engine, Layout
from ..engine.grouped_engine import GroupedEngine
from ..engine.replica_grouping import Groupings, first_groups
from ..engine.timing import Ticks
from ..enums import ConnectionType, OutputMode
from ..errors import createPoptorchError
from ..executable import executable_cache
from ..executable.executable import Executable
from ..options import Options
from ..options.effects import announce
from ..ranks import ranks
from ..tensors import microbatch
from ..tensors.arguments import (
    Arguments,
    bind_arguments,
    compare_arguments,
    in_compiled_order,
    prepare_arguments,
)
from ..tensors.clones import Cloner, shallow_copy
from ..tensors.microbatch import Plan
from ..tensors.structure import flatten, map_tensors
from . import calls, user_model
from .anchored import Anchored
from .attachment import Attachment
from .compile_hooks import run_post_compile_hooks, run_pre_compile_hooks
from .compiled import AnyEngine
from .figures import Figures
from .files import Files
from .parameter_views import view_of

if TYPE_CHECKING:  # it needs torch.distributed.pipelining
    from ..engine.training_engine import Update
    from ..ranks.pipeline_engine import PipelineEngine


class PoplarExecutor(Anchored, Attachment, Files, Figures):
    """A model compiled for the device, here the host. Made by `inferenceModel`."""

    _training = False

    def __init__(self, model: Union[nn.Module, PoplarExecutor], options: Optional[Options]) -> None:
        """Wrap; compiling waits for the first call.

        Raises:
            poptorch.Error: no module that can be captured, no `poptorch.Options`, or those of a
                training model.
        """
        if isinstance(model, PoplarExecutor):
            model = model._user_model
        check_model(model)
        options = Options() if options is None else options
        check_options_type(options)
        self._options = self._own_options(options)
        options._freeze()
        self._options._freeze()
        self._user_model: nn.Module = model
        self._model: nn.Module = shallow_copy(model)
        self._executable: Optional[Executable] = None
        self._engine: Optional[AnyEngine] = None
        self._tree: Optional[nn.Module] = None
        self._attached = False
        self._groupings: Groupings = {}
        self._plan: Plan = microbatch.make_plan(self._options, training=self._training)
        self._ticks: Optional[Ticks] = None
        self._compile_seconds: Optional[float] = None
        self._warned: Set[str] = set()
        self._rng = [self._first_seed(), 0]
        self._tensors: List[torch.Tensor] = []  # the host's, of the model that is compiled
        self._anchored_values: Dict[str, torch.Tensor] = {}
        self._versions: Dict[user_model.Wrapping, int] = {}  # of the weights on the device

    def _own_options(self, options: Options) -> Options:
        """The executor's copy of valid options, with an output mode."""
        check_inference_options(options)
        own = options.clone()
        if own.defaultOutputMode():
            own.outputMode(OutputMode.All)
        elif own.output_mode != OutputMode.All:
            logger.warning(
                "The output mode of an inferenceModel is %s, not All: calls return fewer results"
                " than they are given inputs.",
                own.output_mode,
            )
        return own

    # ---- compiling and calling -------------------------------------------------------------------

    @property
    def model(self) -> nn.Module:
        """The user's module."""
        return self._user_model

    @property
    def options(self) -> Options:
        """The executor's own frozen options."""
        return self._options

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Capture the model for inputs like these, without running it.

        Raises:
            poptorch.Error: forward does what the IPU would refuse.
            AssertionError: a batch is no multiple of the micro-batches of a call.
        """
        if self.isCompiled():
            logger.warning("The model is already compiled: compile() does nothing")
            return
        self._compile(self._prepare(args, kwargs))
        if self._options.connection_type == ConnectionType.Always:
            self.attachToDevice()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model on a batch; the first call compiles it.

        Returns:
            what `forward` returns, its tensors merged over micro-batches by the output mode, on the
            CPU. int64 comes back as int32, float64 as float32.
        """
        check_online(self._options)
        given = bind_arguments(self._model.forward, args, kwargs)
        arguments = prepare_arguments(given, self._warned)
        if self._executable is None:
            self._compile(arguments)
        else:
            compiled = self._executable.arguments
            compare_arguments(compiled, arguments)
            given = in_compiled_order(compiled, given)
            arguments = in_compiled_order(compiled, arguments)
        if not self._attached:
            self.attachToDevice()
        self._follow_training()
        return self._run(given, arguments)

    def destroy(self) -> None:
        """Drop the executable; the next call compiles again."""
        self._executable = self._engine = self._tree = self._ticks = self._anchors = None
        self._attached = False

    def _prepare(self, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Arguments:
        return prepare_arguments(bind_arguments(self._model.forward, args, kwargs), self._warned)

    @torch.inference_mode(False)
    def _compile(self, arguments: Arguments) -> None:
        run_pre_compile_hooks()
        announce(self._options)
        check_output_mode(self._options, training=self._training)
        start = time.perf_counter()
        sizes = [
            micro_batch_size(tensor.shape, self._options, training=self._training)
            for tensor in _all(arguments)
        ]
        micro_batch = _map(arguments, _first_blocks(sizes))
        with user_model.plain_tensors(self._model), first_groups(self._model, self._groupings):
            pristine = self._snapshot()
            shapes = _map(arguments, _shape_only)
            executable = self._find(pristine, shapes, micro_batch, sizes)
            self._take(executable, pristine, micro_batch)
        self._tensors = [*self._model.parameters(), *self._model.buffers()]
        self._compile_seconds = time.perf_counter() - start
        run_post_compile_hooks()

    def _find(
        self,
        pristine: nn.Module,
        arguments: Arguments,
        micro_batch: Arguments,
        sizes: List[Optional[int]],
    ) -> Executable:
        """An executable from the cache, or captured."""

        def captured() -> Executable:
            program = capture.capture(
                self._model,
                micro_batch,
                self._options,
                report_only=settings.current().operators == "report",
                training=self._training,
            )
            executable = Executable(program, arguments, sizes, dict(self._groupings))
            self._layout(executable, pristine, micro_batch)
            return executable

        folder = executable_cache.folder_of(self._options)
        if folder is None:
            return captured()

        def key() -> str:
            mine = self._options
            return executable_cache.key_of(self._model, arguments, mine, training=self._training)

        return executable_cache.ExecutableCache(folder).get(self._model, key, captured)

    def _snapshot(self) -> nn.Module:
        """The module tree as it is now, around the same tensors."""
        tree: nn.Module = Cloner(lambda tensor: tensor, isolate=True).clone(self._model)
        return tree

    def _take(self, executable: Executable, tree: nn.Module, micro_batch: Arguments) -> None:
        """Make an engine for an executable; without one there is no executable either."""
        now = settings.current()
        folder = executable_cache.folder_of(self._options)
        if now.engine == "compile" and folder is not None:
            executable_cache.direct_inductor(folder)
        if torch.device(now.device).type == "cpu" and now.keep_memory:
            memory.keep_big_blocks()
        layout = self._layout(executable, tree, micro_batch)
        engine = self._make_engine(executable, tree, layout)
        self._anchor(engine, executable)
        self._engine = engine
        self._executable, self._tree = executable, tree

    def _layout(self, executable: Executable, tree: nn.Module, micro_batch: Arguments) -> Layout:
        """Where tensors are kept; a question of the executable is asked once."""
        now = settings.current()
        on_ranks = ranks.wanted(self._options, now)
        device = ranks.device(now) if on_ranks else torch.device(now.device)
        if device.type != "cpu" or all(p.dim() != 4 for p in tree.parameters()):
            return Layout(device, False)
        if executable.channels_last is None:
            executable.channels_last = self._channels_last(executable, tree, micro_batch)
        # Ranks cannot change their minds one by one, as one process does at the first `view`.
        plain = on_ranks and executable.program.depends_on_layout
        return Layout(device, executable.channels_last and not plain)

    def _channels_last(
        self, executable: Executable, tree: nn.Module, micro_batch: Arguments
    ) -> bool:
        """Whether the model can be kept channels-last."""
        if not executable.program.depends_on_layout:
            return True
        return capture.runs_channels_last(tree, micro_batch, self._options)

    def _make_engine(self, executable: Executable, tree: nn.Module, layout: Layout) -> AnyEngine:
        if ranks.wanted(self._options, settings.current()):
            return self._make_stage(executable, tree, layout, None)
        program, arguments = executable.program, executable.arguments
        others = (arguments, self._plan.replicas, layout, settings.current())
        if self._groupings:
            return GroupedEngine(self._groupings, tree, program, *others)
        return Engine(tree, program, *others)

    @torch.inference_mode(False)
    def _adopt(self, executable: Executable, rng_state: Optional[List[int]]) -> None:
        if rng_state is not None:
            self._rng = list(rng_state)
        arguments = _map(executable.arguments, _first_blocks(executable.sizes))
        self._groupings = dict(executable.groupings)
        with user_model.plain_tensors(self._model), first_groups(self._model, self._groupings):
            self._take(executable, self._snapshot(), arguments)
        self._tensors = [*self._model.parameters(), *self._model.buffers()]
        if self._options.connection_type == ConnectionType.Always and not self._attached:
            self.attachToDevice()

    def _make_stage(
        self, executable: Executable, tree: nn.Module, layout: Layout, update: Optional[Update]
    ) -> PipelineEngine:
        """The engine of this rank's stage."""
        ranks.check_pipelining()
        from ..ranks.pipeline_engine import make_stage

        micro_batch = _map(executable.arguments, _first_blocks(executable.sizes))
        micro_batch = _map(micro_batch, lambda t: layout.place(torch.empty_like(t, device="cpu")))
        options, now = self._options, settings.current()
        return make_stage(
            tree, executable, micro_batch, self._plan, layout, options, now, self._rng, update
        )

    # ---- running ---------------------------------------------------------------------------------

    def _run(self, given: Arguments, arguments: Arguments) -> Any:
        assert self._executable is not None
        tensors = _all(arguments)
        ticks = Ticks(len(tensors), len(flatten(self._executable.program.outputs)))
        if self._options.enable_synthetic_data:
            blocks = calls.zero_blocks(self._executable, self._plan)
        else:
            try:
                blocks = self._run_blocks(tensors, _all(given), ticks)
            except RuntimeError as error:
                if not self._needs_plain_layout(error):
                    raise
                self._build_plain()
                ticks = Ticks(ticks.inputs, ticks.outputs)
                blocks = self._run_blocks(tensors, _all(given), ticks)
        self._ticks = ticks
        if self._anchors is not None:
            synthetic = self._options.enable_synthetic_data
            self._anchored_values = self._anchors.zeros() if synthetic else self._anchors.merged()
        return calls.merge_blocks(self._executable, blocks, self._plan)

    def _run_blocks(
        self, tensors: List[torch.Tensor], given: List[torch.Tensor], ticks: Ticks
    ) -> List[calls.Block]:
        assert self._executable is not None and self._engine is not None
        if not isinstance(self._engine, Engine):
            return self._engine.run_blocks(tensors, self._next_seed, ticks)
        if self._anchors is not None:
            self._anchors.start()
        with capture.no_validation():
            return calls.run_blocks(
                self._executable, self._engine, self._plan, tensors, given, self._next_seed, ticks
            )

    def _needs_plain_layout(self, error: RuntimeError) -> bool:
        """Whether a `view` failed on a channels-last tensor although fake tensors passed it."""
        assert self._executable is not None and self._engine is not None
        if not isinstance(self._engine, Engine):
            return False
        program = self._executable.program
        writes = program.written_buffers or program.written_inputs
        return self._engine.layout.channels_last and "view" in str(error) and not writes

    @torch.inference_mode(False)
    def _build_plain(self) -> None:
        assert self._engine is not None and self._executable is not None and self._tree is not None
        logger.info("channels-last does not suit this model: going on with the plain memory format")
        before = self._engine
        layout = before.layout._replace(channels_last=False)
        self._engine = self._make_engine(self._executable, self._tree, layout)
        self._anchor(self._engine, self._executable)
        kept = {name: torch.empty_like(tensor) for name, tensor in self._weights().items()}
        before.download(kept)
        self._engine.upload(kept)

    # ---- other names -------------------------------------------------------------------------

    def setOptimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Replace the optimizer of a training executor.

        Raises:
            poptorch.Error: this is an inference executor.
        """
        raise createPoptorchError(
            "setOptimizer: this executor comes from poptorch.inferenceModel, which has no"
            " optimizer; call it on that of poptorch.trainingModel"
        )

    def __getattr__(self, name: str) -> Any:
        """Anything else is the user model's."""
        if name.startswith("__") or "_user_model" not in self.__dict__:
            raise AttributeError(name)
        value = getattr(self._user_model, name)
        if self._training:
            return value
        return view_of(value, self._group, self._options.replication_factor > 1)

    def __repr__(self) -> str:
        return module_repr(self._user_model)


def _all(arguments: Arguments) -> List[torch.Tensor]:
    """Tensors in the order in which `_map` goes through them."""
    return flatten([arguments.args, list(arguments.kwargs.values())])


def _map(arguments: Arguments, function: Callable[[torch.Tensor], torch.Tensor]) -> Arguments:
    return arguments._replace(
        args=tuple(map_tensors(value, function) for value in arguments.args),
        kwargs={name: map_tensors(v, function) for name, v in arguments.kwargs.items()},
    )


def _first_blocks(sizes: List[Optional[int]]) -> Callable[[torch.Tensor], torch.Tensor]:
    remaining = iter(sizes)
    return lambda tensor: microbatch.input_block(tensor, 0, next(remaining))


def _shape_only(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
