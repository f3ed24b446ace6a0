// Asynchronous federated training as settings: clients start and report at different times, and
// the server does not wait for a cohort.
//
//   fedbuff   the server waits for `buffer` reports, then w += rate * sum(s(t_i) d_i) / buffer;
//             d_i is relative to the model the client started from, t_i how many updates older that
//             is                                                      (Nguyen et al. 2022)
//   fedasync  every report is an update: w = (1 - mixing s(t)) w + mixing s(t) w_i
//                                                                     (Xie et al. 2019)
//
// s, the weight of staleness t:
//   constant    1
//   polynomial  (1 + t)^-a             a = 1/2 is FedBuff's
//   hinge       1 up to b, then 1 / (a (t - b) + 1)
#pragma once

#include <cstdint>
#include <string_view>

namespace superstep::worker {

enum class Asynchrony : std::uint8_t { kNone, kFedBuff, kFedAsync };
enum class Staleness : std::uint8_t { kConstant, kPolynomial, kHinge };
std::string_view name_of(Asynchrony kind);
std::string_view name_of(Staleness staleness);

struct AsynchronyOptions {
  Asynchrony kind = Asynchrony::kNone;
  std::int64_t concurrency = 10;  // clients in training at any time
  std::int64_t buffer = 10;       // kFedBuff
  double mixing = 0.6;            // kFedAsync, in (0, 1]
  Staleness staleness = Staleness::kPolynomial;
  double staleness_a = 0.5;
  double staleness_b = 4.0;
  std::int64_t max_staleness = 0;  // reports that are staler are discarded; 0: none is
};

// Throws InvalidArgument that names the field.
void validate(const AsynchronyOptions& options, std::int64_t num_clients);

// In (0, 1].
double staleness_weight(const AsynchronyOptions& options, std::int64_t staleness);
// Reports per update of the model.
std::int64_t reports_per_update(const AsynchronyOptions& options);

}  // namespace superstep::worker
