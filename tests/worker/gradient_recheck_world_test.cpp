// The comparison of gradients, with errors put in where a rank computes them.

#include <bit>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/slot_tree.h"
#include "tests/support/spmd_fixture.h"
#include "worker/gradient_recheck.h"

namespace superstep::worker {
namespace {

using paramserver::SlotSummary;

constexpr int kSlots = 12;
constexpr RecheckOptions kEverySuperstep{.share = 1.0, .seed = 5, .num_slots = kSlots};
constexpr std::int64_t kElement = 66;  // of the entry "weight": in its second line

struct MadeGradient {
  int rank = 0;
  int time = 0;  // from 1: of this rank and unit
  bsp::SlotRange unit;
  std::span<float> gradient;
  std::span<SlotSummary> sums;
};
using Spoil = std::function<void(const MadeGradient&)>;

float& element(const MadeGradient& made, std::int64_t index) {
  return made.gradient[static_cast<std::size_t>(16 + index)];  // "bias" comes first, padded
}

void flip(float& value) {
  value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ (1U << 30));
}

// A superstep in which every rank computes its slots, whole subtrees in one pass.
class Superstep {
 public:
  Superstep(bsp::World& world, Spoil spoil) : world_(world), spoil_(std::move(spoil)) {
    layout_.add({.name = "bias", .shape = {3}});
    layout_.add({.name = "weight", .shape = {10, 20}});
    layout_.freeze();
    parameters_.assign(static_cast<std::size_t>(layout_.size()), 1.0F);
  }

  void set_parameters(float value) { parameters_.assign(parameters_.size(), value); }

  std::vector<bsp::SlotRange> units_of(int rank) const {
    std::vector<int> slots;
    const std::vector<int> placement = bsp::contiguous_placement(kSlots, world_.size());
    for (int slot = 0; slot < kSlots; ++slot) {
      if (placement[static_cast<std::size_t>(slot)] == rank) {
        slots.push_back(slot);
      }
    }
    return bsp::maximal_subtrees(kSlots, slots);
  }

  // What is said; empty: nothing was wrong.
  std::string run(const RecheckOptions& options = kEverySuperstep) {
    GradientRecheck recheck(
        world_, layout_, parameters_, options,
        [&](bsp::SlotRange unit, std::span<float> gradient, std::span<SlotSummary> sums) {
          recomputed_.push_back(unit);
          make(unit, gradient, sums);
        });
    recheck.begin(7);
    std::vector<float> gradient(static_cast<std::size_t>(layout_.size()));
    for (const bsp::SlotRange unit : units_of(world_.rank())) {
      std::vector<SlotSummary> sums(static_cast<std::size_t>(unit.length()));
      make(unit, gradient, sums);
      recheck.note(unit, gradient, sums);
    }
    try {
      recheck.compare();
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kCorruption);
      return error.what();
    }
    return {};
  }

  const std::vector<bsp::SlotRange>& recomputed() const { return recomputed_; }

 private:
  void make(bsp::SlotRange unit, std::span<float> gradient, std::span<SlotSummary> sums) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = parameters_[i] * static_cast<float>(unit.begin + 1) +
                    static_cast<float>(unit.end) / static_cast<float>(i + 1);
    }
    for (SlotSummary& sum : sums) {
      sum = {.num_samples = 2, .num_correct = 1, .loss_sum = 0.5};
    }
    spoil_({.rank = world_.rank(),
            .time = ++times_[unit.begin],
            .unit = unit,
            .gradient = gradient,
            .sums = sums});
  }

  bsp::World& world_;
  Spoil spoil_;
  paramserver::ParameterLayout layout_;
  std::vector<float> parameters_;
  std::map<int, int> times_;  // by first slot
  std::vector<bsp::SlotRange> recomputed_;
};

void nothing(const MadeGradient& /*made*/) {}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected: " << part << "\nin: " << text;
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, SaysNothingWhereAllGradientsAreRight) {
  EXPECT_EQ(Superstep(world, nothing).run(), "");
}

// By every rank, for every rank's units: {owner, rank that made them again}.
std::vector<std::pair<int, int>> who_checks_whom(bsp::World& world) {
  Superstep superstep(world, nothing);
  EXPECT_EQ(superstep.run(), "");
  std::string mine;
  for (const bsp::SlotRange unit : superstep.recomputed()) {
    mine += fmt::format("{} ", unit.begin);
  }
  const std::vector<std::string> all = world.allgather_string(mine);
  std::vector<std::pair<int, int>> pairs;
  for (int owner = 0; owner < world.size(); ++owner) {
    std::string units;
    for (const bsp::SlotRange unit : superstep.units_of(owner)) {
      units += fmt::format("{} ", unit.begin);
    }
    for (int rank = 0; rank < world.size(); ++rank) {
      if (all[static_cast<std::size_t>(rank)] == units) {
        pairs.emplace_back(owner, rank);
      }
    }
  }
  return pairs;
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, EveryRankChecksOneOtherRank) {
  const auto pairs = who_checks_whom(world);
  EXPECT_EQ(static_cast<int>(pairs.size()), world.size());
  for (const auto& [owner, checker] : pairs) {
    EXPECT_EQ(owner == checker, world.size() == 1) << owner << " " << checker;
  }
}

