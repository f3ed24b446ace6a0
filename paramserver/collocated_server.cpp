#include "paramserver/collocated_server.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "bsp/shared_array.h"
#include "bsp/tree_reduce.h"
#include "paramserver/clip.h"
#include "paramserver/publish.h"
#include "paramserver/server_ranks.h"
#include "paramserver/shard_guard.h"
#include "paramserver/shard_updater.h"
#include "paramserver/slot_board.h"
#include "paramserver/slot_gradients.h"
#include "paramserver/tree_exchange.h"

namespace superstep::paramserver {

namespace {

// Sums, means and a few streams of this length stay in the first-level cache.
constexpr std::int64_t kTileElements = 1024;
static_assert(kBlockElements % kTileElements == 0);

// The whole layout cut into buckets of whole blocks.
std::vector<ElementRange> cut_buckets(std::int64_t num_elements, std::int64_t bucket_bytes) {
  constexpr std::int64_t kBlockBytes = kBlockElements * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t blocks = std::max<std::int64_t>(1, bucket_bytes / kBlockBytes);
  const std::int64_t length = bucket_bytes == 0 ? num_elements : blocks * kBlockElements;
  std::vector<ElementRange> buckets;
  for (std::int64_t begin = 0; begin < num_elements; begin += length) {
    buckets.push_back({begin, std::min(begin + length, num_elements)});
  }
  return buckets;
}

void check_slots(const bsp::World& world, int num_slots, int num_servers) {
  const int num_workers = num_servers == 0 ? world.size() : world.size() - num_servers;
  if (num_slots < num_workers) {
    throw InvalidArgument(
        "CollocatedServer",
        fmt::format(
            "more ranks than slots: got {} ranks that compute for {} microbatches, expected at "
            "most {}; start fewer ranks or raise train.microbatches (which changes the result)",
            num_workers, num_slots, num_slots));
  }
}

}  // namespace

struct CollocatedServer::State {
  State(bsp::World& the_world, const ParameterLayout& the_layout, CollocatedOptions the_options)
      : world(the_world),
        layout(the_layout),
        options(std::move(the_options)),
        cuts(owner_cuts(layout, options.num_servers, world.size())),
        shard{cuts[as_size(world.rank())], cuts[as_size(world.rank()) + 1]},
        buckets(cut_buckets(layout.size(), options.bucket_bytes)),
        parameters(world, layout.size()),
        board(world, options.num_slots),
        gradients(world, layout, cuts, buckets, options.num_slots, options.dealing),
        block_norms(world, layout.num_blocks()),
        updater(layout, shard, options.optimizer),
        guard(world, layout, options.verify_every, cuts),
        mean_tile(kBlockElements) {
    if (options.clip.global_norm > 0.0) {
      mean_gradient = AlignedBuffer<float>(shard.length());
    }
  }

  // --- a step ---
  std::vector<std::span<const float>> optimizer_state();
  void timed_sync(bsp::CallSite site = bsp::CallSite::here());
  void share_board();
  ShardStep begin_step(const ApplyOptions& apply) const;
  StepResult update(const ApplyOptions& apply, TreeExchange& exchange);
  StepResult end_without_update(std::uint32_t skip_on);
  void note_update();
  static bool updates(const ApplyOptions& apply);
  void update_tile(const ShardStep& step, std::int64_t begin, std::span<float> mean);
  void update_shard(const ShardStep& step, TreeExchange& exchange);
  double update_shard_with_norm(const ShardStep& step, TreeExchange& exchange);
  double global_norm();
  template <typename Body>
  void for_blocks(const Body& body);
  template <typename Body>
  void for_guarded_blocks(const Body& body);

