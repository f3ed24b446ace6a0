// Places where a build made for it breaks on demand.
//
// A release build has none: without the CMake option SUPERSTEP_FAILPOINTS the macros are nothing.
// With it, the environment variable SUPERSTEP_FAULT says what breaks where, faults separated by
// ";":
//
//   SUPERSTEP_FAULT="point=checkpoint.sealed,rank=1,superstep=8,nth=2,attempt=0,action=kill"
//   SUPERSTEP_FAULT="seed=17,probability=0.002,action=kill"    # anywhere, at random, repeatable
//
//   point, rank, superstep, attempt   where; what is not given matches everything. `attempt` counts
//                     the starts by `superstep launch` from 0, so that a fault can hit the second
//   nth               only the n-th time that the rest matches in this process, from 1 (default 1;
//                     0: every time)
//   action            kill, stop (SIGSTOP), exit:N, throw, delay:MILLISECONDS; at points with data
//                     also nan, inf, spike (1e6 times the largest of them), flip:BIT
//   element           of the data, from 0; one that is not there is left alone. Not given: an
//                     element chosen by `seed`
//   seed, probability instead of nth: at every match with this probability, drawn from the seed,
//                     the attempt, the rank and the number of the match
//
// In the code, after Failpoints::here(rank, superstep) has told the thread who it is:
//
//   SUPERSTEP_FAILPOINT("checkpoint.sealed");
//   SUPERSTEP_FAILPOINT_DATA("gradient", span_of_floats);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep {

// One fault of SUPERSTEP_FAULT. -1 and empty: anything.
struct FailpointFault {
  std::string point;
  std::int64_t rank = -1;
  std::int64_t superstep = -1;
  std::int64_t attempt = -1;
  std::int64_t nth = 1;
  std::int64_t seed = 0;
  std::int64_t element = -1;
  double probability = 0.0;  // > 0: instead of nth
  std::string action;
  std::int64_t argument = 0;  // of exit, delay and flip
};

// Throws InvalidArgument with the word that is wrong.
std::vector<FailpointFault> parse_faults(std::string_view text);

struct FailpointPlace {
  std::string_view point;
  std::int64_t rank = -1;
  std::int64_t superstep = -1;
  std::int64_t attempt = 0;
};

bool matches(const FailpointFault& fault, const FailpointPlace& place);
// Whether a fault fires at its `count`-th match, from 1.
bool fires(const FailpointFault& fault, const FailpointPlace& place, std::int64_t count);
// nan, inf, spike and flip on one element; others leave the data alone.
void spoil(const FailpointFault& fault, std::span<float> data);

// What the macros call.
class Failpoints {
 public:
  // Of the calling thread, from now on.
  static void here(std::int64_t rank, std::int64_t superstep);
  static void hit(std::string_view point, std::span<float> data = {});
};

}  // namespace superstep

#ifdef SUPERSTEP_FAILPOINTS
#define SUPERSTEP_FAILPOINT_HERE(rank_now, superstep_now) \
  ::superstep::Failpoints::here((rank_now), (superstep_now))
#define SUPERSTEP_FAILPOINT(point) ::superstep::Failpoints::hit(point)
#define SUPERSTEP_FAILPOINT_DATA(point, data) ::superstep::Failpoints::hit((point), (data))
#else  // the arguments are used and not evaluated
#define SUPERSTEP_FAILPOINT_HERE(rank_now, superstep_now) \
  (static_cast<void>(noexcept(rank_now)), static_cast<void>(noexcept(superstep_now)))
#define SUPERSTEP_FAILPOINT(point) static_cast<void>(0)
#define SUPERSTEP_FAILPOINT_DATA(point, data) static_cast<void>(0)
#endif
