#include "cluster/dry_run.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"
#include "bsp/slot_tree.h"
#include "bsp/tree_reduce.h"
#include "cluster/policy_report.h"
#include "cluster/summary.h"
#include "kernels/precision.h"
#include "paramserver/server_ranks.h"
#include "paramserver/slot_gradients.h"

namespace superstep::cluster {

namespace {

constexpr auto kFloatBytes = static_cast<std::int64_t>(sizeof(float));

std::vector<std::vector<int>> slots_by_rank(int num_slots, int num_servers,
                                            const WorldShape& shape) {
  return bsp::slots_of_ranks(paramserver::worker_placement(num_slots, num_servers, shape.ranks),
                             shape.ranks);
}

// Local workers keep their slots together.
std::vector<std::vector<int>> slots_by_rank(const RunSetup& setup, const WorldShape& shape) {
  const auto num_slots = static_cast<int>(setup.config.train.microbatches);
  const auto num_servers = static_cast<int>(setup.config.server.servers);
  const worker::PolicyOptions policy = policy_options(setup.config);
  if (policy.kind != worker::PolicyKind::kLocal) {
    return slots_by_rank(num_slots, num_servers, shape);
  }
  const std::vector<int> hosts =
      paramserver::worker_placement(policy.workers, num_servers, shape.ranks);
  std::vector<int> placement = worker::shares_of_slots(num_slots, policy.workers);
  for (int& slot : placement) {
    slot = hosts[static_cast<std::size_t>(slot)];
  }
  return bsp::slots_of_ranks(placement, shape.ranks);
}

// Assembled batches: those ahead, the one in use and the one whose validity next() still
// guarantees.
std::int64_t batch_bytes_of_largest_node(const RunSetup& setup, const WorldShape& shape) {
  const TrainSection& train = setup.config.train;
  const auto num_slots = static_cast<int>(train.microbatches);
  const std::int64_t sample_bytes = setup.model.sample_shape().num_elements() * kFloatBytes +
                                    2 * std::int64_t{sizeof(std::int64_t)};
  std::vector<std::int64_t> by_node(static_cast<std::size_t>(shape.nodes));
  const std::vector<std::vector<int>> slots = slots_by_rank(setup, shape);
  for (std::size_t rank = 0; rank < slots.size(); ++rank) {
    for (const int slot : slots[rank]) {
      const bsp::SampleRange range = bsp::samples_of_slot(slot, num_slots, train.global_batch);
      by_node[static_cast<std::size_t>(shape.node_of_rank[rank])] +=
          (range.end - range.begin) * sample_bytes * (train.prefetch_depth + 2);
    }
  }
  return *std::max_element(by_node.begin(), by_node.end());
}

// The first lane of a process carries its data.
std::int64_t data_bytes_of_largest_node(const RunSetup& setup, const WorldShape& shape) {
  std::vector<std::int64_t> by_node(static_cast<std::size_t>(shape.nodes));
  for (std::size_t rank = 0; rank < shape.node_of_rank.size();
       rank += static_cast<std::size_t>(shape.lanes)) {
    by_node[static_cast<std::size_t>(shape.node_of_rank[rank])] += setup.data.bytes;
  }
  return *std::max_element(by_node.begin(), by_node.end());
}

std::string slots_text(const RunSetup& setup, const WorldShape& shape) {
  const bool has_servers = setup.config.server.servers > 0;
  std::string text;
  const std::vector<std::vector<int>> slots = slots_by_rank(setup, shape);
  for (std::size_t rank = 0; rank < slots.size(); ++rank) {
    text += slots[rank].empty()
                ? fmt::format("  rank {}: {}\n", rank, has_servers ? "server" : "no slots")
                : fmt::format("  rank {} (node {}): slots {}-{}\n", rank, shape.node_of_rank[rank],
                              slots[rank].front(), slots[rank].back());
  }
  return text;
}

std::string memory_line(std::string_view what, std::int64_t bytes) {
  return fmt::format("  {:<28} {:>16} bytes  ({})\n", what, bytes, human_bytes(bytes));
}

std::string precision_text(const TrainSection& train) {
  if (kernels::precision_named(train.precision) == kernels::Precision::kFloat32) {
    return "precision: float32\n";
  }
  return fmt::format("precision: products and convolutions in bf16 ({}), the rest in float32\n",
                     kernels::bf16_arithmetic());
}

std::string data_text(const RunSetup& setup) {
  const worker::TrainingData& parts = setup.data.parts;
  const std::int64_t per_epoch = steps_per_epoch(setup);
  const std::int64_t rest = parts.train->size() % setup.config.train.global_batch;
  return fmt::format(
      "data: {} training, {} validation, {} test samples of {}\n"
      "steps: {} per epoch ({} samples each{}), {} in all\n",
      grouped(parts.train->size()), grouped(parts.validation ? parts.validation->size() : 0),
      grouped(parts.test ? parts.test->size() : 0), setup.model.sample_shape().to_string(),
      grouped(per_epoch), grouped(setup.config.train.global_batch),
      rest == 0 ? std::string() : fmt::format(", {} in the last", rest),
      grouped(total_supersteps(setup)));
}

}  // namespace

paramserver::MemoryUse predicted_memory(const paramserver::ParameterLayout& layout,
                                        const paramserver::CollocatedOptions& options,
                                        const WorldShape& shape) {
  const std::vector<std::int64_t> buffers = paramserver::gradient_buffers(
      options.num_slots, slots_by_rank(options.num_slots, options.num_servers, shape),
      options.dealing);
  const int num_ranks = shape.ranks;
  const std::vector<std::int64_t> cuts =
      paramserver::owner_cuts(layout, options.num_servers, num_ranks);
  const std::vector<int> placement =
      paramserver::worker_placement(options.num_slots, options.num_servers, num_ranks);
  const bsp::TreeReducePlan plan = bsp::plan_tree_reduce({.num_elements = layout.size(),
                                                          .num_slots = options.num_slots,
                                                          .placement = placement,
                                                          .node_of_rank = shape.node_of_rank,
                                                          .cuts = cuts});
  const std::int64_t exchange = paramserver::exchange_elements(
      paramserver::exchange_scratch(plan), cuts, shape.node_of_rank, options.clip);
  const std::int64_t bytes = layout.size() * kFloatBytes;
  const auto num_states =
      static_cast<std::int64_t>(paramserver::state_arrays(options.optimizer).size());
  return {.parameters_per_node = bytes,
          .gradients_per_node = paramserver::most_per_node(buffers, shape.node_of_rank) * bytes,
          .exchange_per_node = exchange * kFloatBytes,
          .optimizer_state_per_world = num_states * bytes};
}

std::string dry_run_text(const RunSetup& setup, const WorldShape& shape) {
  const auto num_slots = static_cast<int>(setup.config.train.microbatches);
  const paramserver::MemoryUse memory =
      predicted_memory(setup.model.layout(), server_options(setup), shape);
  std::string text = fmt::format("world: {}\n", to_text(shape));
  text += precision_text(setup.config.train);
  text += data_text(setup);
  text += fmt::format("slots: {} of up to {} samples, the same for any number of ranks\n{}",
                      num_slots, (setup.config.train.global_batch + num_slots - 1) / num_slots,
                      slots_text(setup, shape));
  text += policy_forecast(setup);
  text += fmt::format("model: {} parameters\n{}", grouped(setup.model.layout().num_parameters()),
                      setup.model.summary());
  text += "memory:\n";
  text += memory_line("parameters, per node", memory.parameters_per_node);
  text += memory_line("gradients, largest node", memory.gradients_per_node);
  text += memory_line("exchange, largest node", memory.exchange_per_node);
  text += memory_line("optimizer state, world", memory.optimizer_state_per_world);
  text += memory_line("copy for checkpoints, world",
                      checkpoint_copy_bytes(setup.config.checkpoint, memory, shape.ranks));
  text += memory_line("data, largest node", data_bytes_of_largest_node(setup, shape));
  text += memory_line("batches, largest node", batch_bytes_of_largest_node(setup, shape));
  return text;
}

}  // namespace superstep::cluster
