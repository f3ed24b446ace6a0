#include "worker/federated/device_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "base/philox.h"
#include "worker/federated/require_field.h"

namespace superstep::worker {

namespace {

constexpr auto kDevices = "DeviceOptions";

double seconds_of_transfer(std::int64_t bytes, double bytes_per_second) {
  return bytes_per_second > 0.0 ? static_cast<double>(bytes) / bytes_per_second : 0.0;
}

void require_clients(std::string_view what, std::int64_t got, std::int64_t expected) {
  if (got != expected) {
    throw InvalidArgument(
        kDevices, fmt::format("{}: of {} clients, expected those of {}", what, got, expected));
  }
}

}  // namespace

std::string_view name_of(DeviceSpeed speed) {
  switch (speed) {
    case DeviceSpeed::kNone:
      return "none";
    case DeviceSpeed::kLogNormal:
      return "log_normal";
    case DeviceSpeed::kFile:
      return "file";
  }
  return "unknown";
}

void validate(const DeviceOptions& options, std::int64_t num_clients) {
  require_field(kDevices, options.seconds_per_sample > 0.0, "seconds_per_sample",
                options.seconds_per_sample, "a number above 0");
  require_field(kDevices, options.speed_deviation >= 0.0, "speed_deviation",
                options.speed_deviation, "a number of at least 0");
  require_field(kDevices, options.bandwidth_deviation >= 0.0, "bandwidth_deviation",
                options.bandwidth_deviation, "a number of at least 0");
  require_field(kDevices, options.download_bytes_per_second >= 0.0, "download_bytes_per_second",
                options.download_bytes_per_second, "a number of at least 0");
  require_field(kDevices, options.upload_bytes_per_second >= 0.0, "upload_bytes_per_second",
                options.upload_bytes_per_second, "a number of at least 0");
  require_field(kDevices, options.dropout >= 0.0 && options.dropout < 1.0, "dropout",
                options.dropout, "a number in [0, 1)");
  validate(options.availability);
  if ((options.speed == DeviceSpeed::kFile) != (options.profiles != nullptr)) {
    throw InvalidArgument(kDevices, "profiles belong to speed \"file\", and to no other");
  }
  if (options.profiles && options.profiles->rows == DeviceProfiles::Rows::kClients) {
    require_clients("profiles", static_cast<std::int64_t>(options.profiles->profiles.size()),
                    num_clients);
  }
  if (options.availability.trace) {
    require_clients("trace", options.availability.trace->num_clients(), num_clients);
  }
  const bool has_fates =
      options.dropout > 0.0 || options.availability.kind != AvailabilityKind::kAlways;
  if (options.speed == DeviceSpeed::kNone && has_fates) {
    throw InvalidArgument(kDevices,
                          "dropouts and availability need virtual time: got speed \"none\", "
                          "expected \"log_normal\" or \"file\"");
  }
}

std::string fingerprint(const DeviceOptions& options) {
  std::string text;
  if (options.profiles) {
    text += fmt::format("; device profiles: {}", to_text(options.profiles->content));
  }
  if (options.availability.trace) {
    text += fmt::format("; availability: {}", to_text(options.availability.trace->content()));
  }
  return text;
}

DeviceModel::DeviceModel(DeviceOptions options, std::shared_ptr<const ClientData> clients,
                         ClientTask task)
    : options_(std::move(options)),
      clients_(std::move(clients)),
      task_(task),
      availability_(options_.availability) {
  validate(options_, clients_->num_clients());
}

DeviceProfile DeviceModel::profile(std::int64_t client) const {
  PhiloxStream stream(options_.seed, stream_id("federated device"), client);
  if (options_.speed == DeviceSpeed::kFile) {
    const DeviceProfiles& file = *options_.profiles;
    return file.rows == DeviceProfiles::Rows::kClients
               ? file.profiles[as_size(client)]
               : file.profiles[static_cast<std::size_t>(stream.below(file.profiles.size()))];
  }
  const double speed = options_.speed_deviation * stream.normal();
  const double download = options_.bandwidth_deviation * stream.normal();
  const double upload = options_.bandwidth_deviation * stream.normal();
  return {.seconds_per_sample = options_.seconds_per_sample * std::exp(speed),
          .download_bytes_per_second = options_.download_bytes_per_second * std::exp(download),
          .upload_bytes_per_second = options_.upload_bytes_per_second * std::exp(upload)};
}

VirtualTime DeviceModel::duration(std::int64_t client) const {
  const DeviceProfile device = profile(client);
  const auto visits = static_cast<double>(task_.epochs * clients_->num_samples(client));
  const double seconds =
      seconds_of_transfer(task_.download_bytes, device.download_bytes_per_second) +
      visits * device.seconds_per_sample +
      seconds_of_transfer(task_.upload_bytes, device.upload_bytes_per_second);
  return std::max(VirtualTime(1), virtual_duration(seconds));
}

Fate DeviceModel::fate(std::int64_t client, std::int64_t start, VirtualTime begin) const {
  const VirtualTime whole = duration(client);
  Fate fate{.outcome = Outcome::kReports, .at = after(begin, whole)};
  if (options_.dropout > 0.0) {
    PhiloxStream stream(options_.seed, stream_id("federated dropout"), client, start);
    const bool drops = stream.uniform_double() < options_.dropout;
    const double part = stream.uniform_double();
    if (drops) {
      const VirtualTime done(std::llround(part * static_cast<double>(whole.count())));
      fate = {.outcome = Outcome::kDropsOut, .at = after(begin, done)};
    }
  }
  const VirtualTime gone = availability_.until(client, begin);
  return gone < fate.at ? Fate{.outcome = Outcome::kGoesAway, .at = gone} : fate;
}

VirtualTime DeviceModel::somebody_there(VirtualTime now,
                                        const std::function<bool(std::int64_t)>& may) const {
  if (availability_.is_always() && !may) {
    return now;
  }
  VirtualTime earliest = kNever;
  for (std::int64_t client = 0; client < num_clients() && earliest > now; ++client) {
    if (!may || may(client)) {
      earliest = std::min(earliest, availability_.next(client, now));
    }
  }
  return earliest;
}

}  // namespace superstep::worker
