// The SDK's headers that our operators use, without the warnings of PopART's own.
#pragma once
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"      // PopART's headers
#pragma GCC diagnostic ignored "-Wunused-parameter"  // PopART's headers
#include <popart/op.hpp>
#include <popart/opmanager.hpp>
#include <popart/opserialiser.hpp>
#include <popart/popx/opx.hpp>
#include <popart/popx/opxmanager.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#pragma GCC diagnostic pop
