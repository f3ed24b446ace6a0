#include "worker/initializers.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/philox.h"

namespace superstep::worker {

EntryInitializer weight_initializer(Initializer initializer, Fan fan) {
  const auto in = static_cast<double>(fan.in);
  const auto out = static_cast<double>(fan.out);
  switch (initializer) {
    case Initializer::kHeNormal:
      return {.kind = EntryInitializer::Kind::kNormal,
              .value = static_cast<float>(std::sqrt(2.0 / in))};
    case Initializer::kGlorotUniform:
      return {.kind = EntryInitializer::Kind::kUniform,
              .value = static_cast<float>(std::sqrt(6.0 / (in + out)))};
    case Initializer::kZeros:
      return EntryInitializer::constant(0.0F);
  }
  SUPERSTEP_CHECK(false, "initializer");
  return {};
}

void fill_entry(const EntryInitializer& initializer, std::uint64_t seed, int entry,
                std::span<float> values, std::uint64_t first_element) {
  const PhiloxStream stream(seed, stream_id("initializer"), entry);
  switch (initializer.kind) {
    case EntryInitializer::Kind::kConstant:
      std::fill(values.begin(), values.end(), initializer.value);
      return;
    case EntryInitializer::Kind::kNormal:
      fill_normal(values, stream, 0.0F, initializer.value, first_element);
      return;
    case EntryInitializer::Kind::kUniform:
      fill_uniform(values, stream, -initializer.value, initializer.value, first_element);
      return;
  }
}

}  // namespace superstep::worker
