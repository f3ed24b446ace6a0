#include "tests/simulation/exchange_scenario.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/philox.h"
#include "paramserver/collocated_server.h"
#include "tests/paramserver/checkpoint_fixture.h"
#include "tests/simulation/simulation.h"

namespace superstep::simulation {

using paramserver::CollocatedServer;
using paramserver::SlotDealing;

namespace {

constexpr int kSteps = 3;
constexpr int kMostRanks = 6;

// What a seed decides about a run.
struct ExchangeOptions {
  std::uint64_t seed = 0;
  int num_slots = 1;
  paramserver::CollocatedOptions server;
};

ExchangeOptions draw_options(std::uint64_t seed, PhiloxStream& random) {
  ExchangeOptions options{.seed = seed, .num_slots = 1, .server = {}};
  options.num_slots = kMostRanks + static_cast<int>(random.below(8));
  options.server.optimizer = {.kind = paramserver::OptimizerKind::kMomentum, .learning_rate = 0.25};
  options.server.num_slots = options.num_slots;
  options.server.bucket_bytes = random.below(2) == 0 ? 0
                                                     : 2 * paramserver::kBlockElements *
                                                           static_cast<std::int64_t>(sizeof(float));
  options.server.clip.global_norm = random.below(3) == 0 ? 1.0 : 0.0;
  options.server.verify_every = static_cast<std::int64_t>(random.below(3));
  return options;
}

// A table that any rank draws alike.
std::vector<int> draw_placement(const ExchangeOptions& options, int num_ranks, int step) {
  PhiloxStream random(options.seed, stream_id("simulation/placement"), step);
  std::vector<int> placement(static_cast<std::size_t>(options.num_slots));
  for (int& rank : placement) {
    rank = static_cast<int>(random.below(static_cast<std::uint64_t>(num_ranks)));
  }
  return placement;
}

// Makes calls that must be refused, and notes those that are accepted.
class Intruder {
 public:
  Intruder(CollocatedServer& server, std::uint64_t seed, int rank,
           std::vector<std::string>& accepted)
      : server_(server),
        random_(seed, stream_id("simulation/intruder"), rank),
        accepted_(accepted) {}

  void while_open(int slot, int num_slots) {
    if (random_.below(4) == 0) {
      expect_refusal("a second slot while one is open",
                     [&] { server_.reserve((slot + 1) % num_slots); });
      expect_refusal("another slot's push", [&] { push((slot + 1) % num_slots, 0); });
      expect_refusal("the last bucket first",
                     [&] { push(slot, static_cast<int>(server_.buckets().size())); });
    }
  }
  void after_push(int slot) {
    if (random_.below(4) == 0) {
      expect_refusal("a bucket pushed twice", [&] { push(slot, 0); });
      expect_refusal("a slot computed twice", [&] { server_.reserve(slot); });
    }
  }
  void after_update(int slot) {
    expect_refusal("a push after the update", [&] { push(slot, 0); });
  }

 private:
  void push(int slot, int bucket) {
    const auto length = server_.buckets().front().length();
    const std::vector<float> gradient(static_cast<std::size_t>(length), 1.0F);
    server_.push(slot, bucket, gradient);
  }
  template <typename Call>
  void expect_refusal(const char* what, Call&& call) {
    try {
      call();
    } catch (const CheckFailure&) {
      return;
    }
    accepted_.emplace_back(what);
  }

  CollocatedServer& server_;
  PhiloxStream random_;
  std::vector<std::string>& accepted_;
};

void compute_slot(CollocatedServer& server, const ExchangeOptions& options, int slot, int step,
                  Intruder* intruder) {
  Simulation::current()->step();
  const std::span<float> gradient = server.reserve(slot);
  if (intruder != nullptr) {
    intruder->while_open(slot, options.num_slots);
  }
  fill_uniform(gradient, PhiloxStream(options.seed, stream_id("simulation/gradient"), step, slot),
               -1.0F, 1.0F);
  int bucket = 0;
  for (const paramserver::ElementRange range : server.buckets()) {
    server.push(slot, bucket++,
                gradient.subspan(static_cast<std::size_t>(range.begin),
                                 static_cast<std::size_t>(range.length())));
    Simulation::current()->step();
  }
  server.push_summary(slot, {.num_samples = 1 + slot % 3, .num_correct = slot, .loss_sum = 0.5});
  if (intruder != nullptr) {
    intruder->after_push(slot);
  }
}

struct ExchangeEnd {
  std::vector<std::string> hashes;    // by rank, as they came
  std::vector<std::string> accepted;  // what should have been refused
};

void exchange(bsp::World& world, const ExchangeOptions& options, ExchangeEnd& end) {
  const paramserver::ParameterLayout layout = testing::small_layout();
  CollocatedServer server(world, layout, options.server);
  server.load_parameters(std::vector<float>(static_cast<std::size_t>(layout.size()), 0.5F));
  Intruder intruder(server, options.seed, world.rank(), end.accepted);
  const bool is_alone = world.size() == 1;
  for (int step = 0; step < kSteps; ++step) {
    int last = 0;
    while (const std::optional<int> slot = server.claim_slot()) {
      compute_slot(server, options, *slot, step, is_alone ? nullptr : &intruder);
      last = *slot;
    }
    server.apply_gradients();
    intruder.after_update(last);
    server.set_placement(draw_placement(options, world.size(), step));
  }
  end.hashes.push_back(to_text(layout.parameters_hash(server.pull().buffer())));
}

ExchangeEnd run_exchange(Simulation& simulation, const ExchangeOptions& options, const Job& job,
                         JobEnd& job_end) {
  ExchangeEnd end;
  job_end = simulation.run(job, [&](bsp::World& world) { exchange(world, options, end); });
  return end;
}

}  // namespace

Problem run_exchange_seed(std::uint64_t seed) {
  Simulation simulation(seed);
  PhiloxStream& random = simulation.random();
  ExchangeOptions options = draw_options(seed, random);
  JobEnd job_end;
  const ExchangeEnd oracle = run_exchange(simulation, options, {.lanes = 1}, job_end);
  if (oracle.hashes.size() != 1 || job_end.exit_code != 0) {
    return fmt::format("one rank alone ended with exit code {}", job_end.exit_code);
  }
  const Job job{.lanes = 2 + static_cast<int>(random.below(kMostRanks - 1)),
                .ranks_per_node = static_cast<int>(random.below(4)),
                .interruption = {},
                .aftermath = Aftermath::kNothing};
  options.server.dealing = random.below(3) == 0 ? SlotDealing::kAsPlaced : SlotDealing::kStealing;
  if (random.below(2) == 0) {
    options.server.placement = draw_placement(options, job.lanes, -1);
  }
  const ExchangeEnd end = run_exchange(simulation, options, job, job_end);
  const std::string where = fmt::format("{} ranks, {} per node, {} slots: ", job.lanes,
                                        job.ranks_per_node, options.num_slots);
  if (!end.accepted.empty()) {
    return where + "accepted " + end.accepted.front();
  }
  if (job_end.end != Scheduler::End::kFinished || job_end.exit_code != 0 ||
      static_cast<int>(end.hashes.size()) != job.lanes) {
    return where + fmt::format("exit code {}, {} ranks came to the end", job_end.exit_code,
                               end.hashes.size());
  }
  for (const std::string& hash : end.hashes) {
    if (hash != oracle.hashes.front()) {
      return where + fmt::format("got parameters {}, expected {}", hash, oracle.hashes.front());
    }
  }
  return std::nullopt;
}

}  // namespace superstep::simulation
