// What a run is made of: datasets, model and options, made from a configuration.
//
// A RunSetup is made once per process, before the SPMD section, and shared read-only by its lanes:
// data are in memory once per process.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bsp/environment.h"
#include "cluster/config_reader.h"
#include "paramserver/collocated_server.h"
#include "worker/model.h"
#include "worker/trainer.h"

namespace superstep::cluster {

struct LoadedData {
  worker::TrainingData parts;
  std::string fingerprint;  // of everything that was read, before it was split
  std::int64_t bytes = 0;   // of samples and labels in memory, once per process of the training
};

struct RunSetup {
  RunConfig config;
  LoadedData data;
  worker::Normalization normalization;
  worker::Model model;
  std::string warm_start;  // content hash of train.warm_start; empty: initial values are random
};

// A resumed run has its parameters: train.warm_start is not looked at.
enum class Begin : std::uint8_t { kFresh, kResumed };

// A dry run reads files, to say what is wrong with them, and only describes data it would make.
enum class Samples : std::uint8_t { kPresent, kDescribed };

// Throw InvalidArgument where the configuration names something impossible or missing (with the
// place the name was given), DataError where a file holds something else than it must.
LoadedData load_data(const ParsedConfig& parsed, Samples samples = Samples::kPresent);
// What an evaluation needs: training files are not looked at.
std::shared_ptr<const worker::Dataset> load_test_data(const ParsedConfig& parsed);
worker::Model build_model(const RunConfig& config, const kernels::Shape& sample_shape);
// The same with the place of the layer that does not fit in the message.
worker::Model build_model(const ParsedConfig& parsed, const kernels::Shape& sample_shape);
// With Samples::kDescribed the normalisation stays at its default: nothing can be measured.
RunSetup make_setup(const ParsedConfig& parsed, Begin begin = Begin::kFresh,
                    Samples samples = Samples::kPresent);

bsp::EnvironmentOptions environment_options(const RunConfig& config);
paramserver::CollocatedOptions server_options(const RunSetup& setup);
worker::PolicyOptions policy_options(const RunConfig& config);
worker::BatchOptions batch_options(const RunConfig& config);
// Without a checkpoint directory.
worker::TrainOptions train_options(const RunSetup& setup);

std::int64_t steps_per_epoch(const RunSetup& setup);
// Of the whole run, also when it is resumed.
std::int64_t total_supersteps(const RunSetup& setup);

}  // namespace superstep::cluster
