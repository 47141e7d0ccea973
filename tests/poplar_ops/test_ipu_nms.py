"""The IPU's NMS on a simulated IPU: its C++ unchanged, on our own Poplar and PopART.

B images, N candidates, K = max_detections. `simulated` is the whole operator with its lowering,
`vertices` are the codelet's vertices one by one.
"""

from __future__ import annotations

import ctypes
import importlib
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import pytest
import torch
from torch import Tensor

import poplar_ops
from poplar_ops import ipu_library, reference
from poplar_ops.csrc.ipu.host import check_sdk
from poplar_ops.csrc.ipu.host.build import (
    IPU,
    STUBS,
    build_operator,
    find_compiler,
)
from poplar_ops.csrc.ipu.host.simulation import Simulation
from poplar_ops.csrc.ipu.host.vertex import HostVertex, VertexLibrary

pytestmark = pytest.mark.skipif(
    find_compiler() is None, reason="needs a C++ compiler: install g++ or set CXX"
)

SETTINGS: Dict[str, Any] = {
    "iou_threshold": 0.5,
    "score_threshold": 0.0,
    "max_detections": 20,
    "class_aware": 1,
    "sigma": 0.0,
}
BROKEN = """
#include <poplar/Vertex.hpp>
using poplar::Input;
using poplar::Output;
using poplar::Vector;
class Broken : public poplar::MultiVertex {
 public:
  Input<Vector<short, poplar::VectorLayout::SPAN, 8>> in;
  Output<Vector<short, poplar::VectorLayout::ONE_PTR>> out;
  int overrun;

  void compute(unsigned worker) {
    const unsigned share = (in.size() + numWorkers() - 1) / numWorkers();
    for (unsigned i = worker * share; i < (worker + 1) * share; ++i) {
      if (i < in.size() + static_cast<unsigned>(overrun)) out[i] = in[i];
    }
  }
};
"""

# Graphs that a device would refuse: what is wrong is the argument, the answer is what refused it.
GRAPHS = r"""
#include <string>

#include "machine.hpp"

extern "C" const char *refusal(const char *codelet, const char *wrong_) {
  static std::string answer;
  const std::string wrong = wrong_;
  poplar::host::Machine machine(2, 0);
  auto &graph = machine.graph;
  try {
    graph.addCodelets(codelet);
    const auto in = graph.addVariable(poplar::SHORT, {4}, "in");
    const auto out = graph.addVariable(poplar::SHORT, {8}, "out");
    const auto big = graph.addVariable(poplar::FLOAT, {160000}, "big");
    graph.setTileMapping(in.slice(0, wrong == "element" ? 3 : 4), 0);
    graph.setTileMapping(out, 1);
    graph.setTileMapping(big.slice(0, 80000), 0);
    graph.setTileMapping(big.slice(80000, 160000), wrong == "memory" ? 0 : 1);
    const auto compute_set = graph.addComputeSet("step");
    for (unsigned i = 0; i < 2; ++i) {
      const auto vertex = graph.addVertex(compute_set, "Broken");
      if (wrong != "vertex") graph.setTileMapping(vertex, i);
      graph.connect(vertex["in"], wrong == "type" ? big : wrong == "order" ? out.slice(4, 8) : in);
      const unsigned first = wrong == "writers" ? 0 : 4 * i;
      graph.connect(vertex["out"], out.slice(first, first + 4));
      if (wrong != "field") graph.setInitialValue(vertex["overrun"], 0);
    }
    if (wrong == "copy") poplar::program::Copy(in, out);
    machine.check();
    answer = "";
  } catch (const std::exception &error) {
    answer = error.what();
  }
  return answer.c_str();
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator, its vertices, the vertex `Broken` and the function `refusal`."""
    folder = tmp_path_factory.mktemp("nms")
    (folder / "broken_codelet.cpp").write_text(BROKEN)
    (folder / "graphs.cpp").write_text(GRAPHS)
    more = [folder / "broken_codelet.cpp"], [folder / "graphs.cpp"]
    return build_operator("nms", folder, *more)


