// When clients are there, from a text file.
//
//   client   begin   end          seconds, tab-separated, with a header
//   0        0       28800
//   0        72000   86400
//   3        3600    7200.5
//
// A client is there in [begin, end). The trace is repeated for ever with the period of its latest
// end; a client that is not listed is never there. Windows of a client may be in any order but must
// not overlap. Everything wrong is a DataError with file and line: a client that the run does not
// have, a negative time, an end that is not after its begin, an overlap.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "worker/federated/virtual_time.h"

namespace superstep::worker {

struct AvailabilityWindow {
  VirtualTime begin{};
  VirtualTime end{};
};

class AvailabilityTrace {
 public:
  // Throws DataError; `file` is named in messages.
  static AvailabilityTrace parse(std::string_view text, const std::filesystem::path& file,
                                 std::int64_t num_clients);
  static AvailabilityTrace read(const std::filesystem::path& file, std::int64_t num_clients);

  std::int64_t num_clients() const { return static_cast<std::int64_t>(first_.size()) - 1; }
  VirtualTime period() const { return period_; }
  // Ascending, not touching each other.
  std::span<const AvailabilityWindow> windows(std::int64_t client) const;
  Hash128 content() const { return content_; }

 private:
  std::vector<AvailabilityWindow> windows_;  // by client
  std::vector<std::size_t> first_;           // num_clients + 1 places in windows_
  VirtualTime period_{};
  Hash128 content_;
};

}  // namespace superstep::worker
