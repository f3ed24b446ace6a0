#include "bsp/transport.h"

#include <atomic>
#include <utility>

#include "base/check.h"

namespace superstep::bsp::internal {

namespace {

class SingleProcessTransport : public Transport {
 public:
  using Counter = std::shared_ptr<std::atomic<std::uint32_t>>;
  explicit SingleProcessTransport(Counter next_context) : next_context_(std::move(next_context)) {}

  int process() const override { return 0; }
  int num_processes() const override { return 1; }

  void exchange(std::span<const ProcessSend> sends, std::span<const ProcessReceive> receives,
                Patience& /*patience*/) override {
    SUPERSTEP_CHECK(sends.empty() && receives.empty(), "there is no other process");
  }
  void synchronise(std::span<std::uint64_t> /*words*/, Patience& /*patience*/) override {}

  void post_control(ControlMessage /*message*/) override {
    SUPERSTEP_CHECK(false, "there is no other process");
  }
  std::optional<ControlMessage> poll_control() override { return std::nullopt; }

  std::uint32_t reserve_context() override { return next_context_->fetch_add(1); }
  std::unique_ptr<Transport> subset(std::span<const int> processes,
                                    std::uint32_t /*context*/) override {
    SUPERSTEP_CHECK(processes.size() == 1 && processes[0] == 0, "there is no other process");
    return std::make_unique<SingleProcessTransport>(next_context_);
  }

 private:
  Counter next_context_;  // shared with all subsets
};

template <typename Message>
std::vector<Message> to_all_others(const Transport& transport) {
  std::vector<Message> messages;
  for (int process = 0; process < transport.num_processes(); ++process) {
    if (process != transport.process()) {
      messages.push_back({.process = process, .bytes = {}, .from_rank = -1, .to_rank = -1});
    }
  }
  return messages;
}

}  // namespace

std::unique_ptr<Transport> single_process_transport() {
  return std::make_unique<SingleProcessTransport>(std::make_shared<std::atomic<std::uint32_t>>(1));
}

std::vector<std::string> allgather_texts(Transport& transport, std::string_view mine,
                                         Patience& patience) {
  std::vector<std::uint64_t> sizes(static_cast<std::size_t>(transport.num_processes()));
  const auto me = static_cast<std::size_t>(transport.process());
  sizes[me] = mine.size();
  auto sends = to_all_others<ProcessSend>(transport);
  auto receives = to_all_others<ProcessReceive>(transport);
  for (std::size_t i = 0; i < sends.size(); ++i) {
    const auto other = static_cast<std::size_t>(sends[i].process);
    sends[i].bytes = std::as_bytes(std::span(&sizes[me], 1));
    receives[i].bytes = std::as_writable_bytes(std::span(&sizes[other], 1));
  }
  transport.exchange(sends, receives, patience);

  std::vector<std::string> texts(sizes.size());
  texts[me] = mine;
  for (std::size_t i = 0; i < sends.size(); ++i) {
    const auto other = static_cast<std::size_t>(sends[i].process);
    texts[other].resize(sizes[other]);
    sends[i].bytes = std::as_bytes(std::span(mine));
    receives[i].bytes = std::as_writable_bytes(std::span(texts[other]));
  }
  transport.exchange(sends, receives, patience);
  return texts;
}

}  // namespace superstep::bsp::internal
