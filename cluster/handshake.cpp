#include "cluster/handshake.h"

#include <bit>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <unistd.h>

#include "base/processor.h"
#include "base/version.h"
#include "cluster/libraries.h"
#include "kernels/precision.h"
#include "kernels/threads.h"

namespace superstep::cluster {

namespace {

bool changes_numbers(std::string_view variable) {
  return variable.starts_with("DNNL_") || variable.starts_with("ONEDNN_") ||
         variable.starts_with("GLIBC_TUNABLES=") || variable.starts_with("LD_PRELOAD=");
}

std::string numeric_environment() {
  std::string found;
  for (char* const* variable = ::environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (changes_numbers(*variable)) {
      found += fmt::format("{}{}", found.empty() ? "" : " ", *variable);
    }
  }
  return found;
}

}  // namespace

bsp::Agreement program_fields(const std::string& mpi_library) {
  bsp::Agreement fields;
  fields.add("program version", std::string(kVersion));
  fields.add("commit", std::string(git_id()));
  fields.add("compiler", std::string(kCompiler));
  fields.add("build type", std::string(kBuildType));
  fields.add("build flags", std::string(kBuildFlags));
  fields.add("sanitizers", std::string(kSanitizers));
  fields.add("instruction set", std::string(instruction_set()));
  for (const auto& [name, version] : library_versions()) {
    fields.add(fmt::format("version of {}", name), version);
  }
  fields.add("wire version", std::to_string(bsp::wire_version()));
  fields.add("byte order", std::endian::native == std::endian::little ? "little" : "big");
  fields.add("MPI library", mpi_library);
  fields.add("C library", ::gnu_get_libc_version());
  fields.add("processor features", processor_features());
  fields.add("arithmetic of bf16", std::string(kernels::bf16_arithmetic()));
  fields.add("floating-point mode", floating_point_mode());
  fields.add("threads per kernel", std::to_string(kernels::team_size()));
  fields.add("environment variables that change numbers", numeric_environment());
  return fields;
}

bsp::Agreement run_fields(const RunSetup& setup, const std::string& mpi_library, int num_ranks) {
  bsp::Agreement fields = program_fields(mpi_library);
  for (const auto& [path, value] : flatten(setup.config)) {
    if (path != "data.directory" && path != "train.warm_start") {
      fields.add(fmt::format("configuration key '{}'", path), value);
    }
  }
  fields.add("content of train.warm_start", setup.warm_start);
  fields.add("model", setup.model.layout().describe());
  fields.add("shards",
             fmt::format("{}", fmt::join(setup.model.layout().shard_cuts(num_ranks), " ")));
  fields.add("data", setup.data.fingerprint);
  return fields;
}

void require_same_program(bsp::World& world, const std::string& mpi_library) {
  program_fields(mpi_library).require(world);
}

void require_same_run(bsp::World& world, const RunSetup& setup, const std::string& mpi_library) {
  run_fields(setup, mpi_library, world.size()).require(world);
}

}  // namespace superstep::cluster
