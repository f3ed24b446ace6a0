#include "cluster/launcher_check.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/env.h"
#include "base/error.h"

namespace superstep::cluster {

namespace {

struct Launcher {
  const char* variable;  // how many processes it started
  const char* name;
};

// SLURM_STEP_NUM_TASKS is set by srun for its processes; the script of a batch job has no step.
constexpr Launcher kLaunchers[] = {{"SLURM_STEP_NUM_TASKS", "srun"},
                                   {"PMI_SIZE", "the mpirun of another MPI"}};

// Foreign variables: what is no number says nothing.
std::int64_t count_in(const char* variable) {
  const std::optional<std::string> text = environment_variable(variable);
  std::int64_t count = 0;
  if (text) {
    std::from_chars(text->data(), text->data() + text->size(), count);
  }
  return count;
}

}  // namespace

void require_known_launcher(const bsp::Environment& environment) {
  if (environment.under_mpirun()) {
    return;
  }
  for (const Launcher& launcher : kLaunchers) {
    const std::int64_t count = count_in(launcher.variable);
    if (count > 1) {
      throw InvalidArgument(
          "superstep",
          fmt::format("{} started {} processes that do not know of each other ({}={}): expected "
                      "Open MPI's mpirun, or one process. Within a Slurm allocation run "
                      "mpirun -n {} superstep ..., or superstep launch",
                      launcher.name, count, launcher.variable, count, count));
    }
  }
}

}  // namespace superstep::cluster
