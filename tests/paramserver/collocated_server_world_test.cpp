// The collocated server against a serial oracle: the tree written out, one rank's worth of
// arithmetic.

#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/philox.h"
#include "bsp/slot_tree.h"
#include "paramserver/clip.h"
#include "paramserver/collocated_server.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::paramserver {
namespace {

constexpr int kSlots = 11;  // at least as many as the largest test world, not a power of two

ParameterLayout test_layout() {
  ParameterLayout layout;
  layout.add({.name = "a/weight", .shape = {70, 101}});
  layout.add({.name = "a/bias", .shape = {101}, .decayed = false});
  layout.add({.name = "norm/mean", .shape = {33}, .role = EntryRole::kStatistic, .fold = 0.25F});
  layout.add({.name = "b/weight", .shape = {101, 60}});
  layout.freeze();
  return layout;
}

// What slot `slot` pushes in update `step`; a slot may have no samples.
std::int64_t samples_of(int slot, std::int64_t step) {
  return (slot + step) % 5;
}

std::vector<float> gradient_of(const ParameterLayout& layout, int slot, std::int64_t step) {
  std::vector<float> values(static_cast<std::size_t>(layout.size()), 0.0F);
  if (samples_of(slot, step) == 0) {
    return values;
  }
  PhiloxStream stream(11, static_cast<std::uint64_t>(slot), static_cast<std::uint64_t>(step));
  for (const LayoutEntry& entry : layout.entries()) {
    for (std::int64_t i = 0; i < entry.num_elements(); ++i) {
      values[static_cast<std::size_t>(entry.offset + i)] = stream.uniform() - 0.5F;
    }
  }
  return values;
}

std::vector<float> initial(const ParameterLayout& layout) {
  std::vector<float> values = gradient_of(layout, 3, 1);
  return values;
}

// One rank's worth of arithmetic, written without the classes under test.
class Oracle {
 public:
  Oracle(const ParameterLayout& layout, CollocatedOptions options)
      : layout_(layout), options_(std::move(options)), values_(initial(layout)) {
    for (const StateArray& array : state_arrays(options_.optimizer)) {
      states_.emplace_back(static_cast<std::size_t>(layout.size()),
                           static_cast<float>(array.initial_value));
    }
  }

  void step(const ApplyOptions& apply) {
    ++step_;
    std::vector<float> mean = tree({0, kSlots});
    std::int64_t samples = 0;
    for (int slot = 0; slot < kSlots; ++slot) {
      samples += samples_of(slot, step_);
    }
    for (float& value : mean) {
      value /= static_cast<float>(samples);
    }
    clip(mean, apply);
    const double rate =
        learning_rate_at(options_.schedule, options_.optimizer.learning_rate, step_);
    for (std::size_t index = 0; index < layout_.entries().size(); ++index) {
      update_entry(index, mean, apply, rate);
    }
  }

  const std::vector<float>& values() const { return values_; }
  double norm() const { return norm_; }

 private:
  std::vector<float> tree(bsp::SlotRange range) const {
    if (range.length() == 1) {
      return gradient_of(layout_, range.begin, step_);
    }
    const int middle = bsp::split_point(range);
    std::vector<float> left = tree({range.begin, middle});
    const std::vector<float> right = tree({middle, range.end});
    for (std::size_t i = 0; i < left.size(); ++i) {
      left[i] += right[i];
    }
    return left;
  }

