#include "tests/paramserver/checkpoint_fixture.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <span>

#include "base/check.h"
#include "base/philox.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_serialize.h"

namespace superstep::testing {

namespace {

namespace fs = std::filesystem;
using paramserver::kBlockElements;
using paramserver::Manifest;

constexpr std::string_view kArrays[] = {"parameters", "momentum"};

std::string as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

paramserver::ParameterLayout small_layout() {
  paramserver::ParameterLayout layout;
  layout.add({.name = "dense1/weight", .shape = {100, 170}});
  layout.add({.name = "dense1/bias", .shape = {170}, .decayed = false});
  layout.freeze();
  SUPERSTEP_CHECK(layout.num_blocks() == 5);
  return layout;
}

std::vector<float> whole_array(std::string_view name, int version) {
  std::vector<float> values(static_cast<std::size_t>(small_layout().size()));
  fill_normal(values, PhiloxStream(17, stream_id(name), version), 0.0F, 1.0F);
  return values;
}

Manifest small_manifest(std::int64_t superstep) {
  Manifest manifest;
  manifest.run_id = "run-1";
  manifest.program_version = "0.0";
  manifest.model_description = small_layout().describe();
  manifest.configuration = "[train]\nepochs = 1\n";
  manifest.optimizer = {.kind = paramserver::OptimizerKind::kMomentum, .learning_rate = 0.25};
  manifest.schedule = {.kind = paramserver::ScheduleKind::kStep, .boundaries = {5, 9}};
  manifest.position = {.superstep = superstep, .epoch = 1, .step_in_epoch = 3, .seed = 7};
  manifest.numbers = {{"best_accuracy", 0.5}, {"loss", -1.25}};
  manifest.texts = {{"best", "step-00000001"}};
  manifest.file_elements = kSmallFileElements;
  return manifest;
}

Manifest complete_manifest(std::int64_t superstep, int version) {
  Manifest manifest = small_manifest(superstep);
  for (const std::string_view name : kArrays) {
    const std::vector<float> values = whole_array(name, version);
    Manifest::Array array{.name = std::string(name),
                          .num_elements = static_cast<std::int64_t>(values.size()),
                          .blocks = {}};
    for (std::size_t begin = 0; begin < values.size(); begin += kBlockElements) {
      array.blocks.push_back(
          hash_span<float>(std::span<const float>(values).subspan(begin, kBlockElements)));
    }
    manifest.arrays.push_back(std::move(array));
  }
  manifest.state_hash = state_hash(manifest);
  return manifest;
}

RankState::RankState(int rank, int num_ranks, int version) {
  const paramserver::ElementRange range = small_layout().shard(rank, num_ranks);
  for (const std::string_view name : kArrays) {
    const std::vector<float> whole = whole_array(name, version);
    arrays_.emplace_back(whole.begin() + range.begin, whole.begin() + range.end);
  }
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    parts_.push_back({.name = std::string(kArrays[i]),
                      .num_elements = small_layout().size(),
                      .range = range,
                      .values = arrays_[i]});
  }
}

fs::path write_small(bsp::World& world, const fs::path& root, std::int64_t superstep, int version) {
  const RankState state(world.rank(), world.size(), version);
  return write_checkpoint(world, root, small_manifest(superstep), state.parts()).directory;
}

std::map<std::string, std::string> files_in(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().native()] = read_bytes(entry.path());
  }
  return files;
}

std::map<std::string, std::string> expected_files(std::int64_t superstep, int version) {
  std::map<std::string, std::string> files;
  files["MANIFEST"] = as_text(encode_manifest(complete_manifest(superstep, version)));
  for (const std::string_view name : kArrays) {
    const std::vector<float> values = whole_array(name, version);
    const std::span<const float> whole(values);
    int index = 0;
    for (std::size_t begin = 0; begin < whole.size(); begin += kSmallFileElements) {
      const std::size_t count = std::min<std::size_t>(kSmallFileElements, whole.size() - begin);
      files[std::string(name) + "-0000" + std::to_string(index++) + ".bin"] =
          as_text(std::as_bytes(whole.subspan(begin, count)));
    }
  }
  return files;
}

std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  SUPERSTEP_CHECK(file.good(), "cannot open", path.native());
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  SUPERSTEP_CHECK(file.flush().good(), "cannot write", path.native());
}

void overwrite_byte(const fs::path& path, std::size_t offset, char byte) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset)).put(byte);
  SUPERSTEP_CHECK(file.flush().good(), "cannot write", path.native());
}

}  // namespace superstep::testing
