"""Constraints on the arguments of operators that PopTorch lists but takes only in some forms.

Each rule looks at one operator as the dispatcher shows it, or at one torch function as the user
calls it, and returns what is wrong with it or None. Source: the notes beside PopTorch 3.4's
operator list.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import torch

Arguments = Mapping[str, Any]
Rule = Callable[[Arguments], Optional[str]]

MAX_INT32 = 2**31 - 1

DATA_DEPENDENT = frozenset(
    ["aten::nonzero", "aten::nonzero_static", "aten::nonzero_numpy", "aten::masked_select"]
    + ["aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"]
    + ["aten::unique_dim_consecutive", "aten::argwhere"]
)
"""The shape of the result follows from values."""

HOST_READS = frozenset(
    ["aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::allclose"]
)
"""A value is needed on the host while the graph is being built."""

RANDOM = frozenset(
    ["aten::bernoulli", "aten::bernoulli_", "aten::native_dropout", "aten::dropout", "aten::normal"]
    + ["aten::normal_", "aten::rand", "aten::randn", "aten::randint", "aten::randperm"]
    + ["aten::rand_like", "aten::randn_like", "aten::randint_like", "aten::random_"]
    + ["aten::uniform_", "aten::exponential_", "aten::rrelu_with_noise", "aten::multinomial"]
)
"""Draw from the device's random numbers."""


def check_operator(name: str, arguments: Arguments) -> Optional[str]:
    """What PopTorch refuses about this use of a dispatched operator, None if nothing.

    Args:
        name: `aten::op`, in-place forms with their underscore.
        arguments: values by the schema's names.
    """
    rule = _OPERATORS.get(name.rstrip("_") if not name.endswith("__") else name)
    return rule(arguments) if rule is not None else None