@pytest.fixture(scope="module")
def simulated(library: Path) -> Simulation:
    return Simulation(library, "Nms")


@pytest.fixture(scope="module")
def vertices(library: Path) -> VertexLibrary:
    return VertexLibrary(library)


def candidates(seed: int, batch: int, count: int, levels: int = 0) -> List[Tensor]:
    """Random scores, boxes and labels of 4 classes; `levels` > 0: so many different scores."""
    source = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, count, generator=source)
    if levels:
        scores = ((scores * levels).floor() + 1) / levels
    centre = torch.rand(batch, count, 2, generator=source) * 300
    size = torch.rand(batch, count, 2, generator=source) * 110 + 8
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    labels = torch.randint(0, 4, (batch, count), generator=source, dtype=torch.int32)
    return [scores, boxes, labels]


def expected(inputs: List[Tensor], settings: Dict[str, Any]) -> Tuple[Tensor, ...]:
    scores, boxes, labels = inputs
    return reference.nms(
        scores.unsqueeze(-1), boxes, labels,
        settings["iou_threshold"], settings["score_threshold"], settings["max_detections"],
        bool(settings["class_aware"]), settings["sigma"],
    )  # fmt: skip


def assert_equal(got: List[Tensor], wanted: Tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(got, wanted):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_six_boxes_by_hand(simulated: Simulation) -> None:
    scores = torch.tensor([[0.9, 0.75, 0.6, 0.95, 0.5, 0.3]])
    tops = [0.0, 0.1, -0.1, 10.0, 10.1, 100.0]
    boxes = torch.tensor([[[0.0, top, 1.0, top + 1.0] for top in tops]])
    labels = torch.full((1, 6), 7, dtype=torch.int32)
    settings = {**SETTINGS, "max_detections": 5}
    (boxes, scores, labels, indices, count), _ = simulated.run([scores, boxes, labels], settings)
    assert indices.tolist() == [[3, 0, 5, -1, -1]]
    assert labels.tolist() == [[7, 7, 7, -1, -1]]
    assert count.tolist() == [3]
    torch.testing.assert_close(scores, torch.tensor([[0.95, 0.9, 0.3, 0.0, 0.0]]))
    assert boxes[0, 1].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert boxes[0, 3:].abs().sum() == 0


def test_both_thresholds_are_strict(simulated: Simulation) -> None:
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0], [8.0, 8.0, 9.0, 9.0]]])
    scores = torch.tensor([[0.75, 0.5, 0.25]])  # the first two boxes overlap by one half
    labels = torch.zeros(1, 3, dtype=torch.int32)
    for iou_threshold, indices in ((0.5, [0, 1]), (0.49, [0])):
        settings = {**SETTINGS, "score_threshold": 0.25, "iou_threshold": iou_threshold}
        outputs, _ = simulated.run([scores, boxes, labels], settings)
        assert outputs[3][0, : int(outputs[4][0])].tolist() == indices


@pytest.mark.parametrize("tiles", [1, 2, 5, 64, 1472])
@pytest.mark.parametrize("class_aware", [0, 1])
def test_hard_nms_equals_the_reference(simulated: Simulation, tiles: int, class_aware: int) -> None:
    settings = {**SETTINGS, "class_aware": class_aware, "score_threshold": 0.1}
    for seed in range(3):
        inputs = candidates(seed, batch=3, count=[300, 97, 1000][seed])
        outputs, _ = simulated.run(inputs, settings, tiles=tiles, seed=seed)
        assert_equal(outputs, expected(inputs, settings))


@pytest.mark.parametrize("tiles", [1, 7, 64])
def test_ties_go_to_the_lowest_index(simulated: Simulation, tiles: int) -> None:
    inputs = candidates(11, batch=2, count=400, levels=3)
    outputs, _ = simulated.run(inputs, SETTINGS, tiles=tiles)
    assert_equal(outputs, expected(inputs, SETTINGS))


