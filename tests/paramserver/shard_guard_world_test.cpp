// Bits that flip in memory are found before what was computed from them is used.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/as_size.h"
#include "base/error.h"
#include "paramserver/checkpoint_protocol.h"
#include "paramserver/collocated_server.h"
#include "paramserver/shard_guard.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::paramserver {
namespace {

// Seven blocks, so that shares and shards differ between worlds.
ParameterLayout seven_blocks() {
  ParameterLayout layout;
  layout.add({.name = "dense1/weight", .shape = {100, 200}});
  layout.add({.name = "dense1/bias", .shape = {200}});
  layout.add({.name = "dense2/weight", .shape = {7, 1000}});
  layout.freeze();
  return layout;
}

// A node's copy as every rank sees it, and one state array of this rank's shard.
struct Memory {
  explicit Memory(const bsp::World& world, const ParameterLayout& layout)
      : parameters(static_cast<std::size_t>(layout.size())),
        state(static_cast<std::size_t>(layout.shard(world.rank(), world.size()).length())) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      parameters[i] = 0.25F * static_cast<float>(i % 1001);
    }
    for (std::size_t i = 0; i < state.size(); ++i) {
      state[i] = 0.5F * static_cast<float>(i % 77);
    }
  }
  std::vector<float> parameters;
  std::vector<float> state;
  std::vector<std::span<const float>> states() const { return {std::span<const float>(state)}; }
};

void flip(float& value, int bit) {
  value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ (1U << bit));
}

std::string finding(const ShardGuard& guard, const Memory& memory) {
  try {
    guard.verify(memory.parameters, memory.states());
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
    return error.what();
  }
  return "";
}

SUPERSTEP_WORLD_TEST_ON_NODES(ShardGuard, FindsEveryFlippedBitInParametersOnTheNodeThatHasIt) {
  const ParameterLayout layout = seven_blocks();
  Memory memory(world, layout);
  ShardGuard guard(world, layout, 1);
  guard.note(1, memory.parameters, memory.states());
  EXPECT_EQ(finding(guard, memory), "");
  // Every bit of some element in each block; the last rank's node has the bad copy.
  const int bad_node = world.node_of(world.size() - 1);
  for (std::int64_t block = 0; block < layout.num_blocks(); ++block) {
    for (int bit = 0; bit < 32; ++bit) {
      float& value = memory.parameters[static_cast<std::size_t>(
          block * kBlockElements + (bit * 127 + block * 31) % kBlockElements)];
      if (world.node() == bad_node) {
        flip(value, bit);
      }
      const std::string found = finding(guard, memory);
      const int finders = world.allreduce(found.empty() ? 0 : 1, bsp::ReduceOp::kSum);
      EXPECT_EQ(finders, 1) << "block " << block << " bit " << bit;
      if (!found.empty()) {
        EXPECT_EQ(world.node(), bad_node);
        EXPECT_NE(found.find("block " + std::to_string(block) + " "), std::string::npos) << found;
        EXPECT_NE(found.find("rank " + std::to_string(world.rank())), std::string::npos) << found;
      }
      if (world.node() == bad_node) {
        flip(value, bit);
      }
    }
  }
  EXPECT_EQ(finding(guard, memory), "");
}

SUPERSTEP_WORLD_TEST(ShardGuard, FindsEveryFlippedBitInOptimizerStateAtItsOwner) {
  const ParameterLayout layout = seven_blocks();
  Memory memory(world, layout);
  ShardGuard guard(world, layout, 1);
  guard.note(1, memory.parameters, memory.states());
  for (std::size_t i = 0; i < memory.state.size(); i += 509) {
    for (int bit = 0; bit < 32; ++bit) {
      flip(memory.state[i], bit);
      EXPECT_NE(finding(guard, memory).find("optimizer state 0 changed"), std::string::npos);
      flip(memory.state[i], bit);
    }
  }
  EXPECT_EQ(finding(guard, memory), "");
}

SUPERSTEP_WORLD_TEST_ON_NODES(ShardGuard, OwnersFindWhatFlippedInTheirShardAndState) {
  const ParameterLayout layout = seven_blocks();
  Memory memory(world, layout);
  ShardGuard guard(world, layout, 1);
  guard.note(5, memory.parameters, memory.states());
  const ElementRange shard = layout.shard(world.rank(), world.size());
  const auto verify_own = [&] {
    for (std::int64_t begin = shard.begin; begin < shard.end; begin += kBlockElements) {
      guard.verify_block(begin, memory.parameters, memory.states());
    }
  };
  EXPECT_NO_THROW(verify_own());
  for (std::int64_t block = 0; block < layout.num_blocks(); ++block) {
    const std::int64_t element = block * kBlockElements + 17;
    const bool own = element >= shard.begin && element < shard.end;
    float& value = memory.parameters[static_cast<std::size_t>(element)];
    flip(value, 3);
    if (own) {
      EXPECT_THROW(verify_own(), DataError) << block;
    } else {
      EXPECT_NO_THROW(verify_own()) << block;
    }
    flip(value, 3);
  }
  if (!memory.state.empty()) {
    flip(memory.state.back(), 0);
    EXPECT_THROW(verify_own(), DataError);
  }
}

