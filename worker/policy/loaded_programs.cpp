#include "worker/policy/loaded_programs.h"

#include <algorithm>

#include "base/check.h"

namespace superstep::worker {

StepPrograms& LoadedPrograms::load(std::span<const float> parameters) {
  SUPERSTEP_CHECK(static_cast<std::int64_t>(parameters.size()) == copy_.size(),
                  "elements to load:", parameters.size(), copy_.size());
  std::copy(parameters.begin(), parameters.end(), copy_.span().begin());
  return programs_;
}

}  // namespace superstep::worker