  bsp::World& world;
  const ParameterLayout& layout;
  CollocatedOptions options;
  std::vector<std::int64_t> cuts;
  ElementRange shard;
  std::vector<ElementRange> buckets;
  bsp::SharedArray<float> parameters;  // once per node
  SlotBoard board;
  SlotGradients gradients;
  bsp::SharedArray<double> block_norms;  // by block; the node's own are valid
  ShardUpdater updater;
  ShardGuard guard;
  AlignedBuffer<float> mean_tile;
  AlignedBuffer<float> mean_gradient;  // global norm only
  std::uint32_t raised = 0;
  std::int64_t step = 0;
  ExchangeTimes times;
};

std::vector<std::span<const float>> CollocatedServer::State::optimizer_state() {
  std::vector<std::span<const float>> states;
  for (std::size_t i = 0; i < updater.state_names().size(); ++i) {
    states.push_back(updater.state(i));
  }
  return states;
}

void CollocatedServer::State::timed_sync(bsp::CallSite site) {
  const Clock::time_point start = Clock::now();
  world.sync(site);
  times.sync_seconds += to_seconds(Clock::now() - start);
}

ShardStep CollocatedServer::State::begin_step(const ApplyOptions& apply) const {
  const SlotSummary& total = board.total();
  SUPERSTEP_CHECK(total.num_samples > 0, "a step without samples");
  const std::int64_t number = step + 1;
  return {
      .step = number,
      .learning_rate = learning_rate_at(options.schedule, options.optimizer.learning_rate, number),
      .num_samples = total.num_samples,
      .clip_value = options.clip.value,
      .options = &apply};
}

template <typename Body>
void CollocatedServer::State::for_blocks(const Body& body) {
  for (std::int64_t begin = shard.begin; begin < shard.end; begin += kBlockElements) {
    body(begin);
  }
}

// body(begin) updates the block that begins there.
template <typename Body>
void CollocatedServer::State::for_guarded_blocks(const Body& body) {
  const bool noted = guard.is_due(step);
  if (!noted && !guard.is_guarding()) {
    for_blocks(body);
    return;
  }
  const std::vector<std::span<const float>> states = optimizer_state();
  if (noted) {
    guard.begin_note(states.size());
  }
  for_blocks([&](std::int64_t begin) {
    guard.verify_block(begin, parameters.span(), states);
    body(begin);
    if (noted) {
      guard.note_block(begin, parameters.span(), states);
    }
  });
}

bool CollocatedServer::State::updates(const ApplyOptions& apply) {
  return apply.gate == nullptr || apply.gate->passes() == GradientGate::Pass::kYes;
}

void CollocatedServer::State::update_tile(const ShardStep& step_now, std::int64_t begin,
                                          std::span<float> mean) {
  if (GradientGate* const gate = step_now.options->gate) {
    gate->on_mean(step_now, begin, mean);
  }
  if (updates(*step_now.options)) {
    updater.update_tile(step_now, begin, mean,
                        parameters.span().subspan(as_size(begin), mean.size()));
  }
}

// One pass: sum over the tree, mean, clip, update, publish, tile by tile.
void CollocatedServer::State::update_shard(const ShardStep& step_now, TreeExchange& exchange) {
  const std::span<float> mean = mean_tile.span().first(as_size(kTileElements));
  for_guarded_blocks([&](std::int64_t block) {
    for (std::int64_t begin = block; begin < block + kBlockElements; begin += kTileElements) {
      updater.mean_of_tile(step_now, begin, exchange.sum_tile(begin - shard.begin, kTileElements),
                           mean);
      update_tile(step_now, begin, mean);
    }
  });
}

// Two passes with a sync between them; returns the norm before clipping.
double CollocatedServer::State::update_shard_with_norm(const ShardStep& step_now,
                                                       TreeExchange& exchange) {
  for_blocks([&](std::int64_t begin) {
    const std::span<float> mean =
        mean_gradient.span().subspan(as_size(begin - shard.begin), as_size(kBlockElements));
    updater.mean_of_tile(step_now, begin, exchange.sum_tile(begin - shard.begin, kBlockElements),
                         mean);
    std::copy(mean.begin(), mean.end(), mean_tile.span().begin());
    updater.keep_only_gradient(begin, mean_tile.span());
    block_squared_norms<float>(mean_tile.span(),
                               block_norms.span().subspan(as_size(begin / kBlockElements), 1));
  });
  timed_sync();
  const double norm = global_norm();
  const double factor = global_norm_factor(norm, options.clip.global_norm);
  for_guarded_blocks([&](std::int64_t begin) {
    const std::span<float> mean =
        mean_gradient.span().subspan(as_size(begin - shard.begin), as_size(kBlockElements));
    updater.scale_gradient(begin, factor, mean);
    update_tile(step_now, begin, mean);
  });
  return norm;
}

double CollocatedServer::State::global_norm() {
  std::vector<double> all(block_norms.span().begin(), block_norms.span().end());
  if (world.num_nodes() > 1) {
    std::vector<std::int64_t> counts;
    for (std::size_t rank = 0; rank + 1 < cuts.size(); ++rank) {
      counts.push_back((cuts[rank + 1] - cuts[rank]) / kBlockElements);
    }
    const std::span<const double> mine = block_norms.span().subspan(
        as_size(shard.begin / kBlockElements), as_size(shard.length() / kBlockElements));
    world.allgather(mine, std::span<double>(all), counts);
  }
  return std::sqrt(tree_sum(all));
}

CollocatedServer::CollocatedServer(bsp::World& world, const ParameterLayout& layout,
                                   CollocatedOptions options) {
  require_servers(options.num_servers, world.size());
  check_slots(world, options.num_slots, options.num_servers);
  validate(options.optimizer);
  validate(options.schedule);
  std::vector<int> placement =
      options.placement.empty()
          ? worker_placement(options.num_slots, options.num_servers, world.size())
          : options.placement;
  state_ = std::make_unique<State>(world, layout, std::move(options));
  set_placement(placement);
}

CollocatedServer::~CollocatedServer() = default;

const ParameterLayout& CollocatedServer::layout() const {
  return state_->layout;
}

ParameterView CollocatedServer::pull() {
  return {state_->layout, state_->parameters.span()};
}

std::span<const ElementRange> CollocatedServer::buckets() const {
  return state_->buckets;
}

std::optional<int> CollocatedServer::claim_slot() {
  return state_->gradients.claim_slot();
}

std::span<float> CollocatedServer::reserve(int slot) {
  return state_->gradients.stack().reserve(slot);
}

std::span<float> CollocatedServer::reserve(bsp::SlotRange subtree) {
  return state_->gradients.stack().reserve(subtree);
}

void CollocatedServer::push(int slot, int bucket, std::span<const float> gradient) {
  state_->gradients.stack().push(slot, bucket, gradient);
}

void CollocatedServer::push_summary(int slot, const SlotSummary& summary) {
  state_->board.post(slot, summary);
}

// The first sync: afterwards every rank knows all slots' summaries and all flags.
void CollocatedServer::State::share_board() {
  board.post_flags(std::exchange(raised, 0));
  if (guard.is_guarding() && world.num_nodes() > 1) {
    guard.verify(parameters.span(), optimizer_state());
  }
  world.set_phase("sync: gradients");
  timed_sync();
  world.set_phase("exchange");
  SUPERSTEP_FAILPOINT("exchange");
  board.share(gradients.placement());
}

StepResult CollocatedServer::State::update(const ApplyOptions& apply, TreeExchange& exchange) {
  exchange.move_between_nodes({}, {});
  const ShardStep now = begin_step(apply);
  step += updates(apply) ? 1 : 0;
  StepResult result{.total = board.total(),
                    .learning_rate = now.learning_rate,
                    .gradient_norm = std::numeric_limits<double>::quiet_NaN(),
                    .step = step};
  if (options.clip.global_norm > 0.0) {
    result.gradient_norm = update_shard_with_norm(now, exchange);
  } else {
    update_shard(now, exchange);
  }
  if (updates(apply)) {
    publish_between_nodes(world, cuts, parameters.span());
  }
  if (apply.gate != nullptr) {
    apply.gate->publish(cuts);
  }
  return result;
}

StepResult CollocatedServer::State::end_without_update(std::uint32_t skip_on) {
  timed_sync();  // all have read the board
  world.set_phase("compute");
  return {.total = board.total(),
          .gradient_norm = std::numeric_limits<double>::quiet_NaN(),
          .step = step,
          .skipped = (board.flags() & skip_on) != 0};
}

void CollocatedServer::State::note_update() {
  guard.forget();
  if (guard.is_due(step)) {
    guard.end_note(step);
  }
}

StepResult CollocatedServer::apply_gradients(const ApplyOptions& options) {
  State& state = *state_;
  SUPERSTEP_CHECK(options.mask.empty() || options.mask.size() == state.layout.entries().size(),
                  "flags in the mask", options.mask.size(), "entries in the layout",
                  state.layout.entries().size());
  state.gradients.finish_compute(state.board);
  state.times = {};
  const Stopwatch watch;
  state.share_board();
  TreeExchange& exchange = state.gradients.exchange(state.board);
  if ((state.board.flags() & options.skip_on) != 0) {
    return state.end_without_update(options.skip_on);
  }
  const StepResult result = state.update(options, exchange);
  state.note_update();
  state.world.set_phase("sync: parameters");
  state.timed_sync();
  state.world.set_phase("compute");
  SUPERSTEP_FAILPOINT_DATA("parameters", state.parameters.span());
  if (!state.updater.state_names().empty()) {
    SUPERSTEP_FAILPOINT_DATA("optimizer_state", state.updater.state(0));
  }
  state.times.exchange_seconds = watch.seconds() - state.times.sync_seconds;
  return result;
}

StepResult CollocatedServer::share_summaries(std::uint32_t skip_on) {
  State& state = *state_;
  state.times = {};
  const Stopwatch watch;
  state.share_board();
  const StepResult result = state.end_without_update(skip_on);
  state.times.exchange_seconds = watch.seconds() - state.times.sync_seconds;
  return result;
}

void CollocatedServer::set_placement(std::span<const int> placement) {
  const int num_slots = state_->options.num_slots;
  if (static_cast<int>(placement.size()) != num_slots) {
    throw InvalidArgument("CollocatedServer::set_placement",
                          fmt::format("length of the placement table: got {}, expected {}",
                                      placement.size(), num_slots));
  }
  for (const int rank : placement) {
    if (rank < 0 || rank >= state_->world.size()) {
      throw InvalidArgument("CollocatedServer::set_placement",
                            fmt::format("rank out of range: got {}, expected 0 to {}", rank,
                                        state_->world.size() - 1));
    }
  }
  state_->gradients.place({placement.begin(), placement.end()});
}

std::span<const int> CollocatedServer::placement() const {
  return state_->gradients.placement();
}

std::int64_t CollocatedServer::step() const {
  return state_->step;
}

ExchangeTimes CollocatedServer::last_times() const {
  return state_->times;
}

MemoryUse CollocatedServer::memory_use() const {
  constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));
  const auto num_states = static_cast<std::int64_t>(state_->updater.state_names().size());
  return {
      .parameters_per_node = state_->layout.size() * kFloatBytes,
      .gradients_per_node = state_->gradients.num_buffers() * state_->layout.size() * kFloatBytes,
      .exchange_per_node = state_->gradients.exchange_elements(state_->options.clip) * kFloatBytes,
      .optimizer_state_per_world = num_states * state_->layout.size() * kFloatBytes};
}

