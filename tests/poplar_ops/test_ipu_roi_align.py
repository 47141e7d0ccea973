"""The IPU's roi_align on a simulated IPU: its C++ unchanged, on our own Poplar and PopART.

B images, C channels, (H, W) cells, R regions. `simulated` is the whole operator with its lowering
and its gradient operator, `vertices` are the codelet's vertices one by one.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import reference
from poplar_ops.csrc.ipu.host import check_sdk
from poplar_ops.csrc.ipu.host.build import IPU, STUBS, build_operator, find_compiler
from poplar_ops.csrc.ipu.host.simulation import Report, Simulation
from poplar_ops.csrc.ipu.host.vertex import HostVertex, VertexLibrary

pytestmark = pytest.mark.skipif(
    find_compiler() is None, reason="needs a C++ compiler: install g++ or set CXX"
)

SETTINGS: Dict[str, Any] = {
    "output_height": 3,
    "output_width": 2,
    "spatial_scale": 0.5,
    "sampling_ratio": 2,
    "aligned": 1,
}
# On a map of 9 x 7 cells at scale 0.5, xyxy in pixels: inside, over each border, outside on both
# sides, empty, reversed, less than a cell, the whole map, far larger than it.
REGIONS = [
    [2.0, 3.0, 9.5, 12.25],
    [-3.0, -5.0, 4.0, 6.0],
    [8.0, 11.0, 19.0, 23.0],
    [40.0, 40.0, 60.0, 60.0],
    [-60.0, -60.0, -40.0, -40.0],
    [5.0, 5.0, 5.0, 5.0],
    [9.0, 12.0, 2.0, 3.0],
    [4.2, 4.4, 4.9, 5.0],
    [0.0, 0.0, 14.0, 18.0],
    [-30.0, -20.0, 40.0, 35.0],
    [-1.0, 16.0, 15.0, 18.5],
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_operator("roi_align", tmp_path_factory.mktemp("roi_align"))


@pytest.fixture(scope="module")
def simulated(library: Path) -> Simulation:
    return Simulation(library, "RoiAlign")


@pytest.fixture(scope="module")
def vertices(library: Path) -> VertexLibrary:
    return VertexLibrary(library)


def example(channels: int = 3, batch: int = 1, seed: int = 0) -> Tuple[Tensor, Tensor]:
    """Features (B, C, 9, 7) and all REGIONS, in another order for every image."""
    source = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels, 9, 7, generator=source)
    orders = [torch.randperm(len(REGIONS), generator=source) for _ in range(batch)]
    return features, torch.stack([torch.tensor(REGIONS)[order] for order in orders])


def with_gradient(
    features: Tensor, rois: Tensor, settings: Dict[str, Any]
) -> Tuple[Tensor, Tensor, Tensor]:
    """The reference's result, a random gradient of it, and that of the features; all float32."""
    leaf = features.float().requires_grad_()
    pooled = reference.roi_align(leaf, rois, *(settings[name] for name in SETTINGS))
    source = torch.Generator().manual_seed(1)
    grad = torch.randn(pooled.shape, generator=source).to(features.dtype)
    pooled.backward(grad.float())  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    return pooled.detach(), grad, leaf.grad


def run(
    simulated: Simulation, inputs: List[Tensor], settings: Dict[str, Any], **more: Any
) -> Tuple[Tensor, Report]:
    (output,), report = simulated.run(inputs, settings, **more)
    return output, report


def test_a_bin_of_one_sample_by_hand(simulated: Simulation) -> None:
    features = torch.arange(12.0).view(1, 1, 3, 4)
    rois = torch.tensor([[[0.0, 0.0, 2.0, 2.0]]])
    settings = {"output_height": 1, "output_width": 1, "spatial_scale": 1.0, "sampling_ratio": 1}
    # One sample at (1, 1) is cell 5; aligned it is (0.5, 0.5), the mean of cells 0, 1, 4 and 5.
    for aligned, value in ((0, 5.0), (1, 2.5)):
        given = {**settings, "aligned": aligned}
        pooled, _ = run(simulated, [features, rois], given)
        assert pooled.tolist() == [[[[[value]]]]]
        grad, _ = run(simulated, [features, rois], given, grads=[torch.ones(1, 1, 1, 1, 1)])
        wanted = torch.zeros(3, 4)
        if aligned:
            wanted[:2, :2] = 0.25
        else:
            wanted[1, 1] = 1.0
        assert grad[0, 0].tolist() == wanted.tolist()


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
@pytest.mark.parametrize(("tiles", "channels", "batch"), [(1, 3, 2), (7, 11, 1), (64, 9, 2)])
def test_both_directions_equal_the_reference(
    simulated: Simulation, tiles: int, channels: int, batch: int, sampling_ratio: int, aligned: int
) -> None:
    features, rois = example(channels, batch)
    settings = {**SETTINGS, "sampling_ratio": sampling_ratio, "aligned": aligned}
    wanted, grad, wanted_grad = with_gradient(features, rois, settings)
    pooled, _ = run(simulated, [features, rois], settings, tiles=tiles)
    torch.testing.assert_close(pooled, wanted, rtol=1e-5, atol=2e-6)
    got, _ = run(simulated, [features, rois], settings, grads=[grad], tiles=tiles)
    torch.testing.assert_close(got, wanted_grad, rtol=1e-5, atol=5e-6)
    assert pooled.abs().sum() > 0
    assert got.abs().sum() > 0


