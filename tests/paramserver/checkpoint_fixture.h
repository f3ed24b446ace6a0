// A small state to checkpoint: two arrays of five blocks, three files each, filled from a formula.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bsp/world.h"
#include "paramserver/checkpoint.h"

namespace superstep::testing {

inline constexpr std::int64_t kSmallFileElements = 2 * paramserver::kBlockElements;

paramserver::ParameterLayout small_layout();

// The whole array; `version` tells states apart.
std::vector<float> whole_array(std::string_view name, int version = 0);

// A manifest of that state as the caller of write_checkpoint fills it.
paramserver::Manifest small_manifest(std::int64_t superstep);
// The same with arrays and state_hash, computed serially: what a checkpoint must hold.
paramserver::Manifest complete_manifest(std::int64_t superstep, int version = 0);

// What one of `num_ranks` ranks holds of the state.
class RankState {
 public:
  RankState(int rank, int num_ranks, int version = 0);
  // Valid while this object lives.
  const std::vector<paramserver::ArrayPart>& parts() const { return parts_; }

 private:
  std::vector<std::vector<float>> arrays_;
  std::vector<paramserver::ArrayPart> parts_;
};

// Collective: writes the state with all ranks of `world`.
std::filesystem::path write_small(bsp::World& world, const std::filesystem::path& root,
                                  std::int64_t superstep, int version = 0);

// Contents of every regular file by name.
std::map<std::string, std::string> files_in(const std::filesystem::path& directory);
// What files_in(a checkpoint of the state) must be.
std::map<std::string, std::string> expected_files(std::int64_t superstep, int version = 0);

std::string read_bytes(const std::filesystem::path& path);
void write_bytes(const std::filesystem::path& path, std::string_view bytes);
void overwrite_byte(const std::filesystem::path& path, std::size_t offset, char byte);

}  // namespace superstep::testing
