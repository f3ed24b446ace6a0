#include "bsp/node_transport.h"

#include <algorithm>
#include <map>
#include <utility>

namespace superstep::bsp::internal {

namespace {

class NodeTransport : public Transport {
 public:
  NodeTransport(std::unique_ptr<Transport> inner, const NodeProcesses& processes,
                SharedMapping mapping, std::uint32_t context)
      : inner_(std::move(inner)),
        barrier_(std::move(mapping), processes.member, static_cast<int>(processes.members.size())) {
    // The leaders use the synchronisation channel of the world's context, which nobody else uses.
    if (barrier_.is_leader() && processes.leaders.size() > 1) {
      leaders_ = inner_->subset(processes.leaders, context);
    }
  }

  int process() const override { return inner_->process(); }
  int num_processes() const override { return inner_->num_processes(); }
  void exchange(std::span<const ProcessSend> sends, std::span<const ProcessReceive> receives,
                Patience& patience) override {
    inner_->exchange(sends, receives, patience);
  }
  void synchronise(std::span<std::uint64_t> words, Patience& patience) override {
    barrier_.meet(words, patience, [&] {
      if (leaders_ != nullptr) {
        leaders_->synchronise(words, patience);
      }
    });
  }
  void post_control(ControlMessage message) override { inner_->post_control(std::move(message)); }
  std::optional<ControlMessage> poll_control() override { return inner_->poll_control(); }
  std::uint32_t reserve_context() override { return inner_->reserve_context(); }
  std::unique_ptr<Transport> subset(std::span<const int> processes,
                                    std::uint32_t context) override {
    return inner_->subset(processes, context);
  }

 private:
  std::unique_ptr<Transport> inner_;
  std::unique_ptr<Transport> leaders_;  // null: one node, or not the leader
  NodeBarrier barrier_;
};

}  // namespace

NodeProcesses node_processes(const Topology& topology, int process) {
  std::map<int, std::vector<int>> processes_of_node;
  for (int i = 0; i < topology.num_processes(); ++i) {
    const int first_rank = topology.ranks_of_process[static_cast<std::size_t>(i)].front();
    processes_of_node[topology.node_of[static_cast<std::size_t>(first_rank)]].push_back(i);
  }
  NodeProcesses result;
  for (const auto& [node, members] : processes_of_node) {
    result.leaders.push_back(members.front());
    const auto mine = std::find(members.begin(), members.end(), process);
    if (mine != members.end()) {
      result.members = members;
      result.member = static_cast<int>(mine - members.begin());
    }
  }
  return result;
}

std::unique_ptr<Transport> node_transport(std::unique_ptr<Transport> inner,
                                          const NodeProcesses& processes, SharedMapping mapping,
                                          std::uint32_t context) {
  return std::make_unique<NodeTransport>(std::move(inner), processes, std::move(mapping), context);
}

}  // namespace superstep::bsp::internal