def check_function(name: str, args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    """What PopTorch refuses about this call of a torch function, None if nothing."""
    rule = _FUNCTIONS.get(name)
    return rule(args, kwargs) if rule is not None else None


def mask_shape(indices: Sequence[Optional[torch.Tensor]]) -> Optional[torch.Size]:
    """Shape of the first boolean mask among an index's parts, None if all are integers."""
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            return index.shape
    return None


def _topk(arguments: Arguments) -> Optional[str]:
    if arguments["sorted"]:
        return None
    return "topk with sorted=False is not supported: leave sorted=True"


def _index(arguments: Arguments) -> Optional[str]:
    if mask_shape(arguments["indices"]) is None:
        return None
    return (
        "a boolean mask as index: the output shape is determined by the tensor values."
        " Use torch.where, or topk with a fixed k"
    )


def _index_put(arguments: Arguments) -> Optional[str]:
    mask = mask_shape(arguments["indices"])
    values = arguments["values"]
    if mask is None or values.numel() == 1:
        return None
    rest = arguments["self"].shape[len(mask) :]
    fits = values.dim() <= len(rest) and all(
        ours in (1, theirs) for ours, theirs in zip(values.shape[::-1], rest[::-1])
    )
    if fits and len(arguments["indices"]) == 1:
        return None
    return (
        "assignment through a boolean mask takes a value that broadcasts, got one of shape"
        f" {list(values.shape)}: its size would depend on the tensor values"
    )


def _bilinear(arguments: Arguments) -> Optional[str]:
    height, width = arguments["self"].shape[-2:]
    out_height, out_width = arguments["output_size"]
    if out_height % height or out_width % width:
        return (
            f"upsample_bilinear2d with a non-integer factor: {(height, width)} to"
            f" {(out_height, out_width)}; whole and equal factors only, or use nearest"
        )
    if out_height // height != out_width // width:
        return (
            "Non-uniform factors of upsample_bilinear2d:"
            f" {out_height // height} in height, {out_width // width} in width"
        )
    return None


def _bicubic(arguments: Arguments) -> Optional[str]:
    if not arguments["align_corners"]:
        return None
    return "upsample_bicubic2d takes align_corners=False only"


def _adaptive_average(arguments: Arguments) -> Optional[str]:
    sizes = arguments["output_size"]
    shape = arguments["self"].shape[-len(sizes) :]
    if all(have % want == 0 for have, want in zip(shape, sizes)):
        return None
    return (
        f"adaptive average pooling of {tuple(shape)} to {tuple(sizes)}:"
        " the input size must be divisible by the output size"
    )


def _embedding(arguments: Arguments) -> Optional[str]:
    if arguments["padding_idx"] != -1:
        return f"embedding with padding_idx={arguments['padding_idx']} is not supported"
    for option in ("scale_grad_by_freq", "sparse"):
        if arguments[option]:
            return f"embedding with {option}=True is not supported"
    return None


def _convolution(arguments: Arguments) -> Optional[str]:
    if arguments["transposed"] and any(size != 1 for size in arguments["dilation"]):
        return "a transposed convolution with dilation is not supported"
    return None


def _weighted_loss(arguments: Arguments) -> Optional[str]:
    if arguments["weight"] is None:
        return None
    return "nll_loss and cross_entropy with class weights are not supported"


def _byte_bits(arguments: Arguments) -> Optional[str]:
    if arguments["self"].dtype in (torch.int8, torch.uint8):
        return (
            f"bitwise operators on 8-bit integers are not supported, got {arguments['self'].dtype}"
        )
    return None


def _wide_constant(arguments: Arguments) -> Optional[str]:
    value = arguments.get("fill_value", arguments.get("value"))
    if isinstance(value, int) and not -MAX_INT32 - 1 <= value <= MAX_INT32:
        return f"the constant {value} does not fit into int32, the widest integer of the IPU"
    return None


_OPERATORS: Dict[str, Rule] = {
    "aten::topk": _topk,
    "aten::index": _index,
    "aten::_unsafe_index": _index,
    "aten::index_put": _index_put,
    "aten::_index_put_impl": _index_put,
    "aten::upsample_bilinear2d": _bilinear,
    "aten::upsample_bicubic2d": _bicubic,
    "aten::_adaptive_avg_pool2d": _adaptive_average,
    "aten::_adaptive_avg_pool3d": _adaptive_average,
    "aten::embedding": _embedding,
    "aten::convolution": _convolution,
    "aten::nll_loss_forward": _weighted_loss,
    "aten::nll_loss2d_forward": _weighted_loss,
    "aten::bitwise_and": _byte_bits,
    "aten::bitwise_or": _byte_bits,
    "aten::bitwise_xor": _byte_bits,
    "aten::full": _wide_constant,
    "aten::fill": _wide_constant,
}


def _argument(
    args: Sequence[Any], kwargs: Dict[str, Any], position: int, name: str, default: Any
) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _constant(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    values = [_argument(args, kwargs, 0, "data", None)]
    while values:
        value = values.pop()
        if isinstance(value, (list, tuple)):
            values.extend(value)
        problem = _wide_constant({"value": value})
        if problem is not None:
            return problem
    return None


def _one_hot(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    if _argument(args, kwargs, 1, "num_classes", -1) >= 0:
        return None
    return (
        "one_hot needs num_classes: without it the output shape is determined by the tensor values"
    )


def _bincount(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    if _argument(args, kwargs, 2, "minlength", 0) > 0:
        return None
    return "bincount needs minlength, which is the length of the result as well"


def _attention(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    if not _argument(args, kwargs, 5, "is_causal", False):
        return None
    return "scaled_dot_product_attention with is_causal=True is not supported: pass a mask buffer"


def _recurrent(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    if len(args) != 9:  # packed sequences; torch.nn passes all nine by position
        return "recurrent layers take padded tensors of one length, not packed sequences"
    has_biases, num_layers, dropout, bidirectional = args[3], args[4], args[5], args[7]
    if num_layers == 1 and not dropout and not bidirectional and has_biases:
        return None
    return (
        "recurrent layers take num_layers=1, bidirectional=False, dropout=0 and, unless they are"
        " GRUs, bias=True, got"
        f" num_layers={num_layers}, bidirectional={bidirectional}, dropout={dropout},"
        f" bias={has_biases}"
    )


def _gru(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    return _recurrent([*args[:3], True, *args[4:]], kwargs)  # it may have no bias


def _ctc(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    if _argument(args, kwargs, 5, "reduction", "mean") != "none":
        return None
    return 'ctc_loss with reduction="none" is not supported'


def _cross_entropy(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    return _weighted_loss({"weight": _argument(args, kwargs, 2, "weight", None)})


def _matrix_norm(args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
    order = _argument(args, kwargs, 1, "ord", "fro")
    if order not in (2, -2, "nuc"):
        return None
    return f"linalg_matrix_norm with ord={order!r} is not supported"


_FUNCTIONS: Dict[str, Callable[[Sequence[Any], Dict[str, Any]], Optional[str]]] = {
    "tensor": _constant,
    "as_tensor": _constant,
    "one_hot": _one_hot,
    "bincount": _bincount,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent,
    "gru": _gru,
    "rnn_tanh": _recurrent,
    "ctc_loss": _ctc,
    "cross_entropy": _cross_entropy,
    "linalg_matrix_norm": _matrix_norm,
}
