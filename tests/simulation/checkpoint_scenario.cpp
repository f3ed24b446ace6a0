#include "tests/simulation/checkpoint_scenario.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/checkpoint_writer.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/simulation/reference_run.h"

namespace superstep::simulation {

namespace fs = std::filesystem;
using paramserver::CheckpointWriter;
using paramserver::ElementRange;

namespace {

constexpr std::int64_t kSupersteps = 6;
constexpr std::array<std::string_view, 2> kArrays = {"parameters", "momentum"};

std::int64_t num_elements() {
  return testing::small_layout().size();
}

// What a superstep does to an element: a function of where it is and of when, as training is.
void update(std::span<float> values, std::int64_t first_element, std::int64_t superstep) {
  std::int64_t index = first_element + 13 * superstep;
  for (float& value : values) {
    value = 0.75F * value + 0.125F * static_cast<float>(index++ % 97);
  }
}

// The elements of `range` after no superstep.
std::vector<float> initial(ElementRange range) {
  std::vector<float> values(static_cast<std::size_t>(range.length()));
  std::iota(values.begin(), values.end(), static_cast<float>(range.begin));
  return values;
}

// The state hashes of the undisturbed run by superstep, computed in one piece.
std::vector<Hash128> right_hashes() {
  const ElementRange whole{0, num_elements()};
  std::array<std::vector<float>, kArrays.size()> arrays = {initial(whole), initial(whole)};
  std::vector<Hash128> hashes;
  for (std::int64_t superstep = 0; superstep <= kSupersteps; ++superstep) {
    paramserver::Manifest manifest = testing::small_manifest(superstep);
    for (std::size_t a = 0; a < kArrays.size(); ++a) {
      paramserver::Manifest::Array array{
          .name = std::string(kArrays[a]), .num_elements = whole.end, .blocks = {}};
      const std::vector<std::uint64_t> halves = paramserver::hash_blocks(arrays[a]);
      for (std::size_t i = 0; i < halves.size(); i += 2) {
        array.blocks.push_back({.low = halves[i], .high = halves[i + 1]});
      }
      manifest.arrays.push_back(std::move(array));
      update(arrays[a], 0, superstep);
    }
    hashes.push_back(paramserver::state_hash(manifest));
  }
  return hashes;
}

// A rank's shards and where it stands.
class ShardState {
 public:
  ShardState(const bsp::World& world, const Checkpoint& resume_from)
      : range_(testing::small_layout().shard(world.rank(), world.size())) {
    for (std::size_t a = 0; a < kArrays.size(); ++a) {
      arrays_[a] = initial(range_);
    }
    if (resume_from.has_value()) {
      const paramserver::CheckpointReader reader(*resume_from);
      for (std::size_t a = 0; a < kArrays.size(); ++a) {
        reader.read(std::string(kArrays[a]), range_, arrays_[a]);
      }
      superstep_ = reader.manifest().position.superstep;
      hash_ = reader.manifest().state_hash;
    }
  }

  std::int64_t superstep() const { return superstep_; }
  std::string hash() const { return to_text(hash_); }  // of the newest checkpoint
  void set_hash(Hash128 hash) { hash_ = hash; }
  void advance() {
    for (std::vector<float>& array : arrays_) {
      update(array, range_.begin, superstep_);
    }
    ++superstep_;
  }
  std::vector<paramserver::ArrayPart> parts() const {
    std::vector<paramserver::ArrayPart> parts;
    for (std::size_t a = 0; a < kArrays.size(); ++a) {
      parts.push_back({.name = std::string(kArrays[a]),
                       .num_elements = num_elements(),
                       .range = range_,
                       .values = arrays_[a]});
    }
    return parts;
  }

 private:
  ElementRange range_;
  std::array<std::vector<float>, kArrays.size()> arrays_;
  std::int64_t superstep_ = 0;
  Hash128 hash_;
};

// What a seed decides about the run, the same for all its attempts.
struct RunOptions {
  std::int64_t every = 1;
  CheckpointWriter::Run run = CheckpointWriter::Run::kInBackground;
  ProtocolFlaw flaw = ProtocolFlaw::kNone;
};

void delete_all(const fs::path& root) {
  for (const fs::path& path : paramserver::list_checkpoints(root)) {
    fs::remove_all(path);
  }
}

// A protocol with a mistake, made of the real one's steps.
Hash128 write_flawed(bsp::World& world, const fs::path& root, int keep, ProtocolFlaw flaw,
                     const ShardState& state) {
  const bool is_root = world.rank() == 0;
  const fs::path target = root / paramserver::step_directory_name(state.superstep());
  fs::path temporary = target;
  temporary += ".tmp";
  paramserver::Manifest manifest = testing::small_manifest(state.superstep());
  const std::vector<paramserver::ArrayPart> parts = state.parts();
  const auto ranges = paramserver::agree_on_parts(world, manifest.position, parts);
  for (std::size_t a = 0; a < parts.size(); ++a) {
    manifest.arrays.push_back(paramserver::gather_hashes(
        world, parts[a], paramserver::hash_blocks(parts[a].values), ranges[a]));
  }
  if (is_root) {
    paramserver::prepare(temporary, target, manifest);
    if (flaw == ProtocolFlaw::kPruneBeforeSeal) {
      delete_all(root);
    }
    if (flaw == ProtocolFlaw::kManifestBeforeShards) {
      paramserver::seal(temporary, target, manifest);
    }
  }
  world.sync();
  const bool sealed = flaw == ProtocolFlaw::kManifestBeforeShards;
  paramserver::write_parts(sealed ? target : temporary, parts, manifest.file_elements);
  if (flaw == ProtocolFlaw::kPruneBeforeSeal) {
    world.sync();
  }
  if (is_root && !sealed) {
    paramserver::seal(temporary, target, manifest);
  }
  if (is_root) {
    paramserver::prune_checkpoints(root, keep, {});
  }
  world.sync();
  std::uint64_t hash[] = {manifest.state_hash.low, manifest.state_hash.high};
  world.broadcast<std::uint64_t>(hash, 0);
  return {.low = hash[0], .high = hash[1]};
}

class CheckpointingRank {
 public:
  CheckpointingRank(bsp::World& world, fs::path root, int keep, const RunOptions& options,
                    const Checkpoint& resume_from, RunRecord& record)
      : world_(world),
        root_(std::move(root)),
        keep_(keep),
        options_(options),
        record_(record),
        state_(world, resume_from),
        writer_(world) {}

