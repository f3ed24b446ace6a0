#include "paramserver/federated_server.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/aligned.h"
#include "base/as_size.h"
#include "base/check.h"
#include "base/clock.h"
#include "bsp/shared_array.h"
#include "paramserver/publish.h"

namespace superstep::paramserver {

namespace {

constexpr ServerRule kPlainMean{.kind = ServerRuleKind::kSgd, .learning_rate = 1.0};

}  // namespace

struct FederatedServer::State {
  State(bsp::World& the_world, const ParameterLayout& the_layout,
        FederatedServerOptions the_options);

  std::span<std::int64_t> row(std::int64_t rank_on_node, int channel) const;
  void reduce_channel(int channel, std::span<std::int64_t> sums) const;
  void clear_own_sums() const;
  void update_entry(const LayoutEntry& entry, const RoundScale& scale);
  void apply_control(ElementRange part, const RoundScale& scale, std::span<double> mean);
  void step(const RoundScale& scale);
  void finish(Clock::time_point start);
  void timed_sync(bsp::CallSite site = bsp::CallSite::here());
  void fill_states();

  std::span<float> control_span() const {
    return control.empty() ? std::span<float>() : control.front().span();
  }

  bsp::World& world;
  const ParameterLayout& layout;
  FederatedServerOptions options;
  std::vector<std::int64_t> cuts;
  ElementRange shard;
  int channels;
  std::int64_t rank_on_node = 0;
  bsp::SharedArray<float> parameters;                   // once per node
  std::vector<bsp::SharedArray<float>> control;         // none or one, once per node
  bsp::SharedArray<std::int64_t> sums;                  // by rank of the node, then channel
  std::vector<AlignedBuffer<std::int64_t>> shard_sums;  // by channel
  std::vector<ServerState> state_names;
  std::vector<AlignedBuffer<float>> states;
  std::vector<double> mean;  // of the shard
  ExchangeTimes times;
};

FederatedServer::State::State(bsp::World& the_world, const ParameterLayout& the_layout,
                              FederatedServerOptions the_options)
    : world(the_world),
      layout(the_layout),
      options(std::move(the_options)),
      cuts(layout.shard_cuts(world.size())),
      shard(layout.shard(world.rank(), world.size())),
      channels(options.control == ControlKind::kScaffold ||
                       options.control == ControlKind::kMimeLite
                   ? 2
                   : 1),
      parameters(world, layout.size()),
      sums(world, static_cast<std::int64_t>(world.ranks_at(bsp::Level::kNode).size()) * channels *
                      layout.size()),
      state_names(state_arrays(options.rule)) {
  const std::span<const int> ranks = world.ranks_at(bsp::Level::kNode);
  rank_on_node = std::find(ranks.begin(), ranks.end(), world.rank()) - ranks.begin();
  if (options.control != ControlKind::kNone) {
    control.emplace_back(world, layout.size());
  }
  for (int channel = 0; channel < channels; ++channel) {
    shard_sums.emplace_back(shard.length());
  }
  for (std::size_t i = 0; i < state_names.size(); ++i) {
    states.emplace_back(shard.length());
  }
  mean.resize(as_size(shard.length()));
  fill_states();
}

void FederatedServer::State::fill_states() {
  for (std::size_t i = 0; i < states.size(); ++i) {
    const std::span<float> state = states[i].span();
    std::fill(state.begin(), state.end(), static_cast<float>(state_names[i].initial_value));
  }
}

std::span<std::int64_t> FederatedServer::State::row(std::int64_t of, int channel) const {
  return sums.span().subspan(as_size((of * channels + channel) * layout.size()),
                             as_size(layout.size()));
}

// The sum over all ranks of this rank's shard.
void FederatedServer::State::reduce_channel(int channel, std::span<std::int64_t> out) const {
  if (world.num_nodes() > 1) {
    std::vector<std::int64_t> counts;
    for (std::size_t rank = 0; rank + 1 < cuts.size(); ++rank) {
      counts.push_back(cuts[rank + 1] - cuts[rank]);
    }
    world.reduce_scatter(std::span<const std::int64_t>(row(rank_on_node, channel)), out, counts,
                         bsp::ReduceOp::kSum);
    return;
  }
  std::fill(out.begin(), out.end(), 0);
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::int64_t* __restrict in = row(rank, channel).data() + shard.begin;
    std::int64_t* __restrict total = out.data();
    for (std::size_t i = 0; i < out.size(); ++i) {
      total[i] += in[i];
    }
  }
}

