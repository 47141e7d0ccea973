"""Capture refuses on a laptop what the IPU refuses, and names the user's file and line.

Section numbers are those of the PopTorch behaviour that is followed (2.4 inputs, 2.9 numerics, 3
operators).
"""

from __future__ import annotations

import logging
import warnings
from functools import partial
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

import poptorch_host as poptorch
from poptorch_host import host

Function = Callable[[Tensor], object]
Wrap = Callable[..., poptorch.PoplarExecutor]

CONSTANT = torch.arange(4.0)
INDICES = torch.tensor([0, 2])


def line_of(function: Function) -> str:
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def refused(wrap: Wrap, function: Function, text: str) -> None:
    """Compiling `function` for a (2, 4, 6, 6) input fails with `text` and the function's line."""
    executor = wrap(function)
    with pytest.raises(poptorch.Error, match=text) as caught:
        executor.compile(torch.rand(2, 4, 6, 6))
    assert line_of(function) in str(caught.value), caught.value
    assert not executor.isCompiled()


# ---- data-dependent shapes (3.2) ---------------------------------------------------------------

DYNAMIC: List[Function] = [
    lambda x: x.nonzero(),
    lambda x: x[x > 0.5],
    lambda x: x.masked_select(x > 0.5),
    lambda x: torch.unique(x),
    lambda x: torch.where(x > 0.5),
    lambda x: torch.argwhere(x),
    lambda x: torch.unique_consecutive(x),
]


@pytest.mark.parametrize("function", DYNAMIC)
def test_data_dependent_shapes_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "the output shape is determined by the tensor values")


# ---- reads on the host (2.4) -------------------------------------------------------------------

READS: List[Function] = [
    lambda x: x.sum().item(),
    lambda x: int(x.sum()),
    lambda x: float(x.sum()),
    lambda x: x if x.sum() > 0 else -x,
    lambda x: x.tolist(),
    lambda x: x.numpy(),
    lambda x: x[: x.sum().long()],
    lambda x: [1, 2, 3][x.sum().long()],
    lambda x: x if torch.equal(x, x) else -x,
    lambda x: x if torch.allclose(x, x) else -x,
    lambda x: x * torch.tensor([2.0]).item(),
    lambda x: x * torch.tensor([2.0, 3.0]).tolist()[0],
    lambda x: x * float(torch.tensor(2.0)),
    lambda x: x * CONSTANT[1].item(),
    lambda x: x * CONSTANT.tolist()[1],
    lambda x: torch.arange(x.sum()),  # type: ignore[call-overload]
    lambda x: x.sum() in x,
    lambda x: f"{x.sum():.3f}",
]


@pytest.mark.parametrize("function", READS)
def test_reads_of_values_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "is only supported in eager mode|Expected an IPU tensor")


@pytest.mark.parametrize(
    "function", [lambda x: [1, 2][x.sum().long()], lambda x: f"{x.sum():.1f}", lambda x: -int(x[0])]
)
def test_a_read_of_one_value_is_called_item(wrap: Wrap, function: Function) -> None:
    with pytest.raises(poptorch.Error, match="aten::item is only supported in eager mode"):
        wrap(function).compile(torch.rand(1))


def test_printed_tensors_have_no_values_while_captured(
    wrap: Wrap, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1.1, 2.4
    def show(x: Tensor) -> Tensor:
        print(x)
        print(f"{x} {x!r}")
        poptorch.print(x)
        return x

    wrap(show).compile(torch.rand(4, 3))
    shown = capsys.readouterr().out
    assert shown.count("<unavailable>") == 4
    assert shown.count("size=(4, 3)") == 4


def test_reading_a_buffer_is_refused() -> None:
    class Scaled(nn.Module):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.item()

    with pytest.raises(poptorch.Error, match="aten::item is only supported in eager mode"):
        poptorch.inferenceModel(Scaled()).compile(torch.rand(2))


# ---- devices (2.4) -----------------------------------------------------------------------------

MOVES: List[Function] = [
    lambda x: x.cpu(),
    lambda x: x.to("cpu"),
    lambda x: x.to(torch.device("cpu")),
    lambda x: x.to(device="cpu"),
    lambda x: x.cuda(),
]


@pytest.mark.parametrize("function", MOVES)
def test_moves_to_another_device_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "Illegal move to ")


