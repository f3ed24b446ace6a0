// A partition from a text file: which sample belongs to which client.
//
//   index   label   writer   hsf_series       a header that names the columns, tab-separated
//   0       5       2154     4
//   1       0       0        0
//
// The columns "index" (sample of the dataset) and `client_column` are read, others are ignored.
// Values of the client column are any texts; clients are numbered in the order in which they
// appear. Samples that are not listed belong to nobody. Everything wrong is a DataError with file
// and line: an index that is no number or out of range, a sample listed twice, a missing column.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "worker/federated/client_index.h"

namespace superstep::worker {

ClientIndex read_partition(const std::filesystem::path& file, std::int64_t num_samples,
                           const std::string& client_column);

struct NamedPartition {
  ClientIndex index;
  std::vector<std::uint64_t> name_hashes;  // by client: the low half of XXH3-128 of its name
};
NamedPartition read_named_partition(const std::filesystem::path& file, std::int64_t num_samples,
                                    const std::string& client_column);

// The same for its text; `file` is named in messages.
ClientIndex parse_partition(std::string_view text, const std::filesystem::path& file,
                            std::int64_t num_samples, const std::string& client_column);

}  // namespace superstep::worker
