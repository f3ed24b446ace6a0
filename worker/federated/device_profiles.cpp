#include "worker/federated/device_profiles.h"

#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/file.h"
#include "worker/federated/tab_separated.h"

namespace superstep::worker {

namespace {

constexpr std::int64_t kMaxProfileBytes = std::int64_t{1} << 31;
constexpr double kMostBytesPerSecond = 1e15;
constexpr double kMostSecondsPerSample = 1e6;

// A device that computes or sends nothing would never be done: the least is above 0.
constexpr double kLeast = 1e-15;

double optional_number(const TabSeparated& rows, std::optional<std::size_t> column) {
  return column ? rows.number(*column, kLeast, kMostBytesPerSecond) : 0.0;
}

// Puts the row's profile where it belongs.
void place_client(const TabSeparated& rows, std::size_t column, const DeviceProfile& profile,
                  DeviceProfiles& result) {
  const auto count = static_cast<std::int64_t>(result.profiles.size());
  DeviceProfile& place = result.profiles[as_size(rows.integer(column, 0, count - 1))];
  if (place.seconds_per_sample > 0.0) {
    rows.fail(fmt::format("client {} is given twice", rows.cell(column)));
  }
  place = profile;
}

void require_everybody(const TabSeparated& rows, const DeviceProfiles& result) {
  for (std::size_t client = 0; client < result.profiles.size(); ++client) {
    if (result.profiles[client].seconds_per_sample == 0.0) {
      rows.fail(
          fmt::format("client {} is missing: expected all of 0 to {}, or a column \"device\" "
                      "that clients draw from",
                      client, result.profiles.size() - 1));
    }
  }
}

}  // namespace

DeviceProfiles read_device_profiles(const std::filesystem::path& file, std::int64_t num_clients) {
  return parse_device_profiles(read_text_file(file, kMaxProfileBytes), file, num_clients);
}

DeviceProfiles parse_device_profiles(std::string_view text, const std::filesystem::path& file,
                                     std::int64_t num_clients) {
  TabSeparated rows("read_device_profiles", text, file);
  const std::optional<std::size_t> client = rows.find_column("client");
  if (!client && !rows.find_column("device")) {
    rows.fail("no column 'client' or 'device': expected a header that names one of them");
  }
  const std::size_t speed = rows.column("seconds_per_sample");
  const auto download = rows.find_column("download_bytes_per_second");
  const auto upload = rows.find_column("upload_bytes_per_second");
  DeviceProfiles result;
  result.content = hash_text(text);
  if (client) {
    result.rows = DeviceProfiles::Rows::kClients;
    result.profiles.resize(as_size(num_clients));
  }
  while (rows.next()) {
    const DeviceProfile profile{
        .seconds_per_sample = rows.number(speed, kLeast, kMostSecondsPerSample),
        .download_bytes_per_second = optional_number(rows, download),
        .upload_bytes_per_second = optional_number(rows, upload)};
    if (client) {
      place_client(rows, *client, profile, result);
    } else {
      result.profiles.push_back(profile);
    }
  }
  if (client) {
    require_everybody(rows, result);
  } else if (result.profiles.empty()) {
    rows.fail("no device is listed: expected at least one line after the header");
  }
  return result;
}

}  // namespace superstep::worker
