#include "cluster/setup.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "base/error.h"
#include "base/error_detail.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "cluster/file_hash.h"
#include "cluster/kind_by_name.h"
#include "cluster/model_section.h"
#include "kernels/precision.h"
#include "worker/data/batches.h"
#include "worker/data/dataset.h"
#include "worker/data/text.h"
#include "worker/layer_error.h"

namespace superstep::cluster {

namespace {

void require_path(const ParsedConfig& parsed, const std::string& key, const std::string& path,
                  PathKind expected) {
  const PathStatus status = look_at(path);
  if (status.kind == expected) {
    return;
  }
  const std::string_view noun = expected == PathKind::kDirectory ? "directory" : "file";
  std::string problem = status.problem;
  if (status.exists()) {
    problem = fmt::format("this is not a {}", noun);
  } else if (status.kind == PathKind::kMissing) {
    problem = fmt::format("no such {}", noun);
  }
  throw InvalidArgument("configuration", fmt::format("{}'{}' = \"{}\": {}", parsed.place_of(key),
                                                     key, path, problem));
}

// Samples are one byte per value, and one for the label.
std::int64_t bytes_in_memory(const worker::Dataset& dataset) {
  return dataset.size() * (dataset.sample_shape().num_elements() + 1);
}

// federated.data_mode = "shared": every process reads the samples of any client.
worker::Storage storage_of(const FederatedSection& federated) {
  return federated.rounds > 0 && federated.data_mode == "shared" ? worker::Storage::kNode
                                                                 : worker::Storage::kProcess;
}

// Training data that lie at sites are read by the ranks that own them, later.
LoadedData load_idx_test(const DataSection& data) {
  const auto test = worker::idx_test_part(data.directory, checked_cast<int>(data.num_classes));
  return {.parts = {.train = nullptr, .validation = nullptr, .test = test},
          .fingerprint = fmt::format("test: {}", test->fingerprint()),
          .bytes = bytes_in_memory(*test)};
}

LoadedData load_idx(const ParsedConfig& parsed) {
  const DataSection& data = parsed.config.data;
  require_path(parsed, "data.directory", data.directory, PathKind::kDirectory);
  if (parsed.config.federated.partition == "sites") {
    return load_idx_test(data);
  }
  const worker::LabelledData labelled = worker::idx_directory(
      data.directory, checked_cast<int>(data.num_classes), storage_of(parsed.config.federated));
  return {.parts = {.train = labelled.train, .validation = nullptr, .test = labelled.test},
          .fingerprint = fmt::format("train: {}; test: {}", labelled.train->fingerprint(),
                                     labelled.test->fingerprint()),
          .bytes = bytes_in_memory(*labelled.train) + bytes_in_memory(*labelled.test)};
}

// Texts are one byte per sample in memory.
LoadedData load_text(const ParsedConfig& parsed) {
  const DataSection& data = parsed.config.data;
  require_path(parsed, "data.directory", data.directory, PathKind::kDirectory);
  const worker::LabelledData texts = worker::text_directory(
      data.directory, {.window = data.window, .num_classes = checked_cast<int>(data.num_classes)});
  return {.parts = {.train = texts.train, .validation = nullptr, .test = texts.test},
          .fingerprint = fmt::format("train: {}; test: {}", texts.train->fingerprint(),
                                     texts.test->fingerprint()),
          .bytes = texts.train->size() + texts.test->size()};
}

// Samples are bytes in memory, once per process; patterns of the classes are floats.
void require_memory(const ParsedConfig& parsed) {
  const DataSection& data = parsed.config.data;
  double elements = 1.0;
  for (const std::int64_t size : data.sample_shape) {
    elements *= static_cast<double>(size);
  }
  const double samples = static_cast<double>(data.num_train) + static_cast<double>(data.num_test);
  const double needed = samples * (elements + 1.0) +
                        static_cast<double>(data.num_classes) * elements * double{sizeof(float)};
  const auto machine = static_cast<double>(physical_memory_bytes());
  if (needed > machine) {
    const std::string key = data.num_train >= data.num_test ? "data.num_train" : "data.num_test";
    throw InvalidArgument(
        "configuration",
        fmt::format("{}'{}' = {}: {:.0f} samples of {:.0f} values need {:.0f} bytes of memory in "
                    "every process, this machine has {:.0f}",
                    parsed.place_of(key), key, std::max(data.num_train, data.num_test), samples,
                    elements, needed, machine));
  }
}

// Training and test samples are parts of one dataset, so that they share the prototypes of the
// classes.
LoadedData make_synthetic(const ParsedConfig& parsed, Samples samples) {
  const DataSection& data = parsed.config.data;
  require_memory(parsed);
  const worker::SyntheticOptions options{.num_samples = data.num_train + data.num_test,
                                         .sample_shape = kernels::Shape(data.sample_shape),
                                         .num_classes = checked_cast<int>(data.num_classes),
                                         .seed = static_cast<std::uint64_t>(data.seed),
                                         .noise = static_cast<float>(data.noise)};
  const std::shared_ptr<const worker::Dataset> all = samples == Samples::kPresent
                                                         ? worker::synthetic_dataset(options)
                                                         : worker::synthetic_outline(options);
  return {.parts = {.train = worker::subset(all, 0, data.num_train),
                    .validation = nullptr,
                    .test = worker::subset(all, data.num_train, all->size())},
          .fingerprint = all->fingerprint(),
          .bytes = bytes_in_memory(*all)};
}

void hold_out_validation(const ParsedConfig& parsed, worker::TrainingData& parts) {
  const double fraction = parsed.config.data.validation_fraction;
  if (fraction == 0.0) {
    return;
  }
  const std::int64_t size = parts.train->size();
  const auto held_out = static_cast<std::int64_t>(std::floor(static_cast<double>(size) * fraction));
  if (held_out == 0 || held_out == size) {
    throw InvalidArgument(
        "configuration", fmt::format("{}'data.validation_fraction' = {} of {} training samples "
                                     "leaves {} for {}",
                                     parsed.place_of("data.validation_fraction"), fraction, size, 0,
                                     held_out == 0 ? "validation" : "training"));
  }
  const std::shared_ptr<const worker::Dataset> all = parts.train;
  parts.train = worker::subset(all, 0, size - held_out);
  parts.validation = worker::subset(all, size - held_out, size);
}

worker::Normalization normalization_of(const RunConfig& config, const worker::Dataset& train) {
  using Kind = worker::Normalization::Kind;
  if (config.data.normalization == "mean_std") {
    return worker::mean_std_normalization(train);
  }
  if (config.data.normalization == "unit") {
    return {.kind = Kind::kUnit};
  }
  return {.kind = Kind::kNone, .scale = 1.0F};
}

std::int64_t steps_of(double epochs, std::int64_t per_epoch) {
  return std::llround(epochs * static_cast<double>(per_epoch));
}

worker::NumberOptions number_options(const CheckSection& check) {
  using OnBad = worker::NumberOptions::OnBad;
  return {.on_bad = check.bad_numbers == "skip" ? OnBad::kSkip : OnBad::kStop,
          .max_skipped = check.max_skipped,
          .gradient_limit = check.gradient_limit,
          .loss_spike_factor = check.loss_spike_factor};
}

worker::SlotPlacement slot_placement(const std::string& name) {
  if (name == "random") {
    return worker::SlotPlacement::kRandom;
  }
  return name == "measured" ? worker::SlotPlacement::kMeasured : worker::SlotPlacement::kContiguous;
}

paramserver::OptimizerSpec optimizer_spec(const OptimizerSection& optimizer) {
  return {.kind = paramserver::optimizer_kind(optimizer.kind),
          .learning_rate = optimizer.learning_rate,
          .momentum = optimizer.momentum,
          .beta1 = optimizer.beta1,
          .beta2 = optimizer.beta2,
          .epsilon = optimizer.epsilon,
          .weight_decay = optimizer.weight_decay,
          .initial_accumulator = optimizer.initial_accumulator};
}

paramserver::OptimizerSpec outer_optimizer(const ServerSection& server) {
  return {.kind = paramserver::optimizer_kind(server.outer_kind),
          .learning_rate = server.outer_learning_rate,
          .momentum = server.outer_momentum};
}

worker::PolicyKind policy_kind(const std::string& name) {
  using worker::PolicyKind;
  return kind_by_name(std::array{PolicyKind::kBsp, PolicyKind::kSsp, PolicyKind::kAsync,
                                 PolicyKind::kLocal, PolicyKind::kBackup},
                      name);
}

paramserver::LearningRateSchedule schedule_of(const RunConfig& config, std::int64_t per_epoch) {
  const ScheduleSection& schedule = config.optimizer.schedule;
  paramserver::LearningRateSchedule result{
      .kind = paramserver::schedule_kind(schedule.kind),
      .warmup_steps = steps_of(schedule.warmup_epochs, per_epoch),
      .total_steps = config.train.epochs * per_epoch,
      .gamma = schedule.gamma,
      .power = schedule.power,
      .final_factor = schedule.final_factor};
  for (const double epochs : schedule.boundaries_epochs) {
    result.boundaries.push_back(steps_of(epochs, per_epoch));
  }
  return result;
}

}  // namespace

LoadedData load_data(const ParsedConfig& parsed, Samples samples) {
  const std::string& format = parsed.config.data.format;
  LoadedData data = format == "idx"    ? load_idx(parsed)
                    : format == "text" ? load_text(parsed)
                                       : make_synthetic(parsed, samples);
  hold_out_validation(parsed, data.parts);
  return data;
}

std::shared_ptr<const worker::Dataset> load_test_data(const ParsedConfig& parsed) {
  const DataSection& data = parsed.config.data;
  if (data.format == "text") {
    return load_text(parsed).parts.test;
  }
  if (data.format == "synthetic") {
    return make_synthetic(parsed, Samples::kPresent).parts.test;
  }
  require_path(parsed, "data.directory", data.directory, PathKind::kDirectory);
  return worker::idx_test_part(data.directory, checked_cast<int>(data.num_classes));
}

worker::Model build_model(const RunConfig& config, const kernels::Shape& sample_shape) {
  return worker::Model::build(layers_of(config), sample_shape,
                              checked_cast<int>(config.data.num_classes));
}

worker::Model build_model(const ParsedConfig& parsed, const kernels::Shape& sample_shape) {
  try {
    return build_model(parsed.config, sample_shape);
  } catch (const worker::LayerError& error) {
    std::string path = "model";
    for (const std::size_t index : error.position()) {
      path += fmt::format(".{}[{}]", path == "model" ? "layers" : "body", index);
    }
    const bool is_preset = !parsed.config.model.preset.empty();
    throw InvalidArgument(
        "configuration",
        fmt::format("{}{}", parsed.place_of(is_preset ? "model.preset" : path), detail_of(error)));
  } catch (const InvalidArgument& error) {
    throw InvalidArgument("configuration",
                          fmt::format("{}{}", parsed.place_of("model.layers"), detail_of(error)));
  }
}

RunSetup make_setup(const ParsedConfig& parsed, Begin begin, Samples samples) {
  RunSetup setup;
  setup.config = require_valid(parsed);
  setup.data = load_data(parsed, samples);
  if (const std::string& file = setup.config.train.warm_start;
      !file.empty() && begin == Begin::kFresh) {
    require_path(parsed, "train.warm_start", file, PathKind::kFile);
    setup.warm_start = to_text(hash_file(file));
  }
  const worker::TrainingData& parts = setup.data.parts;
  const worker::Dataset& dataset = parts.train != nullptr ? *parts.train : *parts.test;
  if (samples == Samples::kPresent) {
    setup.normalization = normalization_of(setup.config, dataset);
  }
  setup.model = build_model(parsed, dataset.sample_shape());
  return setup;
}

worker::BatchOptions batch_options(const RunConfig& config) {
  return {.global_batch = config.train.global_batch,
          .microbatches = checked_cast<int>(config.train.microbatches),
          .seed = static_cast<std::uint64_t>(config.train.seed),
          .shuffled = config.data.shuffle};
}

worker::PolicyOptions policy_options(const RunConfig& config) {
  const ServerSection& server = config.server;
  const std::int64_t workers =
      server.workers == 0 && server.policy != "bsp" ? config.train.microbatches : server.workers;
  return {.kind = policy_kind(server.policy),
          .workers = checked_cast<int>(workers),
          .staleness = server.staleness,
          .warm_start = server.warm_start_supersteps,
          .n_push = server.n_push,
          .n_fetch = server.n_fetch,
          .backup = checked_cast<int>(server.backup_workers),
          .local_steps = server.local_steps,
          .local_after = server.local_after_supersteps,
          .delay = {.seconds_per_sample = server.delay.seconds_per_sample,
                    .speed_deviation = server.delay.speed_deviation,
                    .jitter_deviation = server.delay.jitter_deviation,
                    .bytes_per_second = server.delay.bytes_per_second,
                    .seed = static_cast<std::uint64_t>(server.delay.seed)}};
}

bsp::EnvironmentOptions environment_options(const RunConfig& config) {
  bsp::EnvironmentOptions options;
  options.lanes = checked_cast<int>(config.bsp.lanes);
  options.ranks_per_node = checked_cast<int>(config.bsp.ranks_per_node);
  options.sync_deadline =
      std::chrono::milliseconds(std::llround(config.bsp.sync_deadline_seconds * 1000.0));
  return options;
}

paramserver::CollocatedOptions server_options(const RunSetup& setup) {
  paramserver::CollocatedOptions options;
  if (const worker::PolicyOptions policy = policy_options(setup.config);
      policy.kind == worker::PolicyKind::kLocal) {
    options.optimizer = outer_optimizer(setup.config.server);
    options.num_slots = policy.workers;
  } else {
    options.optimizer = optimizer_spec(setup.config.optimizer);
    options.schedule = schedule_of(setup.config, steps_per_epoch(setup));
    options.clip = {.value = setup.config.optimizer.clip_value,
                    .global_norm = setup.config.optimizer.clip_global_norm};
    options.num_slots = checked_cast<int>(setup.config.train.microbatches);
  }
  options.num_servers = checked_cast<int>(setup.config.server.servers);
  options.bucket_bytes = setup.config.server.bucket_bytes;
  options.verify_every = setup.config.check.parameters_every_updates;
  options.dealing = setup.config.train.slot_placement == "stealing"
                        ? paramserver::SlotDealing::kStealing
                        : paramserver::SlotDealing::kAsPlaced;
  return options;
}

worker::TrainOptions train_options(const RunSetup& setup) {
  const RunConfig& config = setup.config;
  worker::TrainOptions options;
  options.epochs = config.train.epochs;
  options.max_supersteps = config.train.max_supersteps;
  options.batch = batch_options(config);
  options.normalization = setup.normalization;
  options.evaluation_batch = config.train.evaluation_batch;
  options.evaluate_every_epochs = config.train.evaluate_every_epochs;
  options.early_stopping = {.patience_epochs = config.train.early_stopping_patience,
                            .min_delta = config.train.early_stopping_min_delta};
  options.checkpoint.every_supersteps = config.checkpoint.every_supersteps;
  options.checkpoint.keep = checked_cast<int>(config.checkpoint.keep);
  options.checkpoint.keep_best = config.checkpoint.keep_best;
  options.checkpoint.asynchronous = config.checkpoint.asynchronous;
  options.checkpoint.partner_directory = config.checkpoint.partner_directory;
  options.checkpoint.configuration = to_toml(config);
  options.policy = policy_options(config);
  options.inner = {.optimizer = optimizer_spec(config.optimizer),
                   .schedule = schedule_of(config, steps_per_epoch(setup)),
                   .clip_value = config.optimizer.clip_value};
  options.numbers = number_options(config.check);
  options.recompute_gradients = config.check.recompute_gradients;
  options.wall_time_limit = std::chrono::seconds(config.train.wall_time_limit_seconds);
  options.prefetch_depth = checked_cast<int>(config.train.prefetch_depth);
  options.placement = slot_placement(config.train.slot_placement);
  options.precision = kernels::precision_named(config.train.precision);
  return options;
}

std::int64_t steps_per_epoch(const RunSetup& setup) {
  return worker::BatchPlan(setup.data.parts.train->size(), batch_options(setup.config))
      .steps_per_epoch();
}

std::int64_t total_supersteps(const RunSetup& setup) {
  const std::int64_t all = setup.config.train.epochs * steps_per_epoch(setup);
  const std::int64_t limit = setup.config.train.max_supersteps;
  return limit > 0 ? std::min(all, limit) : all;
}

}  // namespace superstep::cluster
