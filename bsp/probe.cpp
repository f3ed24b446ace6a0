#include "bsp/probe.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "bsp/coarray.h"
#include "bsp/queue.h"

namespace superstep::bsp {

namespace {

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Per call, of the slowest rank.
double seconds_per_call(World& world, const std::function<void()>& call, long calls) {
  world.sync();
  const Stopwatch watch;
  for (long i = 0; i < calls; ++i) {
    call();
  }
  return world.allreduce(watch.seconds() / static_cast<double>(calls), ReduceOp::kMax);
}

ProbeSample sample_of(World& world, const std::function<void()>& call,
                      const ProbeOptions& options) {
  const double once = std::max(seconds_per_call(world, call, 2), 1e-9);
  const long calls = std::clamp(std::lround(options.seconds_per_sample / once), 1L, 10'000L);
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(options.rounds));
  for (int round = 0; round < options.rounds; ++round) {
    times.push_back(seconds_per_call(world, call, calls));
  }
  return {.h_bytes = 0.0,
          .seconds = median_of(times),
          .low = *std::min_element(times.begin(), times.end()),
          .high = *std::max_element(times.begin(), times.end()),
          .residual = 0.0};
}

// Supersteps in which every rank sends as much to every other one.
class FullRelation {
 public:
  FullRelation(World& world, const ProbeOptions& options)
      : world_(world),
        pattern_(options.pattern),
        most_(options.largest_bytes / (world.size() - 1)),
        source_(static_cast<std::size_t>(most_)) {
    if (pattern_ == ProbePattern::kSends) {
      queue_.emplace(world);
    } else {
      array_.emplace(world, most_ * world.size());
    }
  }

  void run(std::int64_t h_bytes) {
    const std::int64_t length = std::min(most_, h_bytes / (world_.size() - 1));
    const std::span<const std::byte> bytes =
        std::span(source_).first(static_cast<std::size_t>(length));
    const std::int64_t begin = most_ * world_.rank();
    for (int to = world_.next_rank(); to != world_.rank(); to = (to + 1) % world_.size()) {
      if (pattern_ == ProbePattern::kSends) {
        queue_->send(to, bytes);
      } else if (pattern_ == ProbePattern::kPuts) {
        (*array_)(to)[{begin, begin + length}] = bytes;
      } else {
        (*array_)(to)[{begin, begin + length}].put_unbuffered(bytes);
      }
    }
    world_.sync();
  }

 private:
  World& world_;
  ProbePattern pattern_;
  std::int64_t most_;  // bytes to one rank
  std::vector<std::byte> source_;
  std::optional<Coarray<std::byte>> array_;
  std::optional<Queue<std::byte>> queue_;
};

void sweep(World& world, const ProbeOptions& options, MachineProfile& profile) {
  FullRelation relation(world, options);
  const double factor = std::exp2(1.0 / options.sizes_per_octave);
  for (double h = static_cast<double>(options.smallest_bytes);
       h <= static_cast<double>(options.largest_bytes) * 1.001; h *= factor) {
    const auto h_bytes = static_cast<std::int64_t>(h);
    const std::uint64_t before = world.traffic().bytes_sent;
    relation.run(h_bytes);
    const std::uint64_t counted = world.traffic().bytes_sent - before;
    ProbeSample sample = sample_of(
        world, [&] { relation.run(h_bytes); }, options);
    sample.h_bytes = static_cast<double>(counted);
    profile.samples.push_back(sample);
  }
}

void fit(MachineProfile& profile) {
  std::vector<double> h;
  std::vector<double> seconds;
  for (const ProbeSample& sample : profile.samples) {
    h.push_back(sample.h_bytes);
    seconds.push_back(sample.seconds);
  }
  const LinearFit line = fit_relative(h, seconds);
  profile.g = line.slope;
  profile.l = line.intercept;
  double squares = 0.0;
  for (ProbeSample& sample : profile.samples) {
    sample.residual = sample.seconds / (line.slope * sample.h_bytes + line.intercept) - 1.0;
    squares += sample.residual * sample.residual;
  }
  profile.residual_rms = std::sqrt(squares / static_cast<double>(profile.samples.size()));
}

}  // namespace

LinearFit fit_relative(std::span<const double> x, std::span<const double> y) {
  // Rows (x/y, 1/y) against 1.
  double uu = 0.0;
  double uv = 0.0;
  double vv = 0.0;
  double u1 = 0.0;
  double v1 = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double u = x[i] / y[i];
    const double v = 1.0 / y[i];
    uu += u * u;
    uv += u * v;
    vv += v * v;
    u1 += u;
    v1 += v;
  }
  const double determinant = uu * vv - uv * uv;
  if (determinant <= 1e-12 * uu * vv) {  // one size only: all of it is the intercept
    return {.slope = 0.0, .intercept = vv > 0.0 ? v1 / vv : 0.0};
  }
  const double slope = (u1 * vv - v1 * uv) / determinant;
  const double intercept = (uu * v1 - uv * u1) / determinant;
  if (slope < 0.0) {
    return {.slope = 0.0, .intercept = v1 / vv};
  }
  if (intercept < 0.0) {
    return {.slope = u1 / uu, .intercept = 0.0};
  }
  return {.slope = slope, .intercept = intercept};
}

MachineProfile probe(World& world, const ProbeOptions& options) {
  if (options.smallest_bytes < 1 || options.largest_bytes < options.smallest_bytes ||
      options.sizes_per_octave < 1 || options.rounds < 1) {
    throw InvalidArgument(
        "probe", fmt::format("no sweep: got {} to {} bytes, {} sizes per octave, {} rounds, "
                             "expected ascending sizes of at least 1, at least 1 and 1",
                             options.smallest_bytes, options.largest_bytes,
                             options.sizes_per_octave, options.rounds));
  }
  MachineProfile profile;
  profile.empty_sync_seconds = sample_of(
                                   world, [&] { world.sync(); }, options)
                                   .seconds;
  if (world.size() == 1) {
    profile.l = profile.empty_sync_seconds;
    return profile;
  }
  sweep(world, options, profile);
  fit(profile);
  return profile;
}

double slowest_seconds(World& world, const std::function<void()>& work, int rounds) {
  std::vector<double> times;
  times.reserve(static_cast<std::size_t>(rounds));
  for (int round = 0; round < rounds; ++round) {
    times.push_back(seconds_per_call(world, work, 1));
  }
  return median_of(std::move(times));
}

double probe_rate(World& world, double operations, const std::function<void()>& work, int rounds) {
  const double most = world.allreduce(operations, ReduceOp::kMax);
  const double seconds = slowest_seconds(world, work, rounds);
  return seconds > 0.0 ? most / seconds : 0.0;
}

}  // namespace superstep::bsp