  void clip(std::vector<float>& mean, const ApplyOptions& apply) {
    std::vector<float> gradient(mean.size(), 0.0F);
    for (std::size_t index = 0; index < layout_.entries().size(); ++index) {
      const LayoutEntry& entry = layout_.entries()[index];
      const bool left_out = !apply.mask.empty() && !apply.mask[index];
      for (std::int64_t i = entry.offset; i < entry.offset + entry.num_elements(); ++i) {
        float& value = mean[static_cast<std::size_t>(i)];
        if (left_out) {
          value = 0.0F;
        } else if (entry.role == EntryRole::kTrainable) {
          if (options_.clip.value > 0.0) {
            value = std::min(std::max(value, static_cast<float>(-options_.clip.value)),
                             static_cast<float>(options_.clip.value));
          }
          gradient[static_cast<std::size_t>(i)] = value;
        }
      }
    }
    norm_ = std::numeric_limits<double>::quiet_NaN();
    if (options_.clip.global_norm > 0.0) {
      std::vector<double> blocks(static_cast<std::size_t>(layout_.num_blocks()));
      block_squared_norms<float>(gradient, blocks);
      norm_ = std::sqrt(superstep::paramserver::tree_sum(blocks));
      const double factor = global_norm_factor(norm_, options_.clip.global_norm);
      for (const LayoutEntry& entry : layout_.entries()) {
        if (entry.role == EntryRole::kTrainable) {
          scale<float>(
              std::span<float>(mean).subspan(static_cast<std::size_t>(entry.offset),
                                             static_cast<std::size_t>(entry.num_elements())),
              factor);
        }
      }
    }
  }

  void update_entry(std::size_t index, const std::vector<float>& mean, const ApplyOptions& apply,
                    double rate) {
    const LayoutEntry& entry = layout_.entries()[index];
    const bool left_out = !apply.mask.empty() && !apply.mask[index];
    const auto offset = static_cast<std::size_t>(entry.offset);
    const auto count = static_cast<std::size_t>(entry.num_elements());
    const std::span<const float> gradient = std::span<const float>(mean).subspan(offset, count);
    const std::span<float> values = std::span<float>(values_).subspan(offset, count);
    if (entry.role == EntryRole::kStatistic) {
      for (std::size_t i = 0; i < count && !left_out; ++i) {
        values[i] = (1.0F - entry.fold) * values[i] + entry.fold * gradient[i];
      }
      return;
    }
    if (left_out && apply.masked == MaskedState::kKeep) {
      return;
    }
    std::vector<std::span<float>> states;
    for (std::vector<float>& state : states_) {
      states.push_back(std::span<float>(state).subspan(offset, count));
    }
    update<float>(options_.optimizer,
                  {.step = step_, .learning_rate = rate, .decayed = entry.decayed}, gradient,
                  values, states);
  }