@pytest.mark.parametrize("tiles", [1, 7, 64])
def test_soft_nms_equals_the_reference(simulated: Simulation, tiles: int) -> None:
    settings = {**SETTINGS, "sigma": 0.5, "score_threshold": 0.3, "max_detections": 60}
    inputs = candidates(5, batch=2, count=200)
    (boxes, scores, *whole), _ = simulated.run(inputs, settings, tiles=tiles)
    wanted_boxes, wanted_scores, *wanted = expected(inputs, settings)
    assert_equal(whole, tuple(wanted))
    assert_equal([boxes], (wanted_boxes,))
    # The tile decays in float32, the reference in float64: a few roundings apart.
    torch.testing.assert_close(scores, wanted_scores, rtol=2e-6, atol=0)


def test_every_image_is_on_its_own(simulated: Simulation) -> None:
    # Story: the public IPU op stopped all images when the first ran out, and used the first image's
    # winner for every row of a tile that two images shared.
    scores, boxes, labels = candidates(2, batch=4, count=131)
    scores[0] = 0.0
    scores[2, 5:] = -1.0
    for tiles in (3, 8, 50):
        outputs, _ = simulated.run([scores, boxes, labels], SETTINGS, tiles=tiles)
        assert_equal(outputs, expected([scores, boxes, labels], SETTINGS))
        assert outputs[4][0] == 0
        assert 0 < outputs[4][2] <= 5 < outputs[4][3]


def test_more_detections_than_candidates_and_none_at_all(simulated: Simulation) -> None:
    scores, boxes, labels = candidates(3, batch=1, count=7)
    outputs, _ = simulated.run([scores, boxes, labels], SETTINGS)
    assert_equal(outputs, expected([scores, boxes, labels], SETTINGS))
    outputs, report = simulated.run([scores * 0, boxes, labels], SETTINGS)
    assert outputs[4].tolist() == [0]
    assert outputs[2].tolist() == outputs[3].tolist() == [[-1] * 20]
    assert report.rounds == 1


@pytest.mark.parametrize("size", [1e3, 1e9, 1e30])
def test_no_box_is_too_large(simulated: Simulation, size: float) -> None:
    scores, boxes, labels = candidates(4, batch=1, count=150)
    inputs = [scores, boxes / 300 * size, labels]
    settings = {**SETTINGS, "max_detections": 150, "class_aware": 0}
    outputs, _ = simulated.run(inputs, settings)
    assert_equal(outputs, expected(inputs, settings))
    same, _ = simulated.run([scores, boxes, labels], settings)
    assert outputs[4].tolist() == same[4].tolist()
    assert outputs[4][0] < 140  # suppression took place


def test_empty_reversed_and_nan_boxes_overlap_nothing(simulated: Simulation) -> None:
    nan, inf = float("nan"), float("inf")
    rows = [[0, 0, 4, 4], [4, 4, 0, 0], [2, 2, 2, 2], [0, 0, nan, 4], [0, 0, inf, 4], [0, 0, 4, 4]]
    boxes = torch.tensor([rows])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5, nan]])
    labels = torch.zeros(1, 6, dtype=torch.int32)
    (_, _, _, indices, count), _ = simulated.run([scores, boxes, labels], SETTINGS)
    assert count.tolist() == [5]
    assert indices[0, :5].tolist() == [0, 1, 2, 3, 4]


def test_the_loop_ends_once_every_image_is_done(simulated: Simulation) -> None:
    # Story: the public IPU op always ran all K rounds.
    scores, boxes, labels = candidates(6, batch=2, count=100)
    scores[0, 4:] = 0.0
    scores[1, 9:] = 0.0
    settings = {**SETTINGS, "max_detections": 90, "iou_threshold": 1.0}
    outputs, report = simulated.run([scores, boxes, labels], settings)
    assert outputs[4].tolist() == [4, 9]
    assert report.rounds == 10  # one more, to find nothing
    outputs, report = simulated.run([x.flip(0) for x in (scores, boxes, labels)], settings)
    assert outputs[4].tolist() == [9, 4]
    assert report.rounds == 10
    _, report = simulated.run([scores, boxes, labels], {**settings, "max_detections": 6})
    assert report.rounds == 6