def test_a_move_to_a_tensors_own_device_is_no_move(wrap: Wrap) -> None:
    executor = wrap(lambda x: (x + 1).to(x.device) * torch.ones(4, device=x.device))
    torch.testing.assert_close(executor(torch.zeros(2, 4)), torch.ones(2, 4))


IPU: List[Function] = [
    lambda x: x + torch.ones(4, device="ipu"),
    lambda x: x + torch.tensor([1.0], device=torch.device("ipu:0")),
    lambda x: x.to("ipu") + 1,
    lambda x: x.to("ipu", non_blocking=True) + 1,
    lambda x: x.to("ipu", torch.float16).float() + 1,
    lambda x: x.to(device="ipu", dtype=torch.float16).float() + 1,
    lambda x: x + torch.ones_like(x, device="ipu"),
    lambda x: x.ipu() + torch.arange(1, 2).ipu(),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("function", IPU)
def test_the_device_may_be_named(wrap: Wrap, function: Function) -> None:
    # 2.4: what runs on the device is on "ipu" already.
    torch.testing.assert_close(wrap(function)(torch.zeros(2, 4)), torch.ones(2, 4))


def test_the_device_may_be_named_in_training() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            scale = torch.tensor([2.0], device="ipu")
            return poptorch.identity_loss(x.to("ipu") * self.weight * scale, "sum")

    model = Model()
    optimizer = poptorch.optim.SGD(model.parameters(), lr=0.25)
    assert poptorch.trainingModel(model, optimizer=optimizer)(torch.ones(1)).item() == 2.0
    assert model.weight.item() == 0.5


def test_a_detached_tensor_hands_out_the_same_device(wrap: Wrap) -> None:
    # Once refused: newer torch shows `detach` to the dispatcher, and its result went unnoticed.
    executor = wrap(lambda x: x + torch.ones(4, device=x.detach().float().device))
    torch.testing.assert_close(executor(torch.zeros(2, 4)), torch.ones(2, 4))


CPU_TENSORS: List[Function] = [
    lambda x: x + CONSTANT[0],
    lambda x: x[:, INDICES],
    lambda x: x + torch.zeros(6, device="cpu"),
    lambda x: x + torch.from_numpy(np.ones(6, dtype=np.float32)),
    lambda x: x + torch.Tensor([1.0]),
]


@pytest.mark.parametrize("function", CPU_TENSORS)
def test_tensors_of_the_host_do_not_mix(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, "Expected an IPU tensor but got tensor\\(device=cpu")


def test_factories_without_device_are_redirected_with_one_warning(
    wrap: Wrap, caplog: pytest.LogCaptureFixture
) -> None:
    executor = wrap(lambda x: x + torch.ones(3) + torch.arange(3) + torch.tensor([1.0, 2.0, 3.0]))
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result = executor(torch.zeros(2, 3))
    torch.testing.assert_close(result, torch.tensor([[2.0, 4.0, 6.0]] * 2))
    assert len([r for r in caplog.records if "without a device" in r.getMessage()]) == 1


# ---- operators (3) -----------------------------------------------------------------------------

UNLISTED: List[Function] = [
    lambda x: x.tril(),
    lambda x: F.grid_sample(x, x[..., :2], align_corners=False),
    lambda x: torch.nan_to_num(x),
    lambda x: F.huber_loss(x, x),
    lambda x: F.adaptive_max_pool2d(x, 3),
    lambda x: torch.repeat_interleave(x, 2, 0),
    lambda x: torch.multinomial(x[0, 0], 1),
    lambda x: torch.searchsorted(x, x),
]


@pytest.mark.parametrize("function", UNLISTED)
def test_operators_outside_the_list_are_refused(wrap: Wrap, function: Function) -> None:
    refused(wrap, function, r"Unsupported ops found in compiled model: \[aten::\w+\]")


def test_all_unlisted_operators_are_named_in_one_error(wrap: Wrap) -> None:
    executor = wrap(lambda x: torch.erfinv(x).tril())
    with pytest.raises(poptorch.Error, match=r"\[aten::erfinv, aten::tril\]\. Not all operations"):
        executor.compile(torch.rand(2, 2))


def test_reported_operators_do_not_stop_the_model(
    wrap: Wrap, configure: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    configure(operators="report")
    executor = wrap(lambda x: x.tril())
    with caplog.at_level(logging.WARNING, logger="poptorch::python"):
        result = executor(torch.ones(2, 2))
    torch.testing.assert_close(result, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    assert "Unsupported ops found in compiled model: [aten::tril]" in caplog.text
    (use,) = host.report(executor).unsupported
    assert use.name == "aten::tril"
    assert use.location.startswith(__file__)


LIMITED = [
    (lambda x: x.flatten().topk(3, sorted=False), "topk with sorted=False"),
    (lambda x: F.max_pool2d(x, 2, return_indices=True), "indices output"),
    (lambda x: F.max_pool2d(x, 2, return_indices=True)[1] + 1, "indices output"),
    (lambda x: F.adaptive_avg_pool2d(x, 4), "divisible by the output size"),
    (lambda x: F.interpolate(x, size=(9, 9), mode="bilinear"), "non-integer factor"),
    (lambda x: F.interpolate(x, size=(12, 18), mode="bilinear"), "Non-uniform"),
    (lambda x: F.interpolate(x, (12, 12), None, "bicubic", True), "align_corners=False"),
    (lambda x: F.one_hot(x.long()), "one_hot needs num_classes"),
    (lambda x: F.embedding(x.long(), x[0, 0], padding_idx=1), "padding_idx=1"),
    (lambda x: F.conv_transpose2d(x, x.transpose(0, 1), dilation=2), "dilation"),
    (lambda x: x.triu(), "triu is supported on constants only"),
    (lambda x: x.to(torch.uint8) & x.to(torch.uint8), "8-bit integers"),
    (lambda x: x.long() + torch.full((6,), 2**40), "does not fit into int32"),
    (lambda x: x.long() + torch.tensor([2**40]), "does not fit into int32"),
    (lambda x: x.clone()[:, ::2].add_(1), "step other than 1"),
    (lambda x: torch.bincount(x.flatten().long()), "bincount needs minlength"),
    (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), "is_causal"),
    (lambda x: F.cross_entropy(x, x[:, 0].long(), weight=x[0, :, 0, 0]), "class weights"),
    (lambda x: torch.linalg.matrix_norm(x, 2), "ord=2"),
]


@pytest.mark.parametrize(("function", "text"), LIMITED)
def test_forms_that_poptorch_does_not_take_are_refused(
    wrap: Wrap, function: Function, text: str
) -> None:
    refused(wrap, function, text)


ACCEPTED: List[Function] = [
    lambda x: x.flatten(1).topk(3).values,
    lambda x: F.max_pool2d(x, 2),
    lambda x: F.adaptive_avg_pool2d(x, 3),
    lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
    lambda x: F.interpolate(x, scale_factor=2.0),
    lambda x: F.one_hot(x.round().long(), 2),
    lambda x: F.layer_norm(x, [6]).softmax(-1).relu(),
    lambda x: torch.cat([x, x], 1).chunk(2, 1)[0].permute(0, 2, 3, 1).reshape(2, -1),
    lambda x: x.gather(1, (x > 0.5).long()),
    lambda x: torch.where(x > 0.5, x, 0.0),
    lambda x: x.cumsum(1).sort(1)[0].argmax(1),
    lambda x: F.cross_entropy(x, x[:, 0].long(), label_smoothing=0.1),
    lambda x: F.scaled_dot_product_attention(x, x, x),
    lambda x: x[:, torch.tensor([0, 2])],
    lambda x: torch.bincount(x.flatten().round().long(), minlength=2),
    lambda x: F.dropout(x, 0.5, training=False).std(),
    lambda x: x.shape[0] * len(x) * x.sum(),
    lambda x: torch.vdot(x.flatten(), x.flatten()),  # spectral_norm of new torch
]


@pytest.mark.parametrize("function", ACCEPTED)
def test_listed_operators_run_as_in_torch(wrap: Wrap, function: Function) -> None:
    x = torch.rand(2, 4, 6, 6)
    expected = function(x)
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(wrap(function)(x), expected, check_dtype=False)


def test_recurrent_layers_take_one_direction_and_one_layer() -> None:
    x = torch.rand(5, 2, 3)
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4)
    torch.testing.assert_close(poptorch.inferenceModel(First(lstm))(x), lstm(x)[0])
    with pytest.raises(poptorch.Error, match="num_layers=1, bidirectional=False"):
        poptorch.inferenceModel(First(nn.LSTM(3, 4, bidirectional=True))).compile(x)


class First(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)[0]
        return result


def test_an_operator_without_shape_function_is_refused(wrap: Wrap) -> None:
    library: Any = torch.library.Library("host_test_opaque", "DEF")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    with pytest.raises(poptorch.Error, match="Type inference failed for host_test_opaque::twice"):
        wrap(lambda x: torch.ops.host_test_opaque.twice(x)).compile(torch.rand(2))


def test_an_operator_that_lowers_to_a_listed_one_passes(wrap: Wrap) -> None:
    library: Any = torch.library.Library("host_test_known", "DEF")  # type: ignore[no-untyped-call]
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")
    library.impl("twice", lambda x: torch.empty_like(x), "Meta")
    executor = wrap(lambda x: torch.ops.host_test_known.twice(x))
    with pytest.raises(poptorch.Error, match=r"\[host_test_known::twice\]"):
        executor.compile(torch.rand(2))
    host.register_operator("host_test_known::twice", lowers_to="aten::mul")
    torch.testing.assert_close(executor(torch.ones(2)), torch.full((2,), 2.0))


def test_an_unregistered_custom_operator_is_refused_with_its_line(wrap: Wrap) -> None:
    refused(
        wrap,
        lambda x: poptorch.custom_op([x], "Absent", "test.capture", 1, example_outputs=[x]),
        "Unable to find op test.capture.Absent:1",
    )


# ---- assignment through masks ------------------------------------------------------------------


def assign(x: Tensor) -> Tensor:
    x = x.clone()
    x[x > 0.5] = 0.0
    return x


def test_assigning_a_scalar_through_a_mask_is_allowed(wrap: Wrap) -> None:
    x = torch.tensor([0.2, 0.7, 0.9, 0.4])
    torch.testing.assert_close(wrap(assign)(x), torch.tensor([0.2, 0.0, 0.0, 0.4]))


def test_assigning_to_every_second_element_is_refused(wrap: Wrap) -> None:
    def assign_strided(x: Tensor) -> Tensor:
        x = x.clone()
        x[::2] = x[1::2]
        return x

    with pytest.raises(poptorch.Error, match="step other than 1"):
        wrap(assign_strided).compile(torch.rand(4))


def test_adding_through_a_mask_is_refused(wrap: Wrap) -> None:
    def add(x: Tensor) -> Tensor:
        x = x.clone()
        x[x > 0.5] += 1
        return x

    with pytest.raises(poptorch.Error, match="boolean mask"):
        wrap(add).compile(torch.rand(4))


# ---- sizes, dtypes, attributes (2.4, 2.9) ------------------------------------------------------


def test_tensors_without_elements_are_refused(wrap: Wrap) -> None:
    message = r"Zero-sized tensors are unsupported \(Got shape \[0, 4\]\)"
    with pytest.raises(poptorch.Error, match=message):
        wrap(lambda x: x[:0]).compile(torch.rand(2, 4))
    with pytest.raises(poptorch.Error, match=message):
        wrap(lambda x: x).compile(torch.rand(0, 4))


def test_complex_numbers_are_refused(wrap: Wrap) -> None:
    refused(wrap, lambda x: torch.complex(x, x), "Unsupported data type torch.complex64")
    with pytest.raises(poptorch.Error, match=r"Unsupported data type torch.complex64"):
        wrap(lambda x: x).compile(torch.zeros(2, dtype=torch.complex64))


class Reassigns(nn.Module):
    buffer: Tensor

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.register_buffer("buffer", torch.zeros(1))
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "buffer":
            self.buffer = self.buffer + 1
        elif self.what == "weight":
            self.weight = nn.Parameter(self.weight + 1)
        else:
            del self.buffer
        return x + 1


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("buffer", "Buffer buffer is reassigned within the model when calling the forward method"),
        ("weight", "Parameter weight is reassigned within the model"),
        ("delete", "buffer is removed from the model when calling the forward method"),
    ],
)
def test_parameters_and_buffers_stay_what_they_are(what: str, message: str) -> None:
    model = Reassigns(what)
    with pytest.raises(poptorch.Error, match=message) as caught:
        poptorch.inferenceModel(model).compile(torch.rand(2))
    assert __file__ in str(caught.value)
    assert set(model.state_dict()) == {"buffer", "weight"}