@pytest.mark.parametrize("tiles", [1, 5, 64])
def test_half_features_are_summed_in_float32(simulated: Simulation, tiles: int) -> None:
    features, rois = example(channels=5, batch=2)
    features = features.half()
    for sampling_ratio in (0, 2):
        settings = {**SETTINGS, "sampling_ratio": sampling_ratio}
        wanted, grad, wanted_grad = with_gradient(features, rois, settings)
        pooled, _ = run(simulated, [features, rois], settings, tiles=tiles)
        got, _ = run(simulated, [features, rois], settings, grads=[grad], tiles=tiles)
        assert pooled.dtype == got.dtype == torch.float16
        # One rounding to half is 2^-11; sums in half would be many.
        torch.testing.assert_close(pooled.float(), wanted, rtol=2**-11, atol=4e-6)
        torch.testing.assert_close(got.float(), wanted_grad, rtol=2**-11, atol=8e-6)


def test_large_half_gradients_do_not_overflow_on_the_way(simulated: Simulation) -> None:
    # Story: the public IPU op added gradients in half and gave NaN and infinity.
    features = torch.zeros(1, 2, 4, 4).half()
    rois = torch.tensor([[[0.0, 0.0, 4.0, 4.0]] * 4])
    grad = torch.tensor([4e4, 4e4, -4e4, -3.9e4]).view(1, 4, 1, 1, 1).expand(1, 4, 2, 1, 1).half()
    one_bin = {"output_height": 1, "output_width": 1, "sampling_ratio": 1, "aligned": 0}
    settings = {**SETTINGS, **one_bin, "spatial_scale": 1.0}
    for tiles in (1, 4):
        got, _ = run(simulated, [features, rois], settings, grads=[grad], tiles=tiles)
        assert got[0, :, 2, 2].tolist() == [992.0, 992.0]  # 39008 is the half next to 39000


def test_not_finite_regions_are_zero_and_cells_beside_a_region_do_no_harm(
    simulated: Simulation,
) -> None:
    nan, inf = float("nan"), float("inf")
    rows = [[nan, 0, 4, 4], [0, 0, inf, 4], [0, -inf, 4, 4], [0, 0, 4, -inf], [0, 0, 4, 4]]
    features = torch.ones(1, 2, 9, 7)
    features[0, :, 6] = nan
    for sampling_ratio in (0, 2):
        for aligned in (0, 1):
            settings = {**SETTINGS, "sampling_ratio": sampling_ratio, "aligned": aligned}
            pooled, _ = run(simulated, [features, torch.tensor([rows])], settings)
            assert pooled[0, :4].abs().sum() == 0
            torch.testing.assert_close(pooled[0, 4], torch.ones(2, 3, 2))


def test_a_reversed_region_is_zero_with_adaptive_sampling_only(simulated: Simulation) -> None:
    features = torch.ones(1, 1, 9, 7)
    rois = torch.tensor([[[9.0, 12.0, 2.0, 3.0]]])
    for sampling_ratio, value in ((0, 0.0), (2, 1.0)):
        settings = {**SETTINGS, "sampling_ratio": sampling_ratio}
        pooled, _ = run(simulated, [features, rois], settings)
        torch.testing.assert_close(pooled, torch.full((1, 1, 1, 3, 2), value))


def test_regions_of_any_size_have_room_for_their_taps(simulated: Simulation) -> None:
    source = torch.Generator().manual_seed(2)
    centre = torch.randn(1, 300, 2, generator=source) * 20
    size = torch.exp(torch.randn(1, 300, 2, generator=source) * 5)
    rois = torch.cat([centre - size / 2, centre + size / 2], -1)
    features = torch.ones(1, 1, 9, 7)
    for sampling_ratio in (0, 1, 40):
        settings = {**SETTINGS, "sampling_ratio": sampling_ratio, "output_height": 14}
        pooled, _ = run(simulated, [features, rois], settings)  # a word too many is refused
        assert 0 < pooled.max() < 1 + 1e-4