void FederatedServer::State::clear_own_sums() const {
  for (int channel = 0; channel < channels; ++channel) {
    const std::span<std::int64_t> own = row(rank_on_node, channel);
    std::fill(own.begin(), own.end(), 0);
  }
}

// `mean` is that of channel 0 and may be changed.
void FederatedServer::State::apply_control(ElementRange part, const RoundScale& scale,
                                           std::span<double> mean_of_part) {
  const std::span<float> values =
      control_span().subspan(as_size(part.begin), as_size(part.length()));
  const std::size_t offset = as_size(part.begin - shard.begin);
  const std::int64_t* first = shard_sums[0].data() + offset;
  const std::int64_t* second = channels > 1 ? shard_sums[1].data() + offset : nullptr;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto old = static_cast<double>(values[i]);
    switch (options.control) {
      case ControlKind::kNone:
        break;
      case ControlKind::kScaffold:
        values[i] = static_cast<float>(old + static_cast<double>(second[i]) * scale.control_scale);
        break;
      case ControlKind::kMimeLite:
        values[i] = static_cast<float>(options.control_rate * old +
                                       (1.0 - options.control_rate) *
                                           static_cast<double>(second[i]) * scale.control_scale);
        break;
      case ControlKind::kFedDyn:
        values[i] = static_cast<float>(old - options.control_rate * static_cast<double>(first[i]) *
                                                 scale.control_scale);
        mean_of_part[i] -= static_cast<double>(values[i]) / options.control_rate;
        break;
    }
  }
}

void FederatedServer::State::update_entry(const LayoutEntry& entry, const RoundScale& scale) {
  const ElementRange part{std::max(entry.offset, shard.begin),
                          std::min(entry.offset + entry.num_elements(), shard.end)};
  if (part.begin >= part.end) {
    return;
  }
  const std::size_t offset = as_size(part.begin - shard.begin);
  const std::span<double> means = std::span<double>(mean).subspan(offset, as_size(part.length()));
  const std::span<float> values =
      parameters.span().subspan(as_size(part.begin), as_size(part.length()));
  if (entry.role == EntryRole::kStatistic) {
    apply(kPlainMean, means, values, {});
    return;
  }
  if (options.control != ControlKind::kNone) {
    apply_control(part, scale, means);
  }
  std::vector<std::span<float>> parts;
  for (AlignedBuffer<float>& state : states) {
    parts.push_back(state.span().subspan(offset, as_size(part.length())));
  }
  apply(options.rule, means, values, parts);
}

// Steps on this rank's shard by `mean` and publishes it.
void FederatedServer::State::step(const RoundScale& scale) {
  for (const LayoutEntry& entry : layout.entries()) {
    update_entry(entry, scale);
  }
  publish_between_nodes(world, cuts, parameters.span());
  if (!control.empty()) {
    publish_between_nodes(world, cuts, control_span());
  }
}

void FederatedServer::State::finish(Clock::time_point start) {
  world.set_phase("sync: parameters");
  timed_sync();
  clear_own_sums();
  world.set_phase("compute");
  times.exchange_seconds = to_seconds(Clock::now() - start) - times.sync_seconds;
}

void FederatedServer::State::timed_sync(bsp::CallSite site) {
  const Clock::time_point start = Clock::now();
  world.sync(site);
  times.sync_seconds += to_seconds(Clock::now() - start);
}

FederatedServer::FederatedServer(bsp::World& world, const ParameterLayout& layout,
                                 FederatedServerOptions options) {
  validate(options.rule);
  state_ = std::make_unique<State>(world, layout, std::move(options));
}

FederatedServer::~FederatedServer() = default;

ParameterView FederatedServer::pull() const {
  return {state_->layout, state_->parameters.span()};
}

std::span<const float> FederatedServer::control() const {
  return state_->control_span();
}

int FederatedServer::num_channels() const {
  return state_->channels;
}

std::span<std::int64_t> FederatedServer::sums(int channel) {
  SUPERSTEP_CHECK(0 <= channel && channel < state_->channels, "channel", channel);
  return state_->row(state_->rank_on_node, channel);
}

