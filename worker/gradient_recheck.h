// Finds gradients that were computed wrong, before they are added to anything: in a sample of the
// supersteps every rank computes the gradients of a partner again, from the data on, and compares.
//
//   recheck.begin(superstep);              // drawn, or everything below does nothing
//   recheck.note({slot, slot + 1}, gradient, {&summary, 1});  // of every unit, as it was made
//   recheck.compare();                     // collective; before the gradients are used
//
// A unit is a slot, or the slots that were computed in one pass. Supersteps are drawn by seed and
// superstep alone, so ranks agree without a word. A rank's partner is on another node where nodes
// allow it. When a partner gets another gradient, both compute the unit once more, with a third
// rank where there is one, and every rank throws DataError (kCorruption) that names who was wrong
// (worker/recheck_verdict.h), superstep, slots and the first element that differs.
//
// What it cannot see: supersteps that were not drawn; what a gradient becomes after it was made;
// what both partners get wrong alike, such as damaged data or parameters that they share. A rank
// that is alone is its own partner, and finds what does not come every time.
//
// Cost of a drawn superstep, M slots, n parameters, p ranks: w = the compute phase once more and
// two passes over the gradients; two allreduces, of 4 M and of one element. Memory: n elements, and
// n / 8 bytes per unit of this rank.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/hash.h"
#include "bsp/slot_tree.h"
#include "bsp/world.h"
#include "paramserver/layout.h"
#include "paramserver/server.h"
#include "worker/gradient_fingerprint.h"
#include "worker/recheck_verdict.h"

namespace superstep::worker {

struct RecheckOptions {
  double share = 0.0;  // of the supersteps, 0 to 1
  std::uint64_t seed = 0;
  int num_slots = 1;
};

// Whether a superstep (from 1) is one of those that are checked.
bool is_rechecked(const RecheckOptions& options, std::int64_t superstep);

class GradientRecheck {
 public:
  // Makes the gradient of a unit of any rank in the superstep in work, and the sums of its slots.
  using Recompute = std::function<void(bsp::SlotRange unit, std::span<float> gradient,
                                       std::span<paramserver::SlotSummary> summaries)>;

  // `world`, `layout` and `parameters` (the whole buffer) must outlive this object.
  GradientRecheck(bsp::World& world, const paramserver::ParameterLayout& layout,
                  std::span<const float> parameters, RecheckOptions options, Recompute recompute);

  // A superstep begins (from 1).
  void begin(std::int64_t superstep);
  bool is_drawn() const { return is_drawn_; }
  // Of each unit of this rank, in any order.
  void note(bsp::SlotRange unit, std::span<const float> gradient,
            std::span<const paramserver::SlotSummary> summaries);
  // Collective, while nobody writes the parameters.
  void compare();

 private:
  // A unit as some rank made it.
  struct Claim {
    bsp::SlotRange unit;
    int owner = 0;
    Hash128 hash;
  };
  struct Note {
    bsp::SlotRange unit;
    GradientFingerprint fingerprint;
  };

  int checker_of(int owner) const;
  int third_of(int owner, int checker) const;
  std::vector<Claim> share_claims();
  std::optional<Claim> first_mismatch(std::span<const Claim> claims);
  GradientFingerprint recomputed(bsp::SlotRange unit, std::span<float> gradient);
  [[noreturn]] void blame(const Claim& claim);
  std::string difference(const Claim& claim, std::span<const float> second);
  std::string what_differs(const Claim& claim, std::span<const std::uint64_t> lines,
                           std::span<const float> second) const;
  std::string suspects(const RecheckVerdict& verdict) const;
  std::string explain(const RecheckVerdict& verdict) const;

  bsp::World& world_;
  const paramserver::ParameterLayout& layout_;
  std::span<const float> parameters_;
  RecheckOptions options_;
  Recompute recompute_;
  int shift_ = 0;  // from a rank to the one that checks it
  std::int64_t superstep_ = 0;
  bool is_drawn_ = false;
  std::vector<Note> notes_;
  AlignedBuffer<float> again_;  // the last unit of the partner
  Hash128 again_hash_;
  std::vector<paramserver::SlotSummary> summaries_;
};

}  // namespace superstep::worker
