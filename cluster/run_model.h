// The trained model of a run: what evaluate, predict and export start from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/aligned.h"
#include "cluster/config_reader.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
#include "paramserver/checkpoint.h"
#include "worker/model.h"

namespace superstep::cluster {

struct RunModel {
  RunConfig config;
  Provenance provenance;
  paramserver::Manifest manifest;
  std::filesystem::path checkpoint;
  worker::Model model;
  AlignedBuffer<float> parameters;  // the model's layout
};

// The checkpoint `chosen`, or the newest of the run whose every byte verifies (skipped ones are
// named on standard error). Throws DataError with exit code 4 when there is none, when it belongs
// to another run, or when it does not fit the model of the run's configuration.
RunModel load_run_model(const RunDirectory& run, const std::filesystem::path& chosen);

// The same for a run that is to be continued: nullopt when nothing was saved yet.
std::optional<std::filesystem::path> checkpoint_to_resume(const RunDirectory& run,
                                                          const Provenance& provenance,
                                                          const worker::Model& model);

}  // namespace superstep::cluster