  void go() {
    while (state_.superstep() < kSupersteps) {
      Simulation::current()->step();
      state_.advance();
      go_on_writing();
      if (state_.superstep() % options_.every == 0 || state_.superstep() == kSupersteps) {
        save();
      }
      world_.sync();
    }
    finish_writing();
    record_.ends.push_back(state_.hash());
  }

 private:
  void note(const std::optional<paramserver::WrittenCheckpoint>& written) {
    if (written.has_value()) {
      record_.note_written(written->superstep);
      state_.set_hash(written->state_hash);
    }
  }

  void go_on_writing() {
    const std::vector<int> busy = world_.allgather(writer_.is_busy() ? 1 : 0);
    if (writer_.is_in_work() && std::find(busy.begin(), busy.end(), 1) == busy.end()) {
      note(writer_.advance());
    }
  }

  void finish_writing() {
    if (writer_.is_in_work()) {
      note(writer_.finish());
    }
  }

  void save() {
    if (options_.flaw != ProtocolFlaw::kNone) {
      state_.set_hash(write_flawed(world_, root_, keep_, options_.flaw, state_));
      record_.note_written(state_.superstep());
      return;
    }
    finish_writing();
    const std::vector<paramserver::ArrayPart> parts = state_.parts();
    writer_.begin(options_.run, root_, testing::small_manifest(state_.superstep()), parts,
                  [this] { paramserver::prune_checkpoints(root_, keep_, {}); });
    if (options_.run == CheckpointWriter::Run::kHere) {
      finish_writing();
    }
  }

  bsp::World& world_;
  fs::path root_;
  int keep_;
  RunOptions options_;
  RunRecord& record_;
  ShardState state_;
  CheckpointWriter writer_;
};

SupervisedRun make_checkpointing_run(const RunOptions& options, int keep) {
  SupervisedRun run;
  run.checkpoints = fs::path(kRoot) / "run/checkpoints";
  run.keep = keep;
  run.body = [=, root = run.checkpoints](bsp::World& world, const Checkpoint& resume_from,
                                         RunRecord& record) {
    CheckpointingRank(world, root, keep, options, resume_from, record).go();
  };
  return run;
}

// Also against hashes that nothing but arithmetic has made.
ReferenceRun make_checkpointing_reference() {
  constexpr int kKeepEvery = 1000;
  ReferenceRun made = make_reference(make_checkpointing_run({}, kKeepEvery));
  const std::vector<Hash128> right = right_hashes();
  for (std::int64_t superstep = 1; superstep <= kSupersteps; ++superstep) {
    SUPERSTEP_CHECK(made.states.at(superstep) == right[static_cast<std::size_t>(superstep)],
                    "state hash at superstep", superstep);
  }
  SUPERSTEP_CHECK(made.end == to_text(right.back()), "state hash at the end");
  return made;
}

}  // namespace

Problem run_flawed_checkpoint_seed(std::uint64_t seed, const CheckpointFlaws& flaws) {
  static const ReferenceRun reference = make_checkpointing_reference();
  Simulation simulation(seed);
  PhiloxStream& random = simulation.random();
  const RunOptions options{.every = 1 + static_cast<std::int64_t>(random.below(3)),
                           .run = random.below(3) == 0 ? CheckpointWriter::Run::kHere
                                                       : CheckpointWriter::Run::kInBackground,
                           .flaw = flaws.protocol};
  SupervisedRun run = make_checkpointing_run(options, 1 + static_cast<int>(random.below(3)));
  compare_with(reference, options.every, run);
  make_run_directory(simulation, run.checkpoints.parent_path());
  simulation.disk().set_flaw(flaws.disk);  // what was made until here lasts
  return supervise(simulation, run);
}

Problem run_checkpoint_seed(std::uint64_t seed) {
  return run_flawed_checkpoint_seed(seed, {});
}

}  // namespace superstep::simulation