def test_the_d0_workload_fits_the_tiles(simulated: Simulation) -> None:
    scores, boxes, labels = candidates(7, batch=4, count=5000)
    scores[:, 5:] = 0.0  # memory does not depend on it, the time of this test does
    settings = {**SETTINGS, "max_detections": 100}
    _, report = simulated.run([scores, boxes, labels], settings, tiles=1472)
    assert report.max_tile_bytes < 16 * 1024
    assert report.vertices < 4 * (210 + 16 + 3)
    assert report.compute_sets == 2 + 5 * report.rounds


def test_results_do_not_depend_on_the_order_of_workers(vertices: VertexLibrary) -> None:
    def outcome(order: List[int]) -> List[Tensor]:
        vertex = round_vertex(vertices, candidates(8, batch=1, count=50))
        vertex.run(order)
        return [vertex.tensors[name] for name in ("scores", "best_floats", "best_ints")]

    wanted = outcome(list(range(6)))
    for seed in range(5):
        order = random.Random(seed).sample(range(6), 6)
        assert_equal(outcome(order), tuple(wanted))


def round_vertex(vertices: VertexLibrary, inputs: List[Tensor]) -> HostVertex:
    """A tile that holds all candidates of one image, whose first one has just won."""
    scores, boxes, labels = (tensor[0] for tensor in inputs)
    return vertices.vertex("NmsRound").bind(
        boxes=boxes.flatten().contiguous(),
        labels=labels.clone(),
        scores=scores.clone(),
        winner_floats=torch.tensor([scores[0], *boxes[0]]),
        winner_ints=torch.tensor([0, labels[0]], dtype=torch.int32),
        best_floats=torch.zeros(30),
        best_ints=torch.zeros(12, dtype=torch.int32),
        first=torch.tensor(0, dtype=torch.int32),
        class_aware=torch.tensor(0, dtype=torch.int32),
        iou_threshold=torch.tensor(0.5),
        score_threshold=torch.tensor(0.0),
        sigma=torch.tensor(0.0),
    )


def test_no_two_workers_write_one_word(vertices: VertexLibrary) -> None:
    scores, _, labels = candidates(9, batch=1, count=47)
    everywhere = torch.tensor([0.0, 0.0, 9.0, 9.0]).repeat(1, 47, 1)  # all scores change
    vertex = round_vertex(vertices, [scores, everywhere, labels])
    assert len(set.union(*(vertex.written_words(w)["scores"] for w in range(6)))) == 47
    assert vertex.races() == []
    reduce = vertices.vertex("NmsReduce").bind(
        floats=torch.rand(5 * 20),
        ints=torch.arange(2 * 20, dtype=torch.int32),
        best_floats=torch.zeros(30),
        best_ints=torch.zeros(12, dtype=torch.int32),
    )
    assert reduce.races() == []
    assert reduce.written_words(5)["best_floats"] == {25, 26, 27, 28, 29}
    start = vertices.vertex("NmsInit").bind(
        boxes=torch.zeros(44),
        scores=torch.zeros(11),
        labels=torch.zeros(11, dtype=torch.int32),
        indices=torch.zeros(11, dtype=torch.int32),
        winner_floats=torch.zeros(5),
        winner_ints=torch.zeros(2, dtype=torch.int32),
        count=torch.zeros(1, dtype=torch.int32),
        active=torch.zeros(1, dtype=torch.int32),
    )
    assert start.races() == []


def test_workers_that_share_a_word_are_found(vertices: VertexLibrary) -> None:
    out = torch.zeros(27, dtype=torch.int16)
    vertex = vertices.vertex("Broken").bind(
        **{"in": torch.ones(27, dtype=torch.int16)},
        out=out,
        overrun=torch.tensor(0, dtype=torch.int32),
    )
    vertex.run()
    assert out.tolist() == [1] * 27  # a CPU hides the race: shares of 5 halves, words of 2
    assert ("out", (0, 1), [2]) in vertex.races()


def test_leaving_a_field_raises(vertices: VertexLibrary) -> None:
    vertex = vertices.vertex("Broken").bind(
        **{"in": torch.ones(27, dtype=torch.int16)},
        out=torch.zeros(27, dtype=torch.int16),
        overrun=torch.tensor(1, dtype=torch.int32),
    )
    with pytest.raises(RuntimeError, match="index 27, size 27"):
        vertex.run()