def test_forward_runs_once_at_compile_and_sets_attributes_once() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.runs = 0
            self.seen = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            self.seen = x
            return x * self.runs

    counts = Counts()
    executor = poptorch.inferenceModel(nn.Sequential(counts))
    x = torch.ones(2)
    for _ in range(3):  # a graph captured once multiplies by the same number each time
        torch.testing.assert_close(executor(x), x)
    assert counts.runs == 1
    assert type(counts.seen) is Tensor
    assert counts.seen.tolist() == [0.0]


def test_containers_that_forward_fills_do_not_grow_with_calls(wrap: Wrap) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept: List[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.kept.append(1)
            return x + len(self.kept)

    model = Keeps()
    executor = poptorch.inferenceModel(model)
    for _ in range(3):
        torch.testing.assert_close(executor(torch.zeros(2)), torch.ones(2))
    assert model.kept == [1]


@pytest.mark.parametrize("refuse", [False, True])
def test_a_cache_that_forward_fills_gets_no_tensors_of_the_capture(refuse: bool) -> None:
    # levit and others keep tensors by device, which plain PyTorch calls read again
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(2))
            self.cache: Dict[str, Tensor] = {}

        def forward(self, x: Tensor) -> Tensor:
            if "bias" not in self.cache:
                self.cache["bias"] = self.bias * 2
            return x[x > 0] if refuse else x + self.cache["bias"]

    model = Caches()
    executor = poptorch.inferenceModel(nn.Sequential(model))
    if refuse:
        with pytest.raises(poptorch.Error, match="determined by the tensor values"):
            executor(torch.zeros(2))
    else:
        assert executor(torch.zeros(2)).tolist() == [2.0, 2.0]
    assert model.cache == {}


