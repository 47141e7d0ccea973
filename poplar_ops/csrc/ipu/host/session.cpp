// Plain C entry points for Python to make a registered operator, lower it and run its program.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <popart/opmanager.hpp>
#include <popart/opserialiser.hpp>
#include <popart/popx/opxmanager.hpp>

#include "border.hpp"
#include "machine.hpp"

namespace {

using popart::DataType;
using popart::TensorInfo;
using poplar::host::guarded;

struct Session {
  std::unique_ptr<popart::Op> op;
  popart::Attributes attributes;
  std::map<int, std::vector<std::uint8_t>> results;
  poplar::host::Report report;
};

// Types as Python names them.
const DataType kTypes[] = {DataType::FLOAT, DataType::INT32, DataType::FLOAT16};

poplar::Type device_type(DataType type) {
  if (type == DataType::FLOAT) return poplar::FLOAT;
  if (type == DataType::FLOAT16) return poplar::HALF;
  if (type == DataType::INT32) return poplar::INT;
  throw std::invalid_argument("the simulation has float32, float16 and int32 tensors only");
}

// A tensor of the machine with the shape of `info`, spread over its tiles round robin.
poplar::Tensor add_input(poplar::host::Machine& machine, const TensorInfo& info) {
  const std::vector<std::size_t> shape(info.shape().begin(), info.shape().end());
  const auto tensor = machine.graph.addVariable(device_type(info.dataType()), shape, "input");
  const auto flat = tensor.flatten();
  for (std::size_t i = 0; i < flat.numElements(); ++i) {
    machine.graph.setTileMapping(flat[i], static_cast<unsigned>(i % machine.target.getNumTiles()));
  }
  return tensor;
}

void run(Session& session, unsigned tiles, unsigned seed, const void* const* data) {
  poplar::host::Machine machine(tiles, seed);
  popart::popx::Devicex device{&machine.graph, {}, {}};
  auto op = session.op->clone();  // PopART clones operators: a clone must be as good
  for (const auto& input : op->host_inputs) {
    device.inputs[input.first] = add_input(machine, input.second);
    machine.write(device.inputs[input.first], data[input.first]);
  }
  const auto opx = popart::popx::OpxManager::host_entries().at(op->opid)(op.get(), &device);
  poplar::program::Sequence program;
  opx->grow(program);
  machine.check();
  machine.run(program);
  for (const auto& output : op->host_outputs) {
    const auto& tensor = device.outputs.at(output.first);
    const auto shape = tensor.shape();
    const auto& expected = output.second.shape();
    if (!std::equal(shape.begin(), shape.end(), expected.begin(), expected.end(),
                    [](auto a, auto b) { return static_cast<int64_t>(a) == b; }) ||
        tensor.elementType() != device_type(output.second.dataType())) {
      throw std::logic_error("output " + std::to_string(output.first) +
                             " is not what setup() said");
    }
    auto& bytes = session.results[output.first];
    bytes.resize(tensor.numElements() * tensor.elementType().host_size());
    machine.read(tensor, bytes.data());
  }
  session.report = machine.report;
}

}  // namespace