def test_order_of_workers_changes_no_bit_of_the_gradient(simulated: Simulation) -> None:
    features, rois = example(channels=8)
    grad = torch.randn(1, len(REGIONS), 8, 3, 2, generator=torch.Generator().manual_seed(3))
    results = [
        run(simulated, [features, rois], SETTINGS, grads=[grad], tiles=4, seed=seed)[0]
        for seed in range(4)
    ]
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize(("dtype", "kib"), [(torch.float16, 420), (torch.float32, 610)])
def test_a_tile_of_512_regions_of_1024_channels_has_room(
    simulated: Simulation, dtype: torch.dtype, kib: int
) -> None:
    # 128 units on 1472 tiles are 11 tiles a unit; two tiles of one unit hold as much each.
    regions, cells = 2 * 47, (38, 50)
    corner = torch.rand(1, regions, 2, generator=torch.Generator().manual_seed(4)) * 300
    rois = torch.cat([corner, corner + 16], -1)
    features = torch.zeros(1, 8, *cells, dtype=dtype)
    settings = {**SETTINGS, "output_height": 14, "output_width": 14, "spatial_scale": 1 / 16}
    settings["sampling_ratio"] = 1
    _, report = run(simulated, [features, rois], settings, tiles=2)
    assert (report.vertices, report.compute_sets) == (2 * 8 + 2, 2)
    assert report.max_tile_bytes < kib * 1024
    grads = [torch.zeros(1, regions, 8, 14, 14, dtype=dtype)]
    _, report = run(simulated, [features, rois], settings, grads=grads, tiles=2)
    assert report.max_tile_bytes < kib * 1024
    steps = -(-47 // (64 * 1024 // (8 * 14 * 14 * features.element_size())))
    assert report.compute_sets == 1 + steps + 1


def test_a_small_batch_uses_all_tiles_and_a_large_one_takes_rounds(simulated: Simulation) -> None:
    features, rois = example(channels=9)
    _, report = run(simulated, [features, rois], SETTINGS, tiles=22)
    assert report.tiles_used == 22  # 2 units of 11 groups of one region
    features, rois = example(channels=40, batch=2)
    _, report = run(simulated, [features, rois], SETTINGS, tiles=4)
    assert report.compute_sets == 1 + 3  # 10 units on 4 tiles
    _, grad, wanted_grad = with_gradient(features, rois, SETTINGS)
    got, _ = run(simulated, [features, rois], SETTINGS, grads=[grad], tiles=4)
    torch.testing.assert_close(got, wanted_grad, rtol=1e-5, atol=5e-6)


def bound(vertices: VertexLibrary, name: str, **fields: Any) -> HostVertex:
    """A vertex with `fields`; a plain number is an unsigned, or for a float a float."""
    made = {}
    for field, value in fields.items():
        kind = torch.float32 if isinstance(value, float) else torch.int32
        made[field] = value if isinstance(value, Tensor) else torch.tensor(value, dtype=kind)
    return vertices.vertex(name).bind(**made)


def taps(vertices: VertexLibrary, rois: Tensor) -> Dict[str, Any]:
    """The fields that pooling and its gradient share, for 9 x 7 cells and 3 x 2 bins."""
    count, words = len(rois), 9 + 7 + 4 * 5
    ints = torch.zeros(count * 5 * 3, dtype=torch.int32)
    floats = torch.zeros(count * words)
    sizes = {"rows": 3, "columns": 2, "width": 7, "floats_per_region": words}
    vertex = bound(
        vertices, "RoiAlignTaps", rois=rois.flatten().contiguous(), ints=ints, floats=floats,
        height=9, sampling_ratio=2, aligned=1, spatial_scale=0.5, **sizes,
    )  # fmt: skip
    assert vertex.races() == []
    vertex.run()
    return {"ints": ints, "floats": floats, "regions": count, **sizes}


@pytest.mark.parametrize(("kind", "dtype"), [("Float", torch.float32), ("Half", torch.float16)])
def test_no_two_workers_write_one_word(
    vertices: VertexLibrary, kind: str, dtype: torch.dtype
) -> None:
    shared = taps(vertices, torch.tensor(REGIONS))
    regions, channels, bins = len(REGIONS), 3, 3 * 2  # an odd number of values in all
    pooled = torch.zeros(regions * bins * channels + 1, dtype=dtype)
    forward = bound(
        vertices, f"RoiAlign{kind}", map=torch.ones(63 * channels, dtype=dtype), out=pooled,
        channels=channels, **shared,
    )  # fmt: skip
    assert forward.races() == []
    assert sum(bool(forward.written_words(worker)["out"]) for worker in range(6)) == 6
    backward = bound(
        vertices, f"RoiAlignGrad{kind}", grad=pooled.fill_(1), sums=torch.ones(63 * channels),
        first=1, channels=channels, **shared,
    )  # fmt: skip
    assert backward.races() == []
    total = bound(
        vertices, f"RoiAlignSum{kind}", partials=torch.ones(2 * 63),
        out=torch.zeros(63, dtype=dtype), groups=2,
    )  # fmt: skip
    assert total.races() == []


def test_the_python_call_fits_the_operator(
    simulated: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: List[Dict[str, Any]] = []

    def custom_op(inputs: List[Tensor], **call: Any) -> List[Tensor]:
        calls.append(call)
        outputs, _ = simulated.run(inputs, call["attributes"])
        return outputs

    module = importlib.import_module("poplar_ops.roi_align")
    loaded: List[bool] = []
    fake = SimpleNamespace(custom_op=custom_op, isRunningOnIpu=lambda: True)
    features, rois = example(channels=4, batch=2)
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float16, 2e-3)):
        arguments = (features.to(dtype), rois, (3, 2), 1 / 2, -1, True)
        wanted = poplar_ops.roi_align(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(module, "poptorch", fake)
            patch.setattr(module, "IS_HOST", False)  # as in an executor of the SDK
            patch.setattr(module.ipu_library, "load", lambda: loaded.append(True))
            got = poplar_ops.roi_align(*arguments)
        assert got.dtype == dtype
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=tolerance)
        (example_output,) = calls[-1]["example_outputs"]
        assert (example_output.shape, example_output.dtype) == (got.shape, dtype)
    assert loaded == [True, True]

    call = calls[0]
    assert (call["domain"], call["name"], call["domain_version"]) == ("poplar_ops", "RoiAlign", 1)
    # PopART reads an attribute stored as another type as 0, without a word.
    source = (IPU / "roi_align" / "op.cpp").read_text()
    read = re.findall(r'getAttribute<Attributes::(\w+)>\("(\w+)"', source)
    given = {name: type(value) for name, value in call["attributes"].items()}
    assert {name: {"Float": float, "Int": int}[kind] for kind, name in read} == given


