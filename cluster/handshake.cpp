#include "cluster/handshake.h"

#include <string>

#include <fmt/format.h>

#include "base/version.h"

namespace superstep::cluster {

void require_same_program(bsp::World& world) {
  world.require_same("program version", kVersion);
  world.require_same("commit", git_id());
  world.require_same("compiler", kCompiler);
  world.require_same("build flags", kBuildFlags);
  world.require_same("instruction set", instruction_set());
}

void require_same_run(bsp::World& world, const RunSetup& setup) {
  require_same_program(world);
  for (const auto& [path, value] : flatten(setup.config)) {
    if (path != "data.directory" && path != "train.warm_start") {
      world.require_same(fmt::format("configuration key '{}'", path), value);
    }
  }
  world.require_same("content of train.warm_start", setup.warm_start);
  world.require_same("model", setup.model.layout().describe());
  world.require_same("data", setup.data.fingerprint);
}

}  // namespace superstep::cluster