const OptimizerSpec& CollocatedServer::optimizer() const {
  return state_->options.optimizer;
}

ElementRange CollocatedServer::shard() const {
  return state_->shard;
}

SlotDealing CollocatedServer::dealing() const {
  return state_->options.dealing;
}

void CollocatedServer::raise_flags(std::uint32_t flags) {
  state_->raised |= flags;
}

std::uint32_t CollocatedServer::flags() const {
  return state_->board.flags();
}

void CollocatedServer::load_parameters(std::span<const float> buffer) {
  State& state = *state_;
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == state.layout.size(),
                  "size of the buffer", buffer.size());
  state.world.sync();
  if (state.world.ranks_at(bsp::Level::kNode).front() == state.world.rank()) {
    std::copy(buffer.begin(), buffer.end(), state.parameters.span().begin());
  }
  state.updater.reset_state();
  state.guard.forget();
  state.step = 0;
  state.world.sync();
}

std::vector<ArrayPart> CollocatedServer::parts(Verified verified) {
  State& state = *state_;
  const bool by_hash = verified == Verified::kByItsHashes;
  if (!by_hash) {
    state.guard.verify(state.parameters.span(), state.optimizer_state());
  }
  const std::span<const float> own =
      state.parameters.span().subspan(as_size(state.shard.begin), as_size(state.shard.length()));
  std::vector<ArrayPart> parts{
      {.name = "parameters",
       .num_elements = state.layout.size(),
       .range = state.shard,
       .values = own,
       .check_hashes = by_hash ? state.guard.own_parameters_check() : nullptr}};
  for (std::size_t i = 0; i < state.updater.state_names().size(); ++i) {
    parts.push_back({.name = state.updater.state_names()[i].name,
                     .num_elements = state.layout.size(),
                     .range = state.shard,
                     .values = state.updater.state(i),
                     .check_hashes = by_hash ? state.guard.own_state_check(i) : nullptr});
  }
  return parts;
}

void CollocatedServer::restore(const CheckpointReader& reader, std::int64_t step) {
  State& state = *state_;
  reader.require_model(state.layout);
  state.guard.forget();
  const std::span<const int> ranks = state.world.ranks_at(bsp::Level::kNode);
  const auto index =
      static_cast<int>(std::find(ranks.begin(), ranks.end(), state.world.rank()) - ranks.begin());
  const ElementRange part = state.layout.shard(index, static_cast<int>(ranks.size()));
  reader.read("parameters", part,
              state.parameters.span().subspan(as_size(part.begin), as_size(part.length())));
  for (std::size_t i = 0; i < state.updater.state_names().size(); ++i) {
    reader.read(state.updater.state_names()[i].name, state.shard, state.updater.state(i));
  }
  state.step = step;
  state.world.sync();
}

}  // namespace superstep::paramserver