@pytest.mark.parametrize("outline", [False, True])
def test_operators_with_different_attributes_are_told_apart(
    simulated: Simulation, outline: bool
) -> None:
    inputs = list(example())
    base = simulated.serialised(inputs, SETTINGS, outline)
    assert set(base) == set(SETTINGS)
    for name, value in SETTINGS.items():
        other = {**SETTINGS, name: 0 if name == "aligned" else value * 2}
        assert simulated.serialised(inputs, other, outline)[name] != base[name]


def test_the_operator_refuses_wrong_inputs(simulated: Simulation) -> None:
    features, rois = example(batch=2)
    with pytest.raises(RuntimeError, match=r"rois must be \(2, R, 4\).*got \(1, 11, 4\)"):
        simulated.run([features, rois[:1]], SETTINGS)
    with pytest.raises(RuntimeError, match=r"features must be \(B, C, H, W\).*got \(3, 9, 7\)"):
        simulated.run([features[0], rois], SETTINGS)
    with pytest.raises(RuntimeError, match="rois must be float32"):
        simulated.run([features, rois.half()], SETTINGS)
    with pytest.raises(RuntimeError, match="features must be float32 or float16"):
        simulated.run([features.int(), rois], SETTINGS)
    with pytest.raises(RuntimeError, match="output_height and output_width must be at least 1"):
        simulated.run([features, rois], {**SETTINGS, "output_width": 0})
    with pytest.raises(RuntimeError, match="spatial_scale above 0"):
        simulated.run([features, rois], {**SETTINGS, "spatial_scale": 0.0})


def test_check_sdk_covers_the_operator_and_refuses_a_mistake(tmp_path: Path) -> None:
    assert check_sdk.check(IPU / "roi_align" / "grad_opx.cpp", STUBS, []) is None
    assert check_sdk.check(IPU / "roi_align" / "roi_align_codelet.cpp", STUBS[:1], []) is None
    source = (IPU / "roi_align" / "grad_opx.cpp").read_text()
    right = "grow(program::Sequence& prog) const final"
    assert right in source
    (tmp_path / "grad_opx.cpp").write_text(source.replace(right, right.replace(" const", "")))
    complaint = check_sdk.check(tmp_path / "grad_opx.cpp", STUBS, [])
    assert complaint is not None
    assert "error:" in complaint