void FederatedServer::apply_round(const RoundScale& scale, const Noise& noise) {
  State& state = *state_;
  state.times = {};
  const Clock::time_point start = Clock::now();
  state.world.set_phase("sync: updates");
  state.timed_sync();
  state.world.set_phase("exchange");
  for (int channel = 0; channel < state.channels; ++channel) {
    state.reduce_channel(channel, state.shard_sums[as_size(channel)].span());
  }
  if (noise) {
    noise(state.shard.begin, state.shard_sums[0].span());
  }
  if (scale.scale != 0.0) {
    const std::span<const std::int64_t> sums = state.shard_sums[0].span();
    for (std::size_t i = 0; i < sums.size(); ++i) {
      state.mean[i] = static_cast<double>(sums[i]) * scale.scale;
    }
    state.step(scale);
  }
  state.finish(start);
}

void FederatedServer::apply_means(std::span<const double> means) {
  State& state = *state_;
  SUPERSTEP_CHECK(state.options.control == ControlKind::kNone, "means beside a control");
  state.times = {};
  const Clock::time_point start = Clock::now();
  state.world.set_phase("sync: updates");
  state.timed_sync();
  state.world.set_phase("exchange");
  if (!means.empty()) {
    std::copy(means.begin(), means.end(), state.mean.begin());
  }
  // A shard may be empty while others are not.
  if (state.world.allreduce(static_cast<int>(!means.empty()), bsp::ReduceOp::kMax) != 0) {
    state.step({.scale = 1.0, .control_scale = 0.0});
  }
  state.finish(start);
}

void FederatedServer::load_parameters(std::span<const float> buffer) {
  State& state = *state_;
  SUPERSTEP_CHECK(static_cast<std::int64_t>(buffer.size()) == state.layout.size(),
                  "size of the buffer", buffer.size());
  state.world.sync();
  if (state.rank_on_node == 0) {
    std::copy(buffer.begin(), buffer.end(), state.parameters.span().begin());
    const std::span<float> control = state.control_span();
    std::fill(control.begin(), control.end(), 0.0F);
  }
  state.fill_states();
  state.clear_own_sums();
  state.world.sync();
}

std::vector<ArrayPart> FederatedServer::parts() {
  State& state = *state_;
  const auto own = [&](std::span<const float> whole) {
    return whole.subspan(as_size(state.shard.begin), as_size(state.shard.length()));
  };
  std::vector<ArrayPart> parts{{.name = "parameters",
                                .num_elements = state.layout.size(),
                                .range = state.shard,
                                .values = own(state.parameters.span())}};
  if (!state.control.empty()) {
    parts.push_back({.name = "control",
                     .num_elements = state.layout.size(),
                     .range = state.shard,
                     .values = own(state.control_span())});
  }
  for (std::size_t i = 0; i < state.states.size(); ++i) {
    parts.push_back({.name = std::string(state.state_names[i].name),
                     .num_elements = state.layout.size(),
                     .range = state.shard,
                     .values = state.states[i].span()});
  }
  return parts;
}

void FederatedServer::restore(const CheckpointReader& reader) {
  State& state = *state_;
  reader.require_model(state.layout);
  const auto ranks = static_cast<int>(state.world.ranks_at(bsp::Level::kNode).size());
  const ElementRange part = state.layout.shard(static_cast<int>(state.rank_on_node), ranks);
  const auto own = [&](std::span<float> whole) {
    return whole.subspan(as_size(part.begin), as_size(part.length()));
  };
  reader.read("parameters", part, own(state.parameters.span()));
  if (!state.control.empty()) {
    reader.read("control", part, own(state.control_span()));
  }
  for (std::size_t i = 0; i < state.states.size(); ++i) {
    reader.read(std::string(state.state_names[i].name), state.shard, state.states[i].span());
  }
  state.clear_own_sums();
  state.world.sync();
}

ExchangeTimes FederatedServer::last_times() const {
  return state_->times;
}

MemoryUse FederatedServer::memory_use() const {
  const State& state = *state_;
  const std::int64_t bytes = state.layout.size() * static_cast<std::int64_t>(sizeof(float));
  const auto shared = static_cast<std::int64_t>(1 + state.control.size());
  return {.parameters_per_node = shared * bytes,
          .gradients_per_node = state.sums.size() * static_cast<std::int64_t>(sizeof(std::int64_t)),
          .optimizer_state_per_world = static_cast<std::int64_t>(state.states.size()) * bytes};
}

}  // namespace superstep::paramserver
