#include "worker/federated/client_division.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/checked_cast.h"
#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

// Which of a client's positions belong to which part: training first.
class Division {
 public:
  Division(const ClientData& clients, const DivisionOptions& options) : options_(options) {
    const std::int64_t count = clients.num_clients();
    parts_.reserve(as_size(count));
    if (options.split == ClientSplit::kRandom) {
      order_.reserve(as_size(clients.total_samples()));
    }
    for (std::int64_t client = 0; client < count; ++client) {
      const std::int64_t samples = clients.num_samples(client);
      const auto wanted = static_cast<std::int64_t>(
          std::floor(static_cast<double>(samples) * options.test_fraction + 0.5));
      const std::int64_t tests = std::min(wanted, samples - 1);
      parts_.push_back({.first = num_samples_,
                        .train = checked_cast<std::uint32_t>(samples - tests),
                        .test = checked_cast<std::uint32_t>(tests)});
      num_samples_ += samples;
      num_tests_ += tests;
      if (options.split == ClientSplit::kRandom) {
        append_order(client, samples, tests);
      }
    }
  }

  std::int64_t num_train(std::int64_t client) const { return parts_[as_size(client)].train; }
  std::int64_t num_test(std::int64_t client) const { return parts_[as_size(client)].test; }
  std::int64_t all_train() const { return num_samples_ - num_tests_; }
  std::int64_t all_test() const { return num_tests_; }
  // Position in the whole client of position `at` of training then test samples.
  std::int64_t position(std::int64_t client, std::int64_t at) const {
    return order_.empty() ? at : order_[as_size(parts_[as_size(client)].first + at)];
  }
  std::string text() const {
    return fmt::format("test fraction {}, {}, seed {}", options_.test_fraction,
                       name_of(options_.split), options_.seed);
  }

 private:
  struct Part {
    std::int64_t first = 0;
    std::uint32_t train = 0;
    std::uint32_t test = 0;
  };
  static_assert(sizeof(Part) == 16);

  // Positions in ascending order within each part; the test samples are the end of a Fisher-Yates
  // shuffle, which need not go on below them.
  void append_order(std::int64_t client, std::int64_t samples, std::int64_t tests) {
    const std::size_t first = order_.size();
    order_.resize(first + as_size(samples));
    const auto begin = order_.begin() + static_cast<std::ptrdiff_t>(first);
    std::iota(begin, order_.end(), std::uint32_t{0});
    PhiloxStream stream(options_.seed, stream_id("federated client division"), client);
    for (std::int64_t i = samples - 1; i >= samples - tests && i > 0; --i) {
      const std::uint64_t j = stream.below(static_cast<std::uint64_t>(i) + 1);
      std::swap(begin[i], begin[static_cast<std::ptrdiff_t>(j)]);
    }
    std::sort(begin, order_.end() - tests);
    std::sort(order_.end() - tests, order_.end());
  }

  DivisionOptions options_;
  std::vector<Part> parts_;
  std::vector<std::uint32_t> order_;  // kRandom: client after client
  std::int64_t num_samples_ = 0;
  std::int64_t num_tests_ = 0;
};

enum class PartOf : std::uint8_t { kTrain, kTest };

class ClientsPart final : public ClientData {
 public:
  ClientsPart(std::shared_ptr<const ClientData> clients, std::shared_ptr<const Division> division,
              PartOf part)
      : clients_(std::move(clients)), division_(std::move(division)), part_(part) {}

  std::int64_t num_clients() const override { return clients_->num_clients(); }
  std::int64_t num_samples(std::int64_t client) const override {
    return is_test() ? division_->num_test(client) : division_->num_train(client);
  }
  std::int64_t total_samples() const override {
    return is_test() ? division_->all_test() : division_->all_train();
  }
  kernels::Shape sample_shape() const override { return clients_->sample_shape(); }
  int num_classes() const override { return clients_->num_classes(); }
  std::string name(std::int64_t client) const override { return clients_->name(client); }
  int owner(std::int64_t client, int num_ranks) const override {
    return clients_->owner(client, num_ranks);
  }
  std::vector<std::span<const std::byte>> sample_memory() const override {
    return clients_->sample_memory();
  }
  std::string fingerprint() const override {
    return fmt::format("{}; {} part ({})", clients_->fingerprint(), is_test() ? "test" : "training",
                       division_->text());
  }

  // In pieces, so that nothing is allocated.
  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    const std::int64_t first = is_test() ? division_->num_train(client) : 0;
    const std::int64_t count = num_samples(client);
    const std::size_t elements = as_size(sample_shape().num_elements());
    std::array<std::int64_t, 64> whole{};
    for (std::size_t done = 0; done < positions.size(); done += whole.size()) {
      const std::size_t length = std::min(whole.size(), positions.size() - done);
      for (std::size_t i = 0; i < length; ++i) {
        const std::int64_t at = positions[done + i];
        SUPERSTEP_CHECK(at >= 0 && at < count, "position", at, "of client", client);
        whole[i] = division_->position(client, first + at);
      }
      clients_->read(client, std::span<const std::int64_t>(whole).first(length), normalization,
                     out.subspan(done * elements, length * elements), labels.subspan(done, length),
                     ids.subspan(done, length));
    }
  }

 private:
  bool is_test() const { return part_ == PartOf::kTest; }

  std::shared_ptr<const ClientData> clients_;
  std::shared_ptr<const Division> division_;
  PartOf part_;
};

}  // namespace

std::string_view name_of(ClientSplit split) {
  return split == ClientSplit::kRandom ? "random" : "last";
}

DividedClients divide_clients(const std::shared_ptr<const ClientData>& clients,
                              const DivisionOptions& options) {
  require_field("divide_clients", options.test_fraction >= 0.0 && options.test_fraction < 1.0,
                "test_fraction", options.test_fraction, "a number in [0, 1)");
  const auto division = std::make_shared<const Division>(*clients, options);
  return {.train = std::make_shared<ClientsPart>(clients, division, PartOf::kTrain),
          .test = std::make_shared<ClientsPart>(clients, division, PartOf::kTest)};
}

}  // namespace superstep::worker
