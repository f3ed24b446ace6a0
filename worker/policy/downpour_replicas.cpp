#include "worker/policy/downpour_replicas.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "paramserver/publish.h"

namespace superstep::worker {

namespace {

std::string array_of_replica(std::size_t worker, std::string_view what) {
  return fmt::format("replica_{}_{}", worker, what);
}

}  // namespace

DownpourReplicas::DownpourReplicas(bsp::World& world, const paramserver::ParameterLayout& layout,
                                   paramserver::ElementRange shard, const PolicyOptions& options)
    : world_(world),
      layout_(layout),
      shard_(shard),
      n_push_(options.n_push),
      own_rule_(layout, shard, {.kind = paramserver::OptimizerKind::kSgd}) {
  for (int worker = 0; worker < options.workers; ++worker) {
    if (options.n_fetch > 1) {
      models_.emplace_back(world, layout.size());
    }
    if (options.n_push > 1) {
      accrued_.emplace_back(shard.length());
    }
  }
}

void DownpourReplicas::begin(const StepPlan& plan, std::span<const float> source) {
  plan_ = plan;
  source_ = source;
}

std::span<const float> DownpourReplicas::model(int worker) const {
  SUPERSTEP_CHECK(as_size(worker) < models_.size(), "worker without a model:", worker);
  return models_[as_size(worker)].span();
}

paramserver::ElementRange DownpourReplicas::part_of_node() const {
  const std::span<const int> ranks = world_.ranks_at(bsp::Level::kNode);
  const auto place = std::find(ranks.begin(), ranks.end(), world_.rank()) - ranks.begin();
  return layout_.shard(static_cast<int>(place), static_cast<int>(ranks.size()));
}

void DownpourReplicas::leave_out() {
  if (plan_.goes_on) {
    const paramserver::ElementRange part = part_of_node();
    const std::span<float> own = models_[as_size(plan_.shares.front().worker)].span();
    if (own.data() != source_.data()) {
      std::copy(source_.begin() + part.begin, source_.begin() + part.end, own.begin() + part.begin);
    }
    world_.sync();
  }
}

paramserver::GradientGate::Pass DownpourReplicas::passes() const {
  return plan_.exchanges ? Pass::kYes : Pass::kNo;
}

void DownpourReplicas::on_mean(const paramserver::ShardStep& step, std::int64_t begin,
                               std::span<float> mean) {
  if (plan_.goes_on) {
    take_own_step(step, begin, mean);
  }
  if (n_push_ > 1) {
    accrue(begin, mean);
  }
}

void DownpourReplicas::take_own_step(const paramserver::ShardStep& step, std::int64_t begin,
                                     std::span<const float> mean) {
  const std::span<float> own =
      models_[as_size(plan_.shares.front().worker)].span().subspan(as_size(begin), mean.size());
  const std::span<const float> read = source_.subspan(as_size(begin), mean.size());
  if (own.data() != read.data()) {
    std::copy(read.begin(), read.end(), own.begin());
  }
  own_rule_.update_tile(step, begin, mean, own);
}

void DownpourReplicas::accrue(std::int64_t begin, std::span<float> mean) {
  const std::span<float> sums = accrued_[as_size(plan_.shares.front().worker)].span().subspan(
      as_size(begin - shard_.begin), mean.size());
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] += mean[i];
  }
  if (plan_.exchanges) {
    const auto count = static_cast<float>(n_push_);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      mean[i] = sums[i] / count;
      sums[i] = 0.0F;
    }
    own_rule_.scale_gradient(begin, static_cast<double>(n_push_), mean);  // statistics stay means
  }
}

void DownpourReplicas::publish(std::span<const std::int64_t> cuts) {
  if (plan_.goes_on) {
    paramserver::publish_between_nodes(world_, cuts,
                                       models_[as_size(plan_.shares.front().worker)].span());
  }
}

std::vector<paramserver::ArrayPart> DownpourReplicas::parts() const {
  std::vector<paramserver::ArrayPart> parts;
  const auto add = [&](std::size_t worker, std::string_view what, std::span<const float> values) {
    parts.push_back({.name = array_of_replica(worker, what),
                     .num_elements = layout_.size(),
                     .range = shard_,
                     .values = values});
  };
  for (std::size_t worker = 0; worker < models_.size(); ++worker) {
    const std::span<const float> whole = models_[worker].span();
    add(worker, "model", whole.subspan(as_size(shard_.begin), as_size(shard_.length())));
  }
  for (std::size_t worker = 0; worker < accrued_.size(); ++worker) {
    add(worker, "accrued", accrued_[worker].span());
  }
  return parts;
}

void DownpourReplicas::restore(const paramserver::CheckpointReader& reader) {
  const paramserver::ElementRange part = part_of_node();
  for (std::size_t worker = 0; worker < models_.size(); ++worker) {
    reader.read(array_of_replica(worker, "model"), part,
                models_[worker].span().subspan(as_size(part.begin), as_size(part.length())));
  }
  for (std::size_t worker = 0; worker < accrued_.size(); ++worker) {
    reader.read(array_of_replica(worker, "accrued"), shard_, accrued_[worker].span());
  }
  world_.sync();
}

}  // namespace superstep::worker
