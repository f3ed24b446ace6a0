// Robust aggregation and the attacks that test it, as settings of a federated run.
//
// Robust rules need every client's update at the server, so a round costs cohort * model integers
// on the wire and in memory, and none of it goes with privacy in the ring: refused. Clients weigh
// the same. Which clients attack is a function of (seed, client).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "paramserver/robust_rules.h"

namespace superstep::worker {

enum class RobustKind : std::uint8_t {
  kNone,  // integer sums; single updates are never seen
  kMean,  // the plain mean on this path: what attacks are compared with
  kMedian,
  kTrimmedMean,
  kKrum,
  kMultiKrum,
  kGeometricMedian,
};
std::string_view name_of(RobustKind kind);

inline constexpr int kMostIterations = 1000;

struct RobustOptions {
  RobustKind kind = RobustKind::kNone;
  double trim_fraction = 0.1;  // kTrimmedMean: floor(fraction * clients) at each end
  std::int64_t byzantine = 0;  // kKrum, kMultiKrum: f; rejected updates count towards it
  std::int64_t selected = 1;   // kMultiKrum: m, at most n - f
  // kGeometricMedian: iterations end when the sum of distances falls by less than this part of it,
  // and at the latest after kMostIterations.
  double tolerance = 1e-6;
};

enum class AttackKind : std::uint8_t {
  kNone,
  kSignFlip,        // -strength * update
  kGaussian,        // update + strength * normal
  kLabelFlip,       // trains on label -> classes - 1 - label
  kLittleIsEnough,  // mean - strength * deviation of the honest (Baruch et al. 2019); they collude
  kInnerProduct,    // -strength * mean of the honest (Xie et al. 2020); they collude
};
std::string_view name_of(AttackKind kind);

struct AttackOptions {
  AttackKind kind = AttackKind::kNone;
  double fraction = 0.0;  // of all clients, each by itself
  double strength = 1.0;
};

// Throw InvalidArgument that names the field. `cohort` is the number of clients in a round.
void validate(const RobustOptions& options, std::int64_t cohort);
void validate(const AttackOptions& options);

bool is_attacker(const AttackOptions& options, std::uint64_t seed, std::int64_t client);
bool needs_all_updates(AttackKind kind);

// Replaces the rows of attackers by what they send when they know the honest rows. False when an
// element of it would be beyond `bound` (in the ring's unit): then the rows stay as they are, and
// the forged updates are to be rejected like anybody's.
bool collude(const AttackOptions& options, const std::vector<bool>& attackers, double bound,
             std::vector<std::vector<std::int64_t>>& rows);

}  // namespace superstep::worker
