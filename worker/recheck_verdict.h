// Who computed a gradient wrong: a decision about what ranks computed the same gradient to be.
//
//   judge({{.rank = 0, .hash = a}, {.rank = 1, .hash = b}, {.rank = 0, .hash = b},
//          {.rank = 1, .hash = b}})                    // transient, rank 0
//
// What two ranks came to is taken for right. One rank that ever came to something else is to blame:
// for an error that went away when it came to the right value too, for one that stays otherwise.
// Where no two ranks agree, a rank that contradicts itself is to blame if the other one does not.
// Everything else is undecided, such as two ranks that insist on different values. A rank that is
// alone is to blame in any case.
#pragma once

#include <cstdint>
#include <span>

#include "base/hash.h"

namespace superstep::worker {

struct Computation {
  int rank = 0;
  Hash128 hash;
};

struct RecheckVerdict {
  enum class Kind : std::uint8_t {
    kTransient,   // of `rank`: it was wrong and right
    kPersistent,  // of `rank`: it was wrong each time
    kUndecided,   // `rank` or `other`
  };
  Kind kind = Kind::kUndecided;
  int rank = -1;
  int other = -1;  // kUndecided only

  friend bool operator==(const RecheckVerdict&, const RecheckVerdict&) = default;
};

// Of at least two computations that are not all the same, in the order in which they were made.
RecheckVerdict judge(std::span<const Computation> computations);

}  // namespace superstep::worker
