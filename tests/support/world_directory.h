// A temporary directory that all ranks of a world share; removed with everything in it at the end.
#pragma once

#include <filesystem>

#include "bsp/world.h"

namespace superstep::testing {

class WorldDirectory {
 public:
  // Collective, constructor and destructor.
  explicit WorldDirectory(bsp::World& world);
  WorldDirectory(const WorldDirectory&) = delete;
  WorldDirectory& operator=(const WorldDirectory&) = delete;
  ~WorldDirectory();

  const std::filesystem::path& path() const { return path_; }

 private:
  bsp::World& world_;
  std::filesystem::path path_;
};

}  // namespace superstep::testing
