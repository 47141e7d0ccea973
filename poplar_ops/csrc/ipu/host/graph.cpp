// Building a graph of the simulation: tensors, variables, vertices, programs.
#include <fstream>
#include <numeric>
#include <poplar/Graph.hpp>
#include <stdexcept>

#include "machine.hpp"

namespace poplar {

const Type BOOL("bool", 1), CHAR("char", 1), UNSIGNED_CHAR("unsigned char", 1),
    SIGNED_CHAR("signed char", 1), SHORT("short", 2), UNSIGNED_SHORT("unsigned short", 2),
    INT("int", 4), UNSIGNED_INT("unsigned", 4), HALF("half", 2), FLOAT("float", 4);

namespace {

std::size_t product(const std::vector<std::size_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

}  // namespace

Tensor::Tensor(Type type, std::vector<std::size_t> shape, std::vector<std::uint32_t> elements)
    : type_(std::move(type)), shape_(std::move(shape)), elements_(std::move(elements)) {
  require(product(shape_) == elements_.size(), "a tensor's elements do not fill its shape");
}

Type Tensor::elementType() const {
  return type_;
}
unsigned Tensor::rank() const {
  return static_cast<unsigned>(shape_.size());
}
std::vector<std::size_t> Tensor::shape() const {
  return shape_;
}
std::size_t Tensor::numElements() const {
  return elements_.size();
}

std::size_t Tensor::dim(unsigned index) const {
  require(index < shape_.size(), "a tensor has no dimension " + std::to_string(index));
  return shape_[index];
}

Tensor Tensor::operator[](std::size_t index) const {
  Tensor row = slice(index, index + 1);
  row.shape_.erase(row.shape_.begin());
  return row;
}

Tensor Tensor::slice(std::size_t begin, std::size_t end) const {
  return slice(begin, end, 0);
}

Tensor Tensor::slice(std::size_t begin, std::size_t end, unsigned dimension) const {
  require(begin <= end && end <= dim(dimension), "a slice past the end of a tensor");
  std::size_t inner = 1;
  for (std::size_t i = dimension + 1; i < shape_.size(); ++i) inner *= shape_[i];
  auto shape = shape_;
  shape[dimension] = end - begin;
  std::vector<std::uint32_t> elements;
  elements.reserve(product(shape));
  for (std::size_t row = 0; row < elements_.size(); row += shape_[dimension] * inner) {
    const auto first = elements_.begin() + static_cast<std::ptrdiff_t>(row);
    elements.insert(elements.end(), first + static_cast<std::ptrdiff_t>(begin * inner),
                    first + static_cast<std::ptrdiff_t>(end * inner));
  }
  return {type_, shape, std::move(elements)};
}

Tensor Tensor::flatten() const {
  return {type_, {elements_.size()}, elements_};
}

Tensor Tensor::reshape(ArrayRef<std::size_t> shape) const {
  return {type_, std::vector<std::size_t>(shape.begin(), shape.end()), elements_};
}

Tensor Tensor::dimShuffle(ArrayRef<unsigned> permutation) const {
  require(permutation.size() == rank(), "dimShuffle needs one number a dimension");
  std::vector<std::size_t> strides(rank(), 1), shape, steps;
  for (std::size_t i = rank(); i-- > 1;) strides[i - 1] = strides[i] * shape_[i];
  for (const auto from : permutation) {
    shape.push_back(dim(from));
    steps.push_back(strides[from]);
  }
  std::vector<std::uint32_t> elements;
  elements.reserve(elements_.size());
  std::vector<std::size_t> index(rank(), 0);
  for (std::size_t count = 0; count < elements_.size(); ++count) {
    elements.push_back(
        elements_[std::inner_product(index.begin(), index.end(), steps.begin(), std::size_t{0})]);
    for (std::size_t i = rank(); i-- > 0;) {
      if (++index[i] < shape[i]) break;
      index[i] = 0;
    }
  }
  return {type_, shape, std::move(elements)};
}

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension) {
  require(tensors.size() > 0, "concat of no tensors");
  auto shape = tensors[0].shape();
  require(dimension < shape.size(), "concat along a dimension that is not there");
  std::size_t outer = 1;
  for (unsigned i = 0; i < dimension; ++i) outer *= shape[i];
  shape[dimension] = 0;
  for (const auto& tensor : tensors) {
    auto others = tensor.shape();
    shape[dimension] += tensor.dim(dimension);
    others[dimension] = shape[dimension];
    require(others == shape && tensor.elementType() == tensors[0].elementType(),
            "concat of tensors that do not fit");
  }
  std::vector<std::uint32_t> elements;
  elements.reserve(product(shape));
  for (std::size_t row = 0; row < outer; ++row) {
    for (const auto& tensor : tensors) {
      const auto size = static_cast<std::ptrdiff_t>(tensor.numElements() / outer);
      const auto from = tensor.host_elements().begin() + static_cast<std::ptrdiff_t>(row) * size;
      elements.insert(elements.end(), from, from + size);
    }
  }
  return {tensors[0].elementType(), shape, std::move(elements)};
}

unsigned Target::getNumWorkerContexts() const {
  return host::kWorkers;
}
unsigned Target::getBytesPerTile() const {
  return 638976;
}  // 624 KiB, an IPU Mk2

const Target& Graph::getTarget() const {
  return machine_->target;
}

bool Graph::addCodelets(StringRef source, CodeletFileType, StringRef, StringRef) {
  const std::string path = source;
  require(std::ifstream(path).good(), "no codelet file at " + path);
  for (const auto& known : machine_->codelets) {
    if (known == path) return false;
  }
  machine_->codelets.push_back(path);
  return true;
}

Tensor Graph::addVariable(const Type& type, ArrayRef<std::size_t> shape,
                          const DebugContext& context) {
  const std::vector<std::size_t> sizes(shape.begin(), shape.end());
  const auto first = static_cast<std::uint32_t>(machine_->memory.size());
  const auto count = static_cast<std::uint32_t>(product(sizes));
  machine_->variables.push_back({context.getPathName(), first, count, type.host_size()});
  machine_->memory.resize(first + count, 0xa5a5a5a5a5a5a5a5);  // nothing may rely on what is there
  machine_->tile_of.resize(first + count, host::kUnmapped);
  std::vector<std::uint32_t> elements(count);
  std::iota(elements.begin(), elements.end(), first);
  return {type, sizes, std::move(elements)};
}

ComputeSet Graph::addComputeSet(const DebugContext& context) {
  machine_->compute_sets.push_back(context.getPathName());
  return ComputeSet(static_cast<unsigned>(machine_->compute_sets.size() - 1));
}

VertexRef Graph::addVertex(ComputeSet compute_set, StringRef name) {
  require(!machine_->codelets.empty(), "addVertex before addCodelets");
  host::GraphVertex vertex;
  vertex.type = &host::vertex_class(name);
  vertex.compute_set = compute_set.getId();
  machine_->vertices.push_back(std::move(vertex));
  return VertexRef(static_cast<unsigned>(machine_->vertices.size() - 1));
}

void Graph::connect(FieldRef field, const Tensor& tensor) {
  auto& vertex = machine_->vertices.at(field.host_vertex());
  const auto& known = vertex.type->field(field.host_name());
  const std::string where = vertex.type->name + "." + known.name;
  require(known.direction != host::Direction::kState, where + " is a value, not an edge");
  require(known.type == std::string(tensor.elementType().toString()),
          where + " holds " + known.type + ", got " + std::string(tensor.elementType().toString()));
  require(tensor.rank() == (known.is_vector ? 1u : 0u),
          where + " got a tensor of rank " + std::to_string(tensor.rank()));
  for (const auto& edge : vertex.edges) require(edge.field != &known, where + " connected twice");
  vertex.edges.push_back({&known, tensor});
}

void Graph::set_bytes(const FieldRef& field, const char* type, const void* value,
                      std::size_t size) {
  auto& vertex = machine_->vertices.at(field.host_vertex());
  const auto& known = vertex.type->field(field.host_name());
  const std::string where = vertex.type->name + "." + known.name;
  require(known.direction == host::Direction::kState, where + " is an edge, not a value");
  require(known.type == type, where + " is " + known.type + ", got " + type);
  const auto* bytes = static_cast<const std::uint8_t*>(value);
  vertex.values[known.name].assign(bytes, bytes + size);
}

void Graph::setTileMapping(VertexRef vertex, unsigned tile) {
  require(tile < machine_->target.getNumTiles(), "a vertex on tile " + std::to_string(tile));
  machine_->vertices.at(vertex.getId()).tile = tile;
}

void Graph::setTileMapping(const Tensor& tensor, unsigned tile) {
  require(tile < machine_->target.getNumTiles(), "a tensor on tile " + std::to_string(tile));
  for (const auto element : tensor.host_elements()) machine_->tile_of[element] = tile;
}

void Graph::setPerfEstimate(const VertexRef&, std::uint64_t, std::uint64_t) {}

}  // namespace poplar