def test_a_container_that_forward_fills_stays_the_same_object() -> None:
    class Logs(nn.Module):
        def __init__(self, log: List[int]) -> None:
            super().__init__()
            self.log = log

        def forward(self, x: Tensor) -> Tensor:
            self.log.append(x.shape[0])
            return x

    log: List[int] = []
    poptorch.inferenceModel(nn.Sequential(Logs(log), Logs(log))).compile(torch.zeros(3))
    assert log == [3, 3]


def test_the_report_counts_operators(wrap: Wrap) -> None:
    executor = wrap(lambda x: (x + 1) * 2 + 3)
    with pytest.raises(poptorch.Error, match="not compiled"):
        host.report(executor)
    executor.compile(torch.rand(2))
    assert host.report(executor).operators == {"aten::add": 2, "aten::mul": 1}
    assert host.report(executor).unsupported == []


def test_is_running_on_ipu_inside_the_executor_only(wrap: Wrap) -> None:
    seen: List[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(poptorch.isRunningOnIpu())
        return x + 1

    wrap(look)(torch.zeros(2))
    assert seen == [True, True]  # the capture, then the run
    assert not poptorch.isRunningOnIpu()


def test_a_refused_model_leaves_no_executor_running(wrap: Wrap) -> None:
    with pytest.raises(poptorch.Error):
        wrap(lambda x: x.nonzero()).compile(torch.rand(2))
    assert not poptorch.isRunningOnIpu()
    assert type(torch.zeros(1)) is Tensor


@pytest.mark.parametrize(
    "make", [torch.jit.script, partial(torch.jit.trace, example_inputs=CONSTANT)]
)
def test_torchscript_functions_in_forward_are_captured(
    wrap: Wrap, make: Callable[..., Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in new torch
        swish = make(_swish)
    x = torch.rand(4)
    for _ in range(3):  # from the second call on it is optimised
        expected = swish(x)
    executor = wrap(lambda tensor: swish(tensor))
    torch.testing.assert_close(executor(x), expected)
    assert host.report(executor).operators == {"aten::sigmoid": 1, "aten::mul": 1}
    torch.testing.assert_close(swish(x), expected)


def _swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def test_graph_modules_are_captured() -> None:
    # torch.fx gives each of its modules a class of its own; timm's and torchvision's extractors
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    x = torch.rand(3, 2)
    torch.testing.assert_close(poptorch.inferenceModel(model)(x), model(x).detach())
    nested = nn.Sequential(model)
    torch.testing.assert_close(poptorch.inferenceModel(nested)(x), model(x).detach())


def test_attention_and_tied_weights_are_captured() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = torch.rand(2, 5, 8)
    torch.testing.assert_close(poptorch.inferenceModel(layer)(x), layer(x), rtol=1e-4, atol=1e-5)

    linear = nn.Linear(4, 4)
    tied = nn.Sequential(linear, nn.ReLU(), linear)
    x = torch.rand(2, 4)
    torch.testing.assert_close(poptorch.inferenceModel(tied)(x), tied(x))
