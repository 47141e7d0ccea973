// Our own declaration of the one Poprithms name that PopART's headers mention.
#pragma once

namespace poprithms {
namespace memory {
namespace inplace {
class Proposal;
}  // namespace inplace
}  // namespace memory
}  // namespace poprithms
