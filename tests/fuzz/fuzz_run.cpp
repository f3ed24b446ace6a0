// What a run reads besides its configuration and checkpoint: provenance, metrics, names and states
// of federated clients, the partition that says whose a sample is, devices and their availability.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cluster/metrics_log.h"
#include "cluster/provenance.h"
#include "paramserver/checkpoint_files.h"
#include "paramserver/layout.h"
#include "tests/fuzz/selected_case.h"
#include "worker/federated/async_schedule.h"
#include "worker/federated/availability_trace.h"
#include "worker/federated/client_store.h"
#include "worker/federated/device_profiles.h"
#include "worker/federated/partition_file.h"

namespace superstep {
namespace {

using testing::require;

void read_provenance(std::string_view input) {
  try {
    const cluster::Provenance provenance = cluster::parse_provenance(input, "provenance.json");
    require(provenance.normalization.standard_deviation > 0.0F);
  } catch (const DataError& error) {
    require(error.exit_code() == ExitCode::kBadCheckpoint);
  }
}

void read_metrics_line(std::string_view input) {
  require(!cluster::is_metrics_line_of(input, -1));
  require(cluster::is_metrics_line_of(input, 1000) || !cluster::is_metrics_line_of(input, 10));
}

void read_state_name(std::string_view input) {
  if (const auto name = worker::parse_client_state_name(input)) {
    require(name->client >= 0 && name->version >= 0 && name->to_text() == input);
  }
  if (const auto superstep = paramserver::parse_step_directory_name(input)) {
    require(*superstep >= 0);
  }
}

void read_client_state(std::string_view input) {
  std::array<float, 8> state{};
  try {
    worker::decode_client_state(std::as_bytes(std::span(input.data(), input.size())), "state",
                                state);
  } catch (const DataError& error) {
    require(error.exit_code() == ExitCode::kBadCheckpoint);
  }
}

void read_partition(std::string_view input) {
  constexpr std::int64_t kSamples = 100;
  try {
    const worker::ClientIndex index =
        worker::parse_partition(input, "partition.tsv", kSamples, "writer");
    std::vector<bool> taken(kSamples);
    for (std::int64_t client = 0; client < index.num_clients(); ++client) {
      require(!index.samples(client).empty());
      for (const std::uint32_t sample : index.samples(client)) {
        require(!taken.at(sample));
        taken[sample] = true;
      }
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

// The text that describes a parameter layout, in checkpoints and between ranks.
void read_layout(std::string_view input) {
  try {
    const paramserver::ParameterLayout layout = paramserver::ParameterLayout::parse(input);
    require(layout.size() > 0);
    require(paramserver::ParameterLayout::parse(layout.describe()).describe() == layout.describe());
  } catch (const InvalidArgument&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

void read_devices(std::string_view input) {
  constexpr std::int64_t kClients = 4;
  try {
    const worker::DeviceProfiles devices =
        worker::parse_device_profiles(input, "devices.tsv", kClients);
    require(!devices.profiles.empty());
    for (const worker::DeviceProfile& device : devices.profiles) {
      require(device.seconds_per_sample > 0.0);
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

void read_availability(std::string_view input) {
  constexpr std::int64_t kClients = 4;
  try {
    const worker::AvailabilityTrace trace =
        worker::AvailabilityTrace::parse(input, "trace.tsv", kClients);
    for (std::int64_t client = 0; client < kClients; ++client) {
      worker::VirtualTime before(-1);
      for (const worker::AvailabilityWindow& window : trace.windows(client)) {
        require(before < window.begin && window.begin < window.end);
        before = window.end;
      }
      require(before <= trace.period());
    }
  } catch (const DataError&) {
    // A clear refusal; anything else ends the fuzzer.
  }
}

// A checkpoint's texts: the clock up to the first blank line, then the clients in training.
void read_schedule(std::string_view input) {
  constexpr std::int64_t kClients = 4;
  const std::size_t cut = input.find("\n\n");
  const worker::ScheduleTexts texts{
      .clock = std::string(input.substr(0, cut)),
      .flights = std::string(cut == std::string_view::npos ? "" : input.substr(cut + 2))};
  try {
    const worker::ScheduleState state = worker::parse_schedule(texts, "checkpoint", kClients);
    require(worker::parse_schedule(worker::to_texts(state), "checkpoint", kClients) == state);
  } catch (const DataError& error) {
    require(error.exit_code() == ExitCode::kBadCheckpoint);
  }
}

constexpr testing::FuzzCase kCases[] = {read_provenance,   read_metrics_line, read_state_name,
                                        read_client_state, read_partition,    read_layout,
                                        read_devices,      read_availability, read_schedule};

}  // namespace
}  // namespace superstep

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return superstep::testing::run_selected(superstep::kCases, data, size);
}