SUPERSTEP_WORLD_TEST(ShardGuard, NamesTheEntry) {
  const ParameterLayout layout = seven_blocks();
  Memory memory(world, layout);
  ShardGuard guard(world, layout, 1);
  guard.note(1, memory.parameters, memory.states());
  memory.parameters[5] = 17.0F;
  memory.parameters[static_cast<std::size_t>(layout.entry("dense2/weight").offset) + 6500] = 17.0F;
  const std::string found = finding(guard, memory);
  const bool named = found.find("in dense1/weight") != std::string::npos ||
                     found.find("in dense2/weight") != std::string::npos;
  EXPECT_EQ(named, !found.empty()) << found;
  EXPECT_GE(world.allreduce(found.empty() ? 0 : 1, bsp::ReduceOp::kSum), 1);
}

SUPERSTEP_WORLD_TEST(ShardGuard, GuardsEveryKthUpdateAndForgets) {
  const ParameterLayout layout = seven_blocks();
  Memory memory(world, layout);
  ShardGuard guard(world, layout, 3);
  EXPECT_FALSE(guard.is_due(1));
  EXPECT_TRUE(guard.is_due(3));
  EXPECT_FALSE(ShardGuard(world, layout, 0).is_due(3));
  guard.note(3, memory.parameters, memory.states());
  EXPECT_TRUE(guard.is_guarding());
  std::fill(memory.parameters.begin(), memory.parameters.end(), 1.0F);
  guard.forget();
  EXPECT_EQ(finding(guard, memory), "");
}

CollocatedOptions guarded_momentum(int num_slots) {
  CollocatedOptions options;
  options.optimizer = {.kind = OptimizerKind::kMomentum, .learning_rate = 0.1};
  options.num_slots = num_slots;
  options.verify_every = 1;
  return options;
}

// One update by a gradient of equal elements.
void update(CollocatedServer& server, const ParameterLayout& layout) {
  const std::vector<float> gradient(static_cast<std::size_t>(layout.size()), 0.5F);
  while (const std::optional<int> slot = server.claim_slot()) {
    server.reserve(*slot);
    int bucket = 0;
    for (const ElementRange range : server.buckets()) {
      server.push(*slot, bucket++,
                  std::span(gradient).subspan(as_size(range.begin), as_size(range.length())));
    }
    server.push_summary(*slot, {.num_samples = 1});
  }
  server.apply_gradients();
}

// One that flipped after the last update would otherwise be hashed as what was to be saved.
SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, GivesNoFlippedBitToACheckpoint) {
  const ParameterLayout layout = seven_blocks();
  CollocatedServer server(world, layout, guarded_momentum(world.size()));
  update(server, layout);
  EXPECT_NO_THROW(server.parts());
  world.sync();
  const std::span<const float> parameters = server.pull().buffer();
  if (world.ranks_at(bsp::Level::kNode).front() == world.rank()) {
    flip(const_cast<float&>(parameters[0]), 3);
  }
  world.sync();
  int found = 0;
  try {
    server.parts();
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
    found = 1;
  }
  EXPECT_EQ(world.allreduce(found, bsp::ReduceOp::kSum), world.num_nodes());
}

// One that flips later is found before what it is part of is updated.
SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, UpdatesNoFlippedBit) {
  const ParameterLayout layout = seven_blocks();
  for (const char* array : {"parameters", "optimizer state 0"}) {
    CollocatedServer server(world, layout, guarded_momentum(world.size()));
    update(server, layout);
    update(server, layout);
    const std::vector<ArrayPart> parts = server.parts();
    world.sync();
    // Every rank in what it owns, so that all of them stop.
    const std::span<const float> own = parts[array[0] == 'p' ? 0 : 1].values;
    ASSERT_FALSE(own.empty());
    flip(const_cast<float&>(own[own.size() / 2]), 11);
    world.sync();
    try {
      update(server, layout);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
      EXPECT_NE(std::string(error.what()).find(std::string(array) + " changed since update 2"),
                std::string::npos)
          << error.what();
    }
    world.sync();
  }
}

// The same for a checkpoint of a copy: the check comes with the parts, knows what was written when
// the copy was made, and does not mind that training goes on.
SUPERSTEP_WORLD_TEST_ON_NODES(CollocatedServer, GivesPartsThatRefuseOtherHashes) {
  const ParameterLayout layout = seven_blocks();
  CollocatedServer server(world, layout, guarded_momentum(world.size()));
  update(server, layout);
  const std::vector<ArrayPart> parts = server.parts(CollocatedServer::Verified::kByItsHashes);
  ASSERT_EQ(parts.size(), 2U);
  std::vector<std::vector<float>> copies;
  for (const ArrayPart& part : parts) {
    copies.emplace_back(part.values.begin(), part.values.end());
  }
  update(server, layout);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_NO_THROW(parts[i].check_hashes(hash_blocks(copies[i])));
    if (copies[i].empty()) {
      continue;
    }
    flip(copies[i].back(), 3);
    try {
      parts[i].check_hashes(hash_blocks(copies[i]));
      ADD_FAILURE() << "a flipped bit in " << parts[i].name;
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
      EXPECT_NE(std::string(error.what()).find("changed since update 1"), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace superstep::paramserver
