#include "worker/federated/asynchrony.h"

#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

constexpr auto kAsynchrony = "AsynchronyOptions";

void require_count(std::string_view field, std::int64_t value, std::int64_t most,
                   std::string_view why) {
  if (value < 1 || value > most) {
    throw InvalidArgument(
        kAsynchrony, fmt::format("{}: got {}, expected 1 to {} ({})", field, value, most, why));
  }
}

}  // namespace

std::string_view name_of(Asynchrony kind) {
  switch (kind) {
    case Asynchrony::kNone:
      return "none";
    case Asynchrony::kFedBuff:
      return "fedbuff";
    case Asynchrony::kFedAsync:
      return "fedasync";
  }
  return "unknown";
}

std::string_view name_of(Staleness staleness) {
  switch (staleness) {
    case Staleness::kConstant:
      return "constant";
    case Staleness::kPolynomial:
      return "polynomial";
    case Staleness::kHinge:
      return "hinge";
  }
  return "unknown";
}

void validate(const AsynchronyOptions& options, std::int64_t num_clients) {
  if (options.kind == Asynchrony::kNone) {
    return;
  }
  require_count("concurrency", options.concurrency, num_clients, "the clients there are");
  if (options.kind == Asynchrony::kFedBuff) {
    require_count("buffer", options.buffer, options.concurrency, "the concurrency");
  }
  require_field(kAsynchrony, options.mixing > 0.0 && options.mixing <= 1.0, "mixing",
                options.mixing, "a number in (0, 1]");
  require_field(kAsynchrony, options.staleness_a >= 0.0, "staleness_a", options.staleness_a,
                "a number of at least 0");
  require_field(kAsynchrony, options.staleness_b >= 0.0, "staleness_b", options.staleness_b,
                "a number of at least 0");
  if (options.max_staleness < 0) {
    throw InvalidArgument(kAsynchrony, fmt::format("max_staleness: got {}, expected at least 0",
                                                   options.max_staleness));
  }
}

double staleness_weight(const AsynchronyOptions& options, std::int64_t staleness) {
  const auto t = static_cast<double>(staleness);
  switch (options.staleness) {
    case Staleness::kConstant:
      return 1.0;
    case Staleness::kPolynomial:
      // Correctly rounded where it is the square root, whatever the C library.
      return options.staleness_a == 0.5 ? 1.0 / std::sqrt(1.0 + t)
                                        : std::pow(1.0 + t, -options.staleness_a);
    case Staleness::kHinge:
      return t <= options.staleness_b
                 ? 1.0
                 : 1.0 / (options.staleness_a * (t - options.staleness_b) + 1.0);
  }
  SUPERSTEP_CHECK(false, "unknown staleness", static_cast<int>(options.staleness));
}

std::int64_t reports_per_update(const AsynchronyOptions& options) {
  return options.kind == Asynchrony::kFedBuff ? options.buffer : 1;
}

}  // namespace superstep::worker
