// The server of federated training: every rank owns one shard, and sums are integers.
//
//   FederatedServer server(world, layout, options);
//   server.load_parameters(initial);
//   ... every rank trains its clients from server.pull() and adds what they give to server.sums(0)
//   server.apply_round({.scale = unit(ring) / total_weight});   // collective
//
// The server is not a process: the sums of the ranks are reduced into shards (plain loads within a
// node, reduce_scatter between nodes), each owner steps on its shard and publishes it. Parameters
// exist once per node, server state once in the world. Sums are integers (paramserver/ring.h), so
// the result does not depend on the number of ranks or on which of them trained a client.
//
// A second channel of sums and a second published array ("control") serve algorithms whose server
// keeps a variable beside the model:
//   kScaffold  control += mean of (c_i' - c_i)                          (Karimireddy et al. 2020)
//   kFedDyn    control -= alpha * sum of (w_i - w) / N;  w += mean - control / alpha
//                                                                        (Acar et al. 2021)
//   kMimeLite  control = beta * control + (1 - beta) * mean of gradients (Karimireddy et al. 2021)
//
// Memory: parameters (and control) once per node, 8 bytes per element, channel and rank for sums.
// Cost of apply_round for n elements: w = O(n / p * (p + states)), h = 0 on one node, 2 l.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/layout.h"
#include "paramserver/server.h"
#include "paramserver/server_rule.h"

namespace superstep::paramserver {

enum class ControlKind : std::uint8_t { kNone, kScaffold, kFedDyn, kMimeLite };

struct FederatedServerOptions {
  ServerRule rule;
  ControlKind control = ControlKind::kNone;
  double control_rate = 0.0;  // kFedDyn: alpha; kMimeLite: beta
};

// What turns the sums of a round into its mean: element = sum * scale.
struct RoundScale {
  double scale = 0.0;          // channel 0
  double control_scale = 0.0;  // kScaffold, kMimeLite: of channel 1; kFedDyn: of channel 0
};

class FederatedServer {
 public:
  // Adds noise to the integer sums [begin, begin + sums.size()) of channel 0, once in the world.
  using Noise = std::function<void(std::int64_t begin, std::span<std::int64_t> sums)>;

  // Collective. Everything referenced must outlive this object.
  FederatedServer(bsp::World& world, const ParameterLayout& layout, FederatedServerOptions options);
  FederatedServer(const FederatedServer&) = delete;
  FederatedServer& operator=(const FederatedServer&) = delete;
  ~FederatedServer();

  // The published model and control. Valid until apply_round().
  ParameterView pull() const;
  std::span<const float> control() const;  // empty without one

  int num_channels() const;  // 1 or 2
  // This rank's sums, layout().size() elements; zero at the start of a round.
  std::span<std::int64_t> sums(int channel);
  // Collective. Consumes the sums; with a scale of 0 the model stays as it is.
  void apply_round(const RoundScale& scale, const Noise& noise = {});

  // Collective. As apply_round, with the mean of this rank's shard given by the caller; empty on
  // all ranks: the model stays as it is. Not with control.
  void apply_means(std::span<const double> means);

  // Collective. Sets the model, and state to its initial values. The same buffer on every rank.
  void load_parameters(std::span<const float> buffer);
  // What a checkpoint holds, and its inverse (collective).
  std::vector<ArrayPart> parts();
  void restore(const CheckpointReader& reader);

  ExchangeTimes last_times() const;
  MemoryUse memory_use() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::paramserver