def test_binding_refuses_what_a_vertex_cannot_take(vertices: VertexLibrary) -> None:
    vertex = vertices.vertex("Broken")
    with pytest.raises(RuntimeError, match=r"Broken.in holds short, got float"):
        vertex.bind(**{"in": torch.zeros(4)})
    with pytest.raises(RuntimeError, match="no field 'oot'"):
        vertex.bind(oot=torch.zeros(4))
    with pytest.raises(RuntimeError, match=r"Broken.in must be aligned to 8 bytes"):
        vertex.bind(**{"in": torch.zeros(5, dtype=torch.int16)[1:]})
    with pytest.raises(RuntimeError, match="no codelet has a vertex 'Brocken'"):
        vertices.vertex("Brocken")


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("nothing", ""),
        ("element", "in element 3 is on no tile"),
        ("vertex", "vertex Broken is on no tile"),
        ("field", "vertex Broken: field overrun was never set"),
        ("writers", "out element 0 is written twice in compute set step"),
        ("order", "out element 4 is read and written in compute set step"),
        ("type", "Broken.in holds short, got float"),
        ("memory", "a tile needs 640016 bytes, it has 638976"),
        ("copy", "a copy between tensors of different shape or type"),
    ],
)
def test_the_simulated_device_refuses_a_wrong_graph(
    vertices: VertexLibrary, wrong: str, answer: str
) -> None:
    vertices.functions.refusal.restype = ctypes.c_char_p
    assert vertices.functions.refusal(__file__.encode(), wrong.encode()).decode() == answer


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_python_call_fits_the_operator(
    simulated: Simulation, monkeypatch: pytest.MonkeyPatch, num_classes: Optional[int]
) -> None:
    calls: List[Dict[str, Any]] = []

    def custom_op(inputs: List[Tensor], **call: Any) -> List[Tensor]:
        calls.append(call)
        outputs, _ = simulated.run(inputs, call["attributes"])
        return outputs

    scores, boxes, labels = candidates(10, batch=2, count=60)
    arguments: List[Any] = [scores, boxes, labels]
    if num_classes is not None:
        arguments = [torch.rand(2, 60, num_classes), boxes, None]
    settings: Dict[str, Any] = {"score_threshold": 0.2, "max_detections": 15, "class_aware": True}
    wanted = poplar_ops.nms(*arguments, **settings)
    fake = SimpleNamespace(custom_op=custom_op, isRunningOnIpu=lambda: True)
    monkeypatch.setattr(importlib.import_module("poplar_ops.nms"), "poptorch", fake)
    got = poplar_ops.nms(*arguments, **settings)
    assert_equal(list(got), tuple(wanted))

    (call,) = calls
    assert (call["domain"], call["name"], call["domain_version"]) == ("poplar_ops", "Nms", 1)
    for example, output in zip(call["example_outputs"], got):
        assert (example.shape, example.dtype) == (output.shape, output.dtype)
    # PopART reads an attribute stored as another type as 0, without a word.
    source = (IPU / "nms" / "op.cpp").read_text()
    read = re.findall(r'getAttribute<Attributes::(\w+)>\("(\w+)"', source)
    given = {name: type(value) for name, value in call["attributes"].items()}
    assert {name: {"Float": float, "Int": int}[kind] for kind, name in read} == given
    outputs = re.search(r"Definition::Outputs outputs\{(.*?)\};", source, re.S)
    assert outputs is not None
    kinds = {"floats": torch.float32, "ints": torch.int32}
    declared = re.findall(r'\{"(\w+)", (\w+)\}', outputs.group(1))
    assert [name for name, _ in declared] == list(got._fields)
    assert [kinds[kind] for _, kind in declared] == [x.dtype for x in call["example_outputs"]]