void expect_partners_on_other_nodes(bsp::World& world) {
  std::map<int, int> sizes;
  int largest = 0;
  for (int rank = 0; rank < world.size(); ++rank) {
    largest = std::max(largest, ++sizes[world.node_of(rank)]);
  }
  int on_other_node = 0;
  for (const auto& [owner, checker] : who_checks_whom(world)) {
    on_other_node += world.node_of(owner) != world.node_of(checker) ? 1 : 0;
  }
  const int others = world.size() - largest;
  EXPECT_EQ(on_other_node, largest <= others ? world.size() : 2 * others);
}

TEST(GradientRecheck, PartnersAreOnOtherNodesWhereTheyCanBe) {
  bsp::EnvironmentOptions options = testing::test_options();
  options.ranks_per_node = 2;
  testing::run_on_every_rank(&expect_partners_on_other_nodes, options);
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, NamesTheRankThatWasWrongOnce) {
  for (int culprit = 0; culprit < world.size(); ++culprit) {
    Superstep superstep(world, [&](const MadeGradient& made) {
      if (made.rank == culprit && made.time == 1) {
        flip(element(made, kElement));
      }
    });
    const std::string said = superstep.run();
    expect_in(said, "gradients of superstep 7");
    expect_in(said, fmt::format("rank {} on {} computed a wrong gradient", culprit,
                                world.host_of(culprit)));
    expect_in(said, fmt::format("weight[{}] is ", kElement));
    expect_in(said, "It was wrong once");
    EXPECT_EQ(said, world.allgather_string(said).front());
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, NamesSlotsAndBothValues) {
  const int culprit = world.size() - 1;
  const bsp::SlotRange unit = Superstep(world, nothing).units_of(culprit).back();
  Superstep superstep(world, [&](const MadeGradient& made) {
    const bool is_wrong = made.rank == culprit && made.time == 1 && made.unit == unit;
    element(made, 0) = is_wrong ? -3.0F : 3.0F;
  });
  const std::string said = superstep.run();
  expect_in(said, unit.length() == 1 ? fmt::format("slot {}, ", unit.begin)
                                     : fmt::format("slots {} to {}, ", unit.begin, unit.end - 1));
  expect_in(said, fmt::format("weight[0] is -3 by rank {} and 3 by rank ", culprit));
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, NamesTheRankThatIsWrongEachTime) {
  for (int culprit = 0; culprit < world.size(); ++culprit) {
    const std::string said = Superstep(world, [&](const MadeGradient& made) {
                               if (made.rank == culprit) {
                                 element(made, kElement) = 1e6F;
                               }
                             }).run();
    if (world.size() == 1) {
      EXPECT_EQ(said, "");  // nobody knows better
      continue;
    }
    const std::string name = fmt::format("rank {} on {}", culprit, world.host_of(culprit));
    expect_in(said, name);
    expect_in(said, fmt::format("weight[{}] is ", kElement));
    if (world.size() == 2) {
      expect_in(said, "Which of the two is not decided");
    } else {
      expect_in(said, name + " computed a wrong gradient");
      expect_in(said, "It is wrong each time");
    }
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, NamesTheLineWhereTheValueIsGone) {
  const std::string said = Superstep(world, [&](const MadeGradient& made) {
                             if (made.rank == 0 && made.time == 1 && made.unit.begin == 0) {
                               element(made, kElement) += 1.0F;
                               element(made, kElement + 1) += 1.0F;
                             }
                           }).run();
  expect_in(said, "somewhere from weight[64] to [127]");
  expect_in(said, "rank 0 on ");
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, ComparesTheSumsOfSlotsToo) {
  const std::string said = Superstep(world, [&](const MadeGradient& made) {
                             if (made.rank == 0 && made.time == 1) {
                               made.sums.front().loss_sum += 0.25;
                             }
                           }).run();
  expect_in(said, "loss or counts differ");
}

SUPERSTEP_WORLD_TEST_ON_NODES(GradientRecheck, SaysThatParametersDifferToo) {
  if (world.size() == 1) {
    return;
  }
  Superstep superstep(world, nothing);
  superstep.set_parameters(world.rank() == 0 ? 2.0F : 1.0F);
  const std::string said = superstep.run();
  expect_in(said, "their parameters differ, too");
  expect_in(said, "Which of the two is not decided");
}

SUPERSTEP_WORLD_TEST(GradientRecheck, LeavesSuperstepsThatAreNotDrawnAlone) {
  RecheckOptions never = kEverySuperstep;
  never.share = 0.0;
  Superstep superstep(world, [](const MadeGradient& made) { flip(made.gradient[0]); });
  EXPECT_EQ(superstep.run(never), "");
  EXPECT_TRUE(superstep.recomputed().empty());
}

TEST(GradientRecheck, DrawsTheShareOfSuperstepsThatItIsGiven) {
  constexpr int kCount = 10'000;
  const auto drawn = [](double share, std::uint64_t seed) {
    std::vector<int> supersteps;
    for (int superstep = 1; superstep <= kCount; ++superstep) {
      if (is_rechecked({.share = share, .seed = seed}, superstep)) {
        supersteps.push_back(superstep);
      }
    }
    return supersteps;
  };
  EXPECT_TRUE(drawn(0.0, 1).empty());
  EXPECT_EQ(drawn(1.0, 1).size(), static_cast<std::size_t>(kCount));
  // Five standard deviations of a binomial distribution.
  EXPECT_NEAR(static_cast<double>(drawn(0.1, 1).size()), 1000.0, 150.0);
  EXPECT_NE(drawn(0.1, 1), drawn(0.1, 2));
}

}  // namespace
}  // namespace superstep::worker
