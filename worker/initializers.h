// First values of parameters: a function of (seed, entry of the layout, element) alone, so every
// world starts with the same bits and the owner of a part can fill just that part.
//
//   EntryInitializer weight = weight_initializer(Initializer::kHeNormal, {.in = 784, .out = 200});
//   fill_entry(weight, seed, entry, values);
#pragma once

#include <cstdint>
#include <span>

#include "worker/layers.h"

namespace superstep::worker {

struct EntryInitializer {
  enum class Kind : std::uint8_t { kConstant, kNormal, kUniform };
  Kind kind = Kind::kConstant;
  float value = 0.0F;  // the constant, the standard deviation, or the half width around zero

  static EntryInitializer constant(float value) {
    return {.kind = Kind::kConstant, .value = value};
  }
};

// Values that enter one output and outputs one value enters; for a convolution times kernel area.
struct Fan {
  std::int64_t in = 0;
  std::int64_t out = 0;
};

EntryInitializer weight_initializer(Initializer initializer, Fan fan);

// values[0] is element first_element of the entry.
void fill_entry(const EntryInitializer& initializer, std::uint64_t seed, int entry,
                std::span<float> values, std::uint64_t first_element = 0);

}  // namespace superstep::worker