@pytest.mark.parametrize("outline", [False, True])
def test_operators_with_different_attributes_are_told_apart(
    simulated: Simulation, outline: bool
) -> None:
    inputs = candidates(0, batch=1, count=4)
    base = simulated.serialised(inputs, SETTINGS, outline)
    assert set(base) == set(SETTINGS)
    other = {
        "iou_threshold": 0.6,
        "score_threshold": 0.1,
        "max_detections": 3,
        "class_aware": 0,
        "sigma": 0.5,
    }
    for name, value in other.items():
        assert simulated.serialised(inputs, {**SETTINGS, name: value}, outline)[name] != base[name]


def test_the_operator_refuses_wrong_inputs(simulated: Simulation) -> None:
    scores, boxes, labels = candidates(0, batch=2, count=5)
    with pytest.raises(RuntimeError, match=r"boxes must be \(2, 5, 4\), got \(2, 4, 4\)"):
        simulated.run([scores, boxes[:, :4], labels], SETTINGS)
    with pytest.raises(RuntimeError, match=r"scores must be \(B, N\), neither 0, got \(5\)"):
        simulated.run([scores[0], boxes, labels], SETTINGS)
    with pytest.raises(RuntimeError, match="labels must be int32"):
        simulated.run([scores, boxes, labels.float()], SETTINGS)
    with pytest.raises(RuntimeError, match="max_detections must be at least 1, got 0"):
        simulated.run([scores, boxes, labels], {**SETTINGS, "max_detections": 0})


def test_check_sdk_accepts_our_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_sdk.main([]) == 0
    said = capsys.readouterr().out
    ours = "type-checked against our own declarations of Poplar"
    lines = {" ".join(line.split()) for line in said.splitlines()}
    assert f"nms/opx.cpp {ours} and PopART" in lines
    assert f"nms/nms_codelet.cpp {ours}" in lines
    assert "Never linked, never run on an IPU." in said


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("grow(program::Sequence& prog) const final", "grow(program::Sequence& prog) final"),
        ("setTileMapping(any, layout.tile(0, 0))", "setTileMapping(layout.tile(0, 0), any)"),
    ],
)
def test_check_sdk_refuses_a_mistake(tmp_path: Path, right: str, wrong: str) -> None:
    source = (IPU / "nms" / "opx.cpp").read_text()
    assert right in source
    (tmp_path / "opx.cpp").write_text(source.replace(right, wrong))
    complaint = check_sdk.check(tmp_path / "opx.cpp", STUBS, [])
    assert complaint is not None
    assert "error:" in complaint


def test_check_sdk_takes_popart_from_the_folder_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_sdk, "operator_files", lambda: [IPU / "nms" / "op.cpp"])
    assert check_sdk.main(["--popart", str(tmp_path)]) == 2
    assert "no popart/op.hpp" in capsys.readouterr().err
    headers = tmp_path / "willow" / "include" / "popart"
    headers.mkdir(parents=True)
    (headers / "op.hpp").write_text('#error "these are the headers given"\n')
    assert check_sdk.main(["--popart", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "these are the headers given" in printed.err
    assert "REFUSED against PopART's headers" in printed.out


def test_a_library_that_is_not_built_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ipu_library.load.cache_clear()
    monkeypatch.delenv("POPLAR_OPS_IPU_LIBRARY", raising=False)
    monkeypatch.setattr(ipu_library, "PACKAGE", tmp_path / "poplar_ops")
    with pytest.raises(RuntimeError, match="make -C poplar_ops/csrc/ipu"):
        ipu_library.load()
    monkeypatch.setenv("POPLAR_OPS_IPU_LIBRARY", str(tmp_path / "absent.so"))
    with pytest.raises(RuntimeError, match=r"there is no file .*absent\.so"):
        ipu_library.load()
    (tmp_path / "text.so").write_text("not a library")
    monkeypatch.setenv("POPLAR_OPS_IPU_LIBRARY", str(tmp_path / "text.so"))
    with pytest.raises(RuntimeError, match=r"cannot be loaded.*source enable\.sh"):
        ipu_library.load()


def test_the_named_library_is_loaded(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ipu_library.load.cache_clear()
    monkeypatch.setenv("POPLAR_OPS_IPU_LIBRARY", str(library))
    assert ipu_library.load() == library
    ipu_library.load.cache_clear()
