// Speeds of devices from a text file, measured elsewhere (FedScale's device traces hold such
// numbers).
//
//   client   seconds_per_sample   download_bytes_per_second   upload_bytes_per_second
//   0        0.0031               2.5e6                       1.1e6
//   1        0.0250               4.0e5                       9.0e4
//
// Tab-separated, with a header. The first column may be "client": then every client of the run is
// listed exactly once; or "device": then the rows are a sample of devices, and each client gets one
// of them, drawn by (seed, client). The columns of transfers may be left out: then transfers take
// no time. Everything wrong is a DataError with file and line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/hash.h"

namespace superstep::worker {

struct DeviceProfile {
  double seconds_per_sample = 0.0;         // one visit in training, forward and backward
  double download_bytes_per_second = 0.0;  // 0: no time
  double upload_bytes_per_second = 0.0;
};

struct DeviceProfiles {
  enum class Rows : std::uint8_t { kClients, kDevices };
  Rows rows = Rows::kDevices;
  std::vector<DeviceProfile> profiles;  // kClients: by client
  Hash128 content;
};

DeviceProfiles read_device_profiles(const std::filesystem::path& file, std::int64_t num_clients);
// The same for its text; `file` is named in messages.
DeviceProfiles parse_device_profiles(std::string_view text, const std::filesystem::path& file,
                                     std::int64_t num_clients);

}  // namespace superstep::worker