  const ParameterLayout& layout_;
  CollocatedOptions options_;
  std::vector<float> values_;
  std::vector<std::vector<float>> states_;
  std::int64_t step_ = 0;
  double norm_ = 0.0;
};

void push_slot(CollocatedServer& server, int slot) {
  const std::int64_t step = server.step() + 1;
  const std::vector<float> values = gradient_of(server.layout(), slot, step);
  const std::span<float> gradient = server.reserve(slot);
  std::copy(values.begin(), values.end(), gradient.begin());
  int bucket = 0;
  for (const ElementRange range : server.buckets()) {
    server.push(slot, bucket++,
                gradient.subspan(static_cast<std::size_t>(range.begin),
                                 static_cast<std::size_t>(range.length())));
  }
  server.push_summary(
      slot, {.num_samples = samples_of(slot, step), .num_correct = slot, .loss_sum = 0.125 * slot});
}

void push_slots(bsp::World& world, CollocatedServer& server) {
  for (int slot = 0; slot < kSlots; ++slot) {
    if (server.placement()[static_cast<std::size_t>(slot)] == world.rank()) {
      push_slot(server, slot);
    }
  }
}

CollocatedOptions momentum_options() {
  CollocatedOptions options;
  options.optimizer = {
      .kind = OptimizerKind::kMomentum, .learning_rate = 0.3, .weight_decay = 0.01};
  options.num_slots = kSlots;
  return options;
}

std::vector<float> copy_of(CollocatedServer& server) {
  const std::span<const float> buffer = server.pull().buffer();
  return {buffer.begin(), buffer.end()};
}

// Four updates (the third with `apply`) give the oracle's bits.
void expect_oracle(bsp::World& world, const CollocatedOptions& options,
                   const ApplyOptions& apply = {}) {
  const ParameterLayout layout = test_layout();
  CollocatedServer server(world, layout, options);
  server.load_parameters(initial(layout));
  Oracle oracle(layout, options);
  for (int i = 0; i < 4; ++i) {
    const ApplyOptions now = i == 2 ? apply : ApplyOptions{};
    push_slots(world, server);
    const StepResult result = server.apply_gradients(now);
    oracle.step(now);
    EXPECT_EQ(copy_of(server), oracle.values()) << "update " << i + 1;
    if (options.clip.global_norm > 0.0) {
      EXPECT_EQ(result.gradient_norm, oracle.norm());
    }
    EXPECT_EQ(result.total.num_correct, kSlots * (kSlots - 1) / 2);
    world.sync();  // nobody pushes while another rank still compares
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, GivesTheBitsOfTheSerialTree) {
  expect_oracle(world, momentum_options());
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, DedicatedServersGiveTheBitsOfTheSerialTree) {
  for (int servers = 1; servers < world.size(); ++servers) {
    CollocatedOptions options = momentum_options();
    options.num_servers = servers;
    options.verify_every = 2;
    expect_oracle(world, options, {.mask = {true, false, true, false}});
    options.clip = {.value = 0.2, .global_norm = 0.7};
    expect_oracle(world, options);
  }
}

SUPERSTEP_WORLD_TEST(CollocatedServer, DedicatedServersHoldAllStateAndWorkersNone) {
  for (int servers = 1; servers < world.size(); ++servers) {
    const ParameterLayout layout = test_layout();
    CollocatedOptions options = momentum_options();
    options.num_servers = servers;
    CollocatedServer server(world, layout, options);
    const std::vector<ArrayPart> parts = server.parts();
    std::int64_t own = 0;
    for (const ArrayPart& part : parts) {
      own += static_cast<std::int64_t>(part.values.size());
    }
    if (server.claim_slot().has_value()) {
      EXPECT_EQ(own, 0) << "worker " << world.rank();
    }
    EXPECT_EQ(world.allreduce(own, bsp::ReduceOp::kSum), 2 * layout.size());
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST(CollocatedServer, RefusesServersWithoutAWorker) {
  const ParameterLayout layout = test_layout();
  CollocatedOptions options = momentum_options();
  options.num_servers = world.size();
  EXPECT_THROW(CollocatedServer(world, layout, options), InvalidArgument);
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, SharesSummariesWithoutAnUpdate) {
  const ParameterLayout layout = test_layout();
  CollocatedServer server(world, layout, momentum_options());
  server.load_parameters(initial(layout));
  for (int slot = 0; slot < kSlots; ++slot) {
    if (server.placement()[static_cast<std::size_t>(slot)] == world.rank()) {
      server.push_summary(slot, {.num_samples = 2, .num_correct = slot});
    }
  }
  if (world.rank() == world.size() - 1) {
    server.raise_flags(4);
  }
  const StepResult result = server.share_summaries(4);
  EXPECT_EQ(result.total.num_samples, 2 * kSlots);
  EXPECT_EQ(result.total.num_correct, kSlots * (kSlots - 1) / 2);
  EXPECT_TRUE(result.skipped);
  EXPECT_EQ(result.step, 0);
  EXPECT_EQ(copy_of(server), initial(layout));
  EXPECT_FALSE(server.share_summaries(4).skipped);  // flags are of one step
  expect_oracle(world, momentum_options());
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, EveryOptimizerGivesTheBitsOfTheSerialTree) {
  for (const OptimizerKind kind :
       {OptimizerKind::kSgd, OptimizerKind::kNesterov, OptimizerKind::kAdagrad,
        OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
    CollocatedOptions options = momentum_options();
    options.optimizer.kind = kind;
    options.optimizer.learning_rate = 0.01;
    expect_oracle(world, options);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, ClipsByValueAndGlobalNorm) {
  CollocatedOptions options = momentum_options();
  options.clip = {.value = 0.2, .global_norm = 0.7};
  expect_oracle(world, options);
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, BucketsDoNotChangeBits) {
  CollocatedOptions options = momentum_options();
  options.bucket_bytes = 5000;
  expect_oracle(world, options);
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, RandomPlacementsDoNotChangeBits) {
  const ParameterLayout layout = test_layout();
  CollocatedServer server(world, layout, momentum_options());
  server.load_parameters(initial(layout));
  Oracle oracle(layout, momentum_options());
  PhiloxStream stream(5, 1);
  for (int i = 0; i < 6; ++i) {
    std::vector<int> placement(kSlots);
    for (int& rank : placement) {
      rank = static_cast<int>(stream.below(static_cast<std::uint64_t>(world.size())));
    }
    server.set_placement(placement);
    push_slots(world, server);
    server.apply_gradients();
    oracle.step({});
    EXPECT_EQ(copy_of(server), oracle.values()) << "update " << i + 1;
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, ClaimsGoThroughTheSlotsOfThePlacement) {
  const ParameterLayout layout = test_layout();
  CollocatedServer server(world, layout, momentum_options());
  for (int slot = 0; slot < kSlots; ++slot) {
    if (server.placement()[static_cast<std::size_t>(slot)] == world.rank()) {
      EXPECT_EQ(server.claim_slot(), slot);
      push_slot(server, slot);
    }
  }
  EXPECT_EQ(server.claim_slot(), std::nullopt);
  server.apply_gradients();
}

// Whoever is slow in a step gets fewer slots; who it is changes from step to step.
SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, StolenSlotsDoNotChangeBits) {
  const ParameterLayout layout = test_layout();
  CollocatedOptions options = momentum_options();
  options.dealing = SlotDealing::kStealing;
  options.bucket_bytes = 20'000;
  CollocatedServer server(world, layout, options);
  server.load_parameters(initial(layout));
  Oracle oracle(layout, momentum_options());
  int claimed = 0;
  for (int i = 0; i < 8; ++i) {
    while (const std::optional<int> slot = server.claim_slot()) {
      ++claimed;
      if (world.rank() == i % world.size()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      push_slot(server, *slot);
    }
    const StepResult result = server.apply_gradients();
    oracle.step({});
    EXPECT_EQ(copy_of(server), oracle.values()) << "update " << i + 1;
    EXPECT_EQ(result.total.num_correct, kSlots * (kSlots - 1) / 2);
    if (i == 3) {  // all slots begin with the last rank
      server.set_placement(std::vector<int>(kSlots, world.size() - 1));
    }
    world.sync();
  }
  EXPECT_EQ(world.allreduce(claimed, bsp::ReduceOp::kSum), 8 * kSlots);
}

SUPERSTEP_WORLD_TEST(CollocatedServer, IdleRanksTakeTheSlotsOfABusyOne) {
  if (world.size() == 1) {
    return;
  }
  const ParameterLayout layout = test_layout();
  CollocatedOptions options = momentum_options();
  options.dealing = SlotDealing::kStealing;
  options.placement = std::vector<int>(kSlots, 0);
  CollocatedServer server(world, layout, options);
  int claimed = 0;
  while (const std::optional<int> slot = server.claim_slot()) {
    ++claimed;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    push_slot(server, *slot);
  }
  server.apply_gradients();
  if (world.rank() == 0) {
    EXPECT_LT(claimed, kSlots);
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, MaskedEntriesKeepValueAndState) {
  CollocatedOptions options = momentum_options();
  expect_oracle(world, options, {.mask = {true, false, true, false}});
  expect_oracle(world, options, {.mask = {false, true, false, true}});
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, ZeroGradientMovesMaskedEntries) {
  CollocatedOptions options = momentum_options();
  expect_oracle(world, options,
                {.mask = {true, true, true, false}, .masked = MaskedState::kZeroGradient});
}

SUPERSTEP_WORLD_TEST(CollocatedServer, MaskDecidesWhetherMomentumMovesAnEntry) {
  const ParameterLayout layout = test_layout();
  const LayoutEntry& masked = layout.entries()[3];
  for (const MaskedState behaviour : {MaskedState::kKeep, MaskedState::kZeroGradient}) {
    CollocatedServer server(world, layout, momentum_options());
    server.load_parameters(initial(layout));
    push_slots(world, server);
    server.apply_gradients();  // gives the entry momentum
    const std::vector<float> before = copy_of(server);
    world.sync();
    push_slots(world, server);
    server.apply_gradients({.mask = {true, true, true, false}, .masked = behaviour});
    const std::vector<float> after = copy_of(server);
    const auto first = static_cast<std::size_t>(masked.offset);
    EXPECT_EQ(after[first] == before[first], behaviour == MaskedState::kKeep);
    world.sync();
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, FlagsOfOneRankReachAll) {
  const ParameterLayout layout = test_layout();
  CollocatedServer server(world, layout, momentum_options());
  if (world.rank() == world.size() - 1) {
    server.raise_flags(4);
  }
  push_slots(world, server);
  server.apply_gradients();
  EXPECT_EQ(server.flags(), 4U);
  push_slots(world, server);
  server.apply_gradients();
  EXPECT_EQ(server.flags(), 0U);
}

SUPERSTEP_WORLD_TEST(CollocatedServer, RefusesMoreRanksThanSlots) {
  const ParameterLayout layout = test_layout();
  CollocatedOptions options = momentum_options();
  options.num_slots = world.size() - 1;
  if (options.num_slots > 0) {
    EXPECT_THROW(CollocatedServer(world, layout, options), InvalidArgument);
  }
}

SUPERSTEP_WORLD_TEST(CollocatedServer, StatesItsMemoryInBytes) {
  const ParameterLayout layout = test_layout();
  const CollocatedServer server(world, layout, momentum_options());
  const MemoryUse memory = server.memory_use();
  EXPECT_EQ(memory.parameters_per_node, layout.size() * 4);
  EXPECT_EQ(memory.optimizer_state_per_world, layout.size() * 4);
  EXPECT_TRUE(world.num_nodes() > 1 || memory.exchange_per_node == 0);
  if (world.num_nodes() == 1 && world.size() == 1) {
    EXPECT_EQ(memory.gradients_per_node,
              4 * layout.size() * 4);  // eleven slots in order need four buffers
  }
}

// One slot a rank, every rank a node: the other nodes' sums of its shard arrive at each owner.
SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, StatesTheMemoryOfItsExchange) {
  const ParameterLayout layout = test_layout();
  CollocatedOptions options = momentum_options();
  options.num_slots = world.size();
  options.clip = {};
  std::int64_t shard = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    shard = std::max(shard, layout.shard(rank, world.size()).length());
  }
  const bool one_node = world.num_nodes() == 1;
  const bool own_nodes = world.num_nodes() == world.size();
  const std::int64_t arriving = one_node ? 0 : (world.size() - 1) * shard * 4;
  const std::int64_t mean = one_node ? layout.size() * 4 : shard * 4;
  const std::int64_t plain =
      CollocatedServer(world, layout, options).memory_use().exchange_per_node;
  options.clip.global_norm = 1.0;
  const std::int64_t clipped =
      CollocatedServer(world, layout, options).memory_use().exchange_per_node;
  if (one_node || own_nodes) {
    EXPECT_EQ(plain, arriving);
    EXPECT_EQ(clipped, arriving + mean);
  }
}

}  // namespace
}  // namespace superstep::paramserver
