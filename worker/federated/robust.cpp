#include "worker/federated/robust.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

std::string_view name_of(RobustKind kind) {
  switch (kind) {
    case RobustKind::kNone:
      return "none";
    case RobustKind::kMean:
      return "mean";
    case RobustKind::kMedian:
      return "median";
    case RobustKind::kTrimmedMean:
      return "trimmed_mean";
    case RobustKind::kKrum:
      return "krum";
    case RobustKind::kMultiKrum:
      return "multi_krum";
    case RobustKind::kGeometricMedian:
      return "geometric_median";
  }
  return "unknown";
}

std::string_view name_of(AttackKind kind) {
  switch (kind) {
    case AttackKind::kNone:
      return "none";
    case AttackKind::kSignFlip:
      return "sign_flip";
    case AttackKind::kGaussian:
      return "gaussian";
    case AttackKind::kLabelFlip:
      return "label_flip";
    case AttackKind::kLittleIsEnough:
      return "little_is_enough";
    case AttackKind::kInnerProduct:
      return "inner_product";
  }
  return "unknown";
}

void validate(const RobustOptions& options, std::int64_t cohort) {
  const auto count = static_cast<double>(cohort);
  switch (options.kind) {
    case RobustKind::kTrimmedMean:
      require_field("robust aggregation",
                    options.trim_fraction >= 0.0 && options.trim_fraction < 0.5, "trim_fraction",
                    options.trim_fraction, "a number in [0, 0.5)");
      break;
    case RobustKind::kKrum:
    case RobustKind::kMultiKrum:
      require_field("robust aggregation",
                    options.byzantine >= 0 && cohort >= 2 * options.byzantine + 3, "byzantine",
                    static_cast<double>(options.byzantine),
                    fmt::format("at most (cohort - 3) / 2 for a cohort of {}", count));
      require_field("robust aggregation",
                    options.selected >= 1 && options.selected <= cohort - options.byzantine,
                    "selected", static_cast<double>(options.selected),
                    fmt::format("1 to {}, the cohort without the byzantine clients",
                                cohort - options.byzantine));
      break;
    case RobustKind::kGeometricMedian:
      require_field("robust aggregation", options.tolerance >= 0.0 && options.tolerance < 1.0,
                    "tolerance", options.tolerance, "a number in [0, 1)");
      break;
    default:
      break;
  }
}

void validate(const AttackOptions& options) {
  require_field("robust aggregation", options.fraction >= 0.0 && options.fraction <= 1.0,
                "attack fraction", options.fraction, "a number in [0, 1]");
  require_field("robust aggregation", true, "attack strength", options.strength, "a finite number");
}

bool is_attacker(const AttackOptions& options, std::uint64_t seed, std::int64_t client) {
  return options.kind != AttackKind::kNone &&
         PhiloxStream(seed, stream_id("federated attackers"), client).uniform_double() <
             options.fraction;
}

bool needs_all_updates(AttackKind kind) {
  return kind == AttackKind::kLittleIsEnough || kind == AttackKind::kInnerProduct;
}

bool collude(const AttackOptions& options, const std::vector<bool>& attackers, double bound,
             std::vector<std::vector<std::int64_t>>& rows) {
  const auto honest = static_cast<double>(std::count(attackers.begin(), attackers.end(), false));
  if (!needs_all_updates(options.kind) || honest == 0.0 || rows.empty()) {
    return true;
  }
  std::vector<std::int64_t> forged_row(rows.front().size());
  for (std::size_t i = 0; i < forged_row.size(); ++i) {
    double sum = 0.0;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      sum += attackers[row] ? 0.0 : static_cast<double>(rows[row][i]);
    }
    const double mean = sum / honest;
    double squares = 0.0;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const double distance = static_cast<double>(rows[row][i]) - mean;
      squares += attackers[row] ? 0.0 : distance * distance;
    }
    const double forged = options.kind == AttackKind::kInnerProduct
                              ? -options.strength * mean
                              : mean - options.strength * std::sqrt(squares / honest);
    if (!(std::abs(forged) <= bound)) {
      return false;
    }
    forged_row[i] = static_cast<std::int64_t>(std::nearbyint(forged));
  }
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (attackers[row]) {
      rows[row] = forged_row;
    }
  }
  return true;
}

}  // namespace superstep::worker
