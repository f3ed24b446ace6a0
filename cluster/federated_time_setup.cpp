#include "cluster/federated_time_setup.h"

#include <array>
#include <memory>

#include "cluster/kind_by_name.h"

namespace superstep::cluster {

namespace {

worker::DeviceOptions device_options(const DeviceSection& device, std::int64_t num_clients) {
  using worker::AvailabilityKind;
  using worker::DeviceSpeed;
  worker::DeviceOptions options{
      .speed =
          kind_by_name(std::array{DeviceSpeed::kNone, DeviceSpeed::kLogNormal, DeviceSpeed::kFile},
                       device.speed),
      .seconds_per_sample = device.seconds_per_sample,
      .speed_deviation = device.speed_deviation,
      .download_bytes_per_second = device.download_bytes_per_second,
      .upload_bytes_per_second = device.upload_bytes_per_second,
      .bandwidth_deviation = device.bandwidth_deviation,
      .profiles = nullptr,
      .dropout = device.dropout,
      .availability = {.kind = kind_by_name(
                           std::array{AvailabilityKind::kAlways, AvailabilityKind::kPeriodic,
                                      AvailabilityKind::kTrace},
                           device.availability),
                       .period_seconds = device.period_seconds,
                       .fraction = device.available_fraction,
                       .seed = static_cast<std::uint64_t>(device.seed),
                       .trace = nullptr},
      .seed = static_cast<std::uint64_t>(device.seed)};
  if (options.speed == DeviceSpeed::kFile) {
    options.profiles = std::make_shared<const worker::DeviceProfiles>(
        worker::read_device_profiles(device.profiles, num_clients));
  }
  if (options.availability.kind == AvailabilityKind::kTrace) {
    options.availability.trace = std::make_shared<const worker::AvailabilityTrace>(
        worker::AvailabilityTrace::read(device.trace, num_clients));
  }
  return options;
}

worker::AsynchronyOptions asynchrony_options(const AsynchronySection& asynchrony) {
  using worker::Asynchrony;
  using worker::Staleness;
  return {.kind = kind_by_name(
              std::array{Asynchrony::kNone, Asynchrony::kFedBuff, Asynchrony::kFedAsync},
              asynchrony.kind),
          .concurrency = asynchrony.concurrency,
          .buffer = asynchrony.buffer,
          .mixing = asynchrony.mixing,
          .staleness = kind_by_name(
              std::array{Staleness::kConstant, Staleness::kPolynomial, Staleness::kHinge},
              asynchrony.staleness),
          .staleness_a = asynchrony.staleness_a,
          .staleness_b = asynchrony.staleness_b,
          .max_staleness = asynchrony.max_staleness};
}

}  // namespace

void set_time_options(const FederatedSection& federated, std::int64_t num_clients,
                      worker::FederatedOptions& options) {
  options.device = device_options(federated.device, num_clients);
  options.timing = {.over_selection = federated.over_selection,
                    .deadline_seconds = federated.deadline_seconds,
                    .min_reports = federated.min_reports};
  options.asynchrony = asynchrony_options(federated.asynchrony);
}

}  // namespace superstep::cluster