extern "C" {

void* poplar_host_session_new() {
  return new Session;
}
void poplar_host_session_free(void* session) {
  delete static_cast<Session*>(session);
}

void poplar_host_session_float(void* session, const char* name, float value) {
  static_cast<Session*>(session)->attributes.host_floats[name] = value;
}
void poplar_host_session_int(void* session, const char* name, int64_t value) {
  static_cast<Session*>(session)->attributes.host_ints[name] = value;
}

// Makes the operator with the attributes given before.
int poplar_host_session_op(void* session, const char* domain, const char* type) {
  return guarded([&] {
    auto& typed = *static_cast<Session*>(session);
    for (const auto& entry : popart::OpManager::host_entries()) {
      if (entry.id.domain != domain || entry.id.type != type) continue;
      typed.op = entry.factory({entry.id, popart::Op::Settings(), typed.attributes});
      return;
    }
    throw std::invalid_argument(std::string("no operator ") + domain + "." + type);
  });
}

// Adds an input: type 0 (float32), 1 (int32) or 2 (float16).
void poplar_host_session_input(void* session, int index, int type, int rank, const int64_t* shape) {
  static_cast<Session*>(session)->op->host_inputs[index] =
      TensorInfo(kTypes[type], popart::Shape(shape, shape + rank));
}

int poplar_host_session_setup(void* session) {
  return guarded([&] { static_cast<Session*>(session)->op->setup(); });
}

// Goes on with the operator's only gradient operator; its outputs have the shapes and types of the
// inputs that it names.
int poplar_host_session_gradient(void* session) {
  return guarded([&] {
    auto& typed = *static_cast<Session*>(session);
    const auto gradients = typed.op->getGradOps();
    if (gradients.size() != 1) throw std::logic_error("the simulation runs one gradient operator");
    auto gradient = gradients[0]->clone();
    for (const auto& source : gradient->gradInputInfo()) {
      const bool is_in = source.type == popart::GradOpInType::In;
      gradient->host_inputs[source.iGrad] =
          is_in ? typed.op->host_inputs.at(source.iNonGrad) : typed.op->outInfo(source.iNonGrad);
    }
    gradient->setup();
    for (const auto& pair : gradient->gradOutToNonGradIn()) {
      const auto& got = gradient->outInfo(pair.first);
      const auto& wanted = typed.op->host_inputs.at(pair.second);
      if (got.shape() != wanted.shape() || got.dataType() != wanted.dataType()) {
        throw std::logic_error("a gradient is not of its input's shape and type");
      }
    }
    typed.op = std::move(gradient);
  });
}

// Input `index` of the gradient operator: the forward's input i as i, the gradient of its output o
// as -1 - o; -1000 past the end.
int poplar_host_session_source(void* session, int index) {
  for (const auto& source : static_cast<Session*>(session)->op->gradInputInfo()) {
    if (source.iGrad != index) continue;
    return source.type == popart::GradOpInType::In ? source.iNonGrad : -1 - source.iNonGrad;
  }
  return -1000;
}

int poplar_host_session_outputs(void* session) {
  return static_cast<int>(static_cast<Session*>(session)->op->host_outputs.size());
}

// The rank of an output; its type and at most 8 sizes go to the pointers.
int poplar_host_session_output(void* session, int index, int* type, int64_t* shape) {
  const auto& info = static_cast<Session*>(session)->op->host_outputs.at(index);
  *type = static_cast<int>(std::find(std::begin(kTypes), std::end(kTypes), info.dataType()) -
                           std::begin(kTypes));
  std::copy(info.shape().begin(), info.shape().end(), shape);
  return info.rank();
}

// "name=value;..." that the operator tells about itself: outline 0 (cache key) or 1 (outlining).
const char* poplar_host_session_serialised(void* session, int outline) {
  static std::string out;
  popart::OpSerialiserBase serialiser;
  const auto& op = *static_cast<Session*>(session)->op;
  outline ? op.appendOutlineAttributes(serialiser) : op.appendAttributes(serialiser);
  out.clear();
  for (const auto& item : serialiser.host_attributes) out += item.first + "=" + item.second + ";";
  return out.c_str();
}

int poplar_host_session_run(void* session, unsigned tiles, unsigned seed,
                            const void* const* inputs) {
  return guarded([&] { run(*static_cast<Session*>(session), tiles, seed, inputs); });
}

void poplar_host_session_read(void* session, int index, void* data) {
  const auto& bytes = static_cast<Session*>(session)->results.at(index);
  std::memcpy(data, bytes.data(), bytes.size());
}

// rounds, compute sets run, vertices, bytes of the fullest tile, tiles in use
void poplar_host_session_report(void* session, int64_t* figures) {
  const auto& report = static_cast<Session*>(session)->report;
  figures[0] = report.rounds;
  figures[1] = report.compute_sets;
  figures[2] = report.vertices;
  figures[3] = report.max_tile_bytes;
  figures[4] = report.tiles_used;
}

}  // extern "C"
