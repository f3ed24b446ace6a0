#include "cluster/config.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cluster/config_keys.h"
#include "cluster/config_text.h"

namespace superstep::cluster {

namespace {

using Complaints = std::vector<std::pair<std::string, std::string>>;

// A key that has no effect beside another key's value is an error when it was changed from its
// default: whoever sets it expects something to happen.
class UnusedKeys {
 public:
  UnusedKeys(const RunConfig& config, Complaints& complaints)
      : config_(config), complaints_(complaints) {}

  void require_default(std::string_view path, std::string_view because) {
    const Key* key = find_key(path);
    if (value_text(*key, config_) != value_text(*key, defaults_)) {
      complaints_.emplace_back(path, fmt::format("'{}' = {} has no effect with {}", path,
                                                 value_text(*key, config_), because));
    }
  }

 private:
  const RunConfig& config_;
  const RunConfig defaults_;
  Complaints& complaints_;
};

void check_model(const ModelSection& model, Complaints& complaints) {
  if (model.preset.empty() && model.layers.empty()) {
    complaints.emplace_back("model.preset",
                            "no model: give 'model.preset' (superstep models lists the names) or "
                            "[[model.layers]]");
  }
  if (!model.preset.empty() && !model.layers.empty()) {
    complaints.emplace_back("model.preset",
                            "'model.preset' and [[model.layers]] exclude each other: give one");
  }
}

void check_data(const DataSection& data, UnusedKeys& unused, Complaints& complaints) {
  if (data.format == "idx") {
    if (data.directory.empty()) {
      complaints.emplace_back("data.directory",
                              "'data.directory' is missing: data.format \"idx\" "
                              "needs the directory with the IDX files");
    }
    for (const char* key :
         {"data.num_train", "data.num_test", "data.sample_shape", "data.noise", "data.seed"}) {
      unused.require_default(key, "data.format = \"idx\"");
    }
    return;
  }
  unused.require_default("data.directory", "data.format = \"synthetic\"");
  if (data.sample_shape.empty()) {
    complaints.emplace_back("data.sample_shape", "'data.sample_shape' is empty");
  }
  double elements = 1;
  for (const std::int64_t size : data.sample_shape) {
    elements *= static_cast<double>(size);
  }
  constexpr double kMaxElements = 1 << 30;
  if (elements > kMaxElements || data.sample_shape.size() > 4) {
    complaints.emplace_back("data.sample_shape",
                            fmt::format("'data.sample_shape' = {} is too large: at most 4 "
                                        "dimensions and 2^30 values",
                                        toml_text(data.sample_shape)));
  }
}

void check_train(const RunConfig& config, UnusedKeys& unused, Complaints& complaints) {
  const TrainSection& train = config.train;
  if (train.microbatches > train.global_batch) {
    complaints.emplace_back(
        "train.microbatches",
        fmt::format("'train.microbatches' = {} exceeds 'train.global_batch' = {}: some slots "
                    "would never hold a sample",
                    train.microbatches, train.global_batch));
  }
  if (train.early_stopping_patience > 0 && config.data.validation_fraction == 0) {
    complaints.emplace_back("train.early_stopping_patience",
                            "'train.early_stopping_patience' needs validation data: set "
                            "'data.validation_fraction'");
  }
  if (train.early_stopping_patience == 0) {
    unused.require_default("train.early_stopping_min_delta", "train.early_stopping_patience = 0");
  }
}

void check_schedule(const RunConfig& config, UnusedKeys& unused, Complaints& complaints) {
  const ScheduleSection& schedule = config.optimizer.schedule;
  const std::string because = fmt::format("optimizer.schedule.kind = \"{}\"", schedule.kind);
  if (schedule.kind != "step") {
    unused.require_default("optimizer.schedule.boundaries_epochs", because);
    unused.require_default("optimizer.schedule.gamma", because);
  } else if (schedule.boundaries_epochs.empty()) {
    complaints.emplace_back("optimizer.schedule.boundaries_epochs",
                            "'optimizer.schedule.boundaries_epochs' is missing: "
                            "optimizer.schedule.kind \"step\" needs it");
  }
  if (schedule.kind != "polynomial") {
    unused.require_default("optimizer.schedule.power", because);
  }
  if (schedule.kind != "polynomial" && schedule.kind != "cosine") {
    unused.require_default("optimizer.schedule.final_factor", because);
  }
  double previous = 0;
  for (const double boundary : schedule.boundaries_epochs) {
    if (boundary <= previous) {
      complaints.emplace_back("optimizer.schedule.boundaries_epochs",
                              fmt::format("'optimizer.schedule.boundaries_epochs' = {} must be "
                                          "positive and ascending",
                                          toml_text(schedule.boundaries_epochs)));
      break;
    }
    previous = boundary;
  }
  if (schedule.warmup_epochs > static_cast<double>(config.train.epochs)) {
    complaints.emplace_back("optimizer.schedule.warmup_epochs",
                            fmt::format("'optimizer.schedule.warmup_epochs' = {} exceeds "
                                        "'train.epochs' = {}",
                                        schedule.warmup_epochs, config.train.epochs));
  }
}

void check_optimizer(const RunConfig& config, UnusedKeys& unused) {
  const std::string& kind = config.optimizer.kind;
  const std::string because = fmt::format("optimizer.kind = \"{}\"", kind);
  const bool adam = kind == "adam" || kind == "adamw";
  if (kind != "momentum" && kind != "nesterov") {
    unused.require_default("optimizer.momentum", because);
  }
  if (!adam) {
    unused.require_default("optimizer.beta1", because);
    unused.require_default("optimizer.beta2", because);
  }
  if (!adam && kind != "adagrad") {
    unused.require_default("optimizer.epsilon", because);
  }
  if (kind != "adagrad") {
    unused.require_default("optimizer.initial_accumulator", because);
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> flatten(const RunConfig& config) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const Key& key : config_keys()) {
    values.emplace_back(key.path, value_text(key, config));
  }
  values.emplace_back("model.layers", config.model.layers);
  return values;
}

std::string to_toml(const RunConfig& config) {
  std::string text;
  std::string section;
  for (const Key& key : config_keys()) {
    const std::size_t dot = key.path.rfind('.');
    if (key.path.substr(0, dot) != section) {
      section = key.path.substr(0, dot);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    }
    // An empty preset beside layers would read as a wish for no model.
    if (key.path != "model.preset" || !config.model.preset.empty()) {
      text += fmt::format("{} = {}\n", key.path.substr(dot + 1), value_text(key, config));
    }
  }
  if (!config.model.layers.empty()) {
    text += "\n" + config.model.layers;
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> contradictions(const RunConfig& config) {
  Complaints complaints;
  UnusedKeys unused(config, complaints);
  check_model(config.model, complaints);
  check_data(config.data, unused, complaints);
  check_train(config, unused, complaints);
  check_optimizer(config, unused);
  check_schedule(config, unused, complaints);
  return complaints;
}

std::vector<std::string> differences_that_change_a_resumed_run(const RunConfig& before,
                                                               const RunConfig& now) {
  const std::string& kind = now.optimizer.schedule.kind;
  if (before.train.epochs == now.train.epochs || (kind != "cosine" && kind != "polynomial")) {
    return {};
  }
  return {fmt::format(
      "'train.epochs' was {} and is now {}: the \"{}\" schedule follows the new length from here "
      "on, so the result is not that of a run of {} epochs that was never interrupted",
      before.train.epochs, now.train.epochs, kind, now.train.epochs)};
}

std::vector<std::string> differences_refused_on_resume(const RunConfig& before,
                                                       const RunConfig& now) {
  std::vector<std::string> refused;
  for (const Key& key : config_keys()) {
    const std::string old_value = value_text(key, before);
    const std::string new_value = value_text(key, now);
    if (key.on_resume == OnResume::kMustEqual && old_value != new_value) {
      refused.push_back(fmt::format("'{}' was {} and is now {}", key.path, old_value, new_value));
    }
  }
  if (before.model.layers != now.model.layers) {
    refused.push_back(fmt::format("[[model.layers]] differ: they were\n{}and are now\n{}",
                                  before.model.layers, now.model.layers));
  }
  return refused;
}

}  // namespace superstep::cluster
