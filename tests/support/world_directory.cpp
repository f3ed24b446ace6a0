#include "tests/support/world_directory.h"

#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>

#include "base/check.h"

namespace superstep::testing {

WorldDirectory::WorldDirectory(bsp::World& world) : world_(world) {
  std::string name;
  if (world.rank() == 0) {
    name = (std::filesystem::temp_directory_path() / "superstep-test-XXXXXX").string();
    SUPERSTEP_CHECK(::mkdtemp(name.data()) != nullptr, "no temporary directory at", name);
  }
  path_ = world.allgather_string(name).front();
}

WorldDirectory::~WorldDirectory() {
  if (std::uncaught_exceptions() == 0) {
    world_.sync();
  }
  if (world_.rank() == 0) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
}

}  // namespace superstep::testing
