#include "cluster/config.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cluster/config_contradictions.h"
#include "cluster/config_keys.h"
#include "cluster/config_text.h"

namespace superstep::cluster {

namespace {

bool is_of_central_loop(std::string_view path) {
  constexpr std::array kPaths = {"train.epochs",
                                 "train.max_supersteps",
                                 "train.global_batch",
                                 "train.microbatches",
                                 "train.evaluate_every_epochs",
                                 "train.early_stopping_patience",
                                 "train.early_stopping_min_delta",
                                 "train.slot_placement",
                                 "train.prefetch_depth",
                                 "data.validation_fraction",
                                 "data.shuffle",
                                 "checkpoint.keep_best",
                                 "checkpoint.partner_directory"};
  return std::find(kPaths.begin(), kPaths.end(), path) != kPaths.end();
}

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
  const std::string because = fmt::format("data.format = \"{}\"", data.format);
  if (data.format != "text") {
    unused.require_default("data.window", because);
  } else if (data.normalization != "none") {
    complaints.emplace_back("data.normalization",
                            fmt::format("'data.normalization' = \"{}\": texts are numbers of "
                                        "characters, expected \"none\"",
                                        data.normalization));
  }
  if (data.format != "synthetic") {
    if (data.directory.empty()) {
      complaints.emplace_back(
          "data.directory",
          fmt::format("'data.directory' is missing: data.format \"{}\" needs the directory with {}",
                      data.format, data.format == "idx" ? "the IDX files" : "roles.jsonl"));
    }
    for (const char* key :
         {"data.num_train", "data.num_test", "data.sample_shape", "data.noise", "data.seed"}) {
      unused.require_default(key, because);
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

void check_privacy(const FederatedSection& federated, UnusedKeys& unused) {
  const bool is_private = federated.privacy != "none";
  check_used(unused, used_if(is_private), "federated.privacy = \"none\"",
             {"federated.clip", "federated.noise_multiplier", "federated.delta",
              "federated.pld_every_rounds", "federated.clipping", "federated.weight_cap",
              "federated.noise_cohort"});
  check_used(unused, used_if(is_private || federated.norm_count_noise > 0.0),
             "federated.privacy = \"none\" and federated.norm_count_noise = 0",
             {"federated.noise_source"});
  check_used(
      unused, used_if(is_private && federated.clipping == "adaptive"),
      "a bound of norms that does not adapt",
      {"federated.target_quantile", "federated.clip_learning_rate", "federated.count_noise"});
}

void check_robust(const FederatedSection& federated, UnusedKeys& unused) {
  const std::string& robust = federated.robust;
  const std::string because = fmt::format("federated.robust = \"{}\"", robust);
  const bool krum = robust == "krum" || robust == "multi_krum";
  check_used(unused, used_if(robust == "trimmed_mean"), because, {"federated.trim_fraction"});
  check_used(unused, used_if(krum), because, {"federated.byzantine"});
  check_used(unused, used_if(robust == "multi_krum"), because, {"federated.selected"});
  check_used(unused, used_if(robust == "geometric_median"), because,
             {"federated.geometric_median_tolerance"});
  const bool zeroing_adapts = federated.norm_zeroing == "adaptive";
  const bool clipping_adapts = federated.norm_clipping == "adaptive";
  check_used(unused, used_if(federated.norm_zeroing != "none"), "federated.norm_zeroing = \"none\"",
             {"federated.zeroing_norm"});
  check_used(unused, used_if(federated.norm_clipping != "none"),
             "federated.norm_clipping = \"none\"", {"federated.clipping_norm"});
  const std::string_view fixed = "a bound of norms that does not adapt";
  check_used(unused, used_if(zeroing_adapts), fixed, {"federated.zeroing_quantile"});
  check_used(unused, used_if(clipping_adapts), fixed, {"federated.clipping_quantile"});
  check_used(unused, used_if(zeroing_adapts || clipping_adapts), fixed,
             {"federated.norm_count_noise"});
  check_used(unused, used_if(federated.attack != "none"), "federated.attack = \"none\"",
             {"federated.attack_fraction", "federated.attack_strength"});
}

void check_compression(const FederatedSection& federated, UnusedKeys& unused) {
  const std::string& kind = federated.compression;
  const std::string because = fmt::format("federated.compression = \"{}\"", kind);
  const bool sparse = kind == "top_k" || kind == "random_k";
  check_used(unused, used_if(sparse), because, {"federated.compression_keep"});
  check_used(unused, used_if(kind == "qsgd"), because, {"federated.compression_levels"});
  check_used(unused, used_if(kind == "rotation"), because, {"federated.compression_bits"});
  check_used(unused, used_if(kind != "none"), because, {"federated.error_feedback"});
}

void check_algorithm(const FederatedSection& federated, UnusedKeys& unused) {
  const std::string& algorithm = federated.algorithm;
  const std::string because = fmt::format("federated.algorithm = \"{}\"", algorithm);
  const auto only_with = [&](Used used, std::initializer_list<std::string_view> keys) {
    check_used(unused, used, because, keys);
  };
  const bool two_moments = algorithm == "fedadam" || algorithm == "fedyogi";
  only_with(used_if(algorithm == "fedprox"), {"federated.mu"});
  only_with(used_if(algorithm == "feddyn"), {"federated.alpha"});
  only_with(used_if(algorithm == "qfedavg"), {"federated.q"});
  only_with(used_if(algorithm == "mimelite"), {"federated.beta"});
  only_with(used_if(algorithm == "fedavgm"), {"federated.server_momentum"});
  only_with(used_if(two_moments || algorithm == "fedadagrad"),
            {"federated.server_beta1", "federated.server_tau"});
  only_with(used_if(two_moments), {"federated.server_beta2"});
  only_with(used_if(algorithm != "fedsgd"), {"federated.local_epochs", "federated.local_batch"});
}

void check_personalization(const FederatedSection& federated, UnusedKeys& unused,
                           Complaints& complaints) {
  const std::string& kind = federated.personalization;
  const std::string because = fmt::format("federated.personalization = \"{}\"", kind);
  const bool trains = kind == "ditto" || kind == "fine_tune";
  check_used(unused, used_if(kind == "ditto"), because, {"federated.ditto_lambda"});
  check_used(unused, used_if(trains), because,
             {"federated.personal_epochs", "federated.personal_learning_rate"});
  check_used(unused, used_if(kind == "fedper"), because,
             {"federated.personal_layers", "federated.personal_layer_names"});
  if (!federated.personal_layer_names.empty()) {
    unused.require_default("federated.personal_layers", "federated.personal_layer_names");
  }
  const bool has_natural_tests = federated.partition == "natural";
  const bool has_tests = federated.client_test_fraction > 0.0 || has_natural_tests;
  check_used(unused, used_if(federated.client_test_fraction > 0.0),
             "federated.client_test_fraction = 0", {"federated.client_test_split"});
  if (has_natural_tests) {
    unused.require_default("federated.client_test_fraction",
                           "federated.partition = \"natural\", which brings test samples of every "
                           "client");
  }
  if (kind != "none" && federated.evaluate_clients_every_rounds > 0 && !has_tests) {
    complaints.emplace_back("federated.client_test_fraction",
                            fmt::format("'federated.client_test_fraction' = 0 leaves nothing to "
                                        "judge clients' own models on: {} needs samples that "
                                        "they did not train on",
                                        because));
  }
}

// Keys of the centralised loop say nothing about a federated run, and the other way round.
void check_federated(const RunConfig& config, UnusedKeys& unused, Complaints& complaints) {
  const FederatedSection& federated = config.federated;
  if (federated.rounds == 0) {
    for (const Key& key : config_keys()) {
      if (key.path.starts_with("federated.")) {
        unused.require_default(key.path, "federated.rounds = 0");
      }
    }
    return;
  }
  for (const Key& key : config_keys()) {
    const bool of_the_loop = key.path.starts_with("optimizer.") || key.path.starts_with("check.") ||
                             key.path.starts_with("server.") || is_of_central_loop(key.path);
    if (of_the_loop) {
      unused.require_default(key.path, "federated.rounds > 0: the run is federated");
    }
  }
  check_privacy(federated, unused);
  const bool is_computed =
      config.data.normalization == "mean_std" && federated.partition != "generated";
  if (federated.privacy != "none" && is_computed) {
    complaints.emplace_back("data.normalization",
                            "'data.normalization' = \"mean_std\" is computed from the data of all "
                            "clients, without noise: a private run needs \"unit\" or \"none\"");
  }
  check_robust(federated, unused);
  check_compression(federated, unused);
  check_algorithm(federated, unused);
  check_personalization(federated, unused, complaints);
  check_virtual_time(federated, unused, complaints);
}

void check_partition(const RunConfig& config, UnusedKeys& unused, Complaints& complaints) {
  const FederatedSection& federated = config.federated;
  const std::string& partition = federated.partition;
  const auto only_with = [&](std::string_view key, bool used) {
    if (!used) {
      unused.require_default(key, fmt::format("federated.partition = \"{}\"", partition));
    }
  };
  only_with("federated.shards_per_client", partition == "shards");
  only_with("federated.labels_per_client", partition == "pathological");
  only_with("federated.dirichlet_alpha",
            partition == "dirichlet" || partition == "dirichlet_sizes");
  only_with("federated.size_skew", partition == "pathological" || partition == "quantity");
  only_with("federated.partition_file", partition == "file");
  only_with("federated.partition_column",
            partition == "file" || partition == "sites" || !federated.test_partition_file.empty());
  only_with("federated.sites", partition == "sites");
  only_with("federated.site_directory", partition == "sites");
  if (federated.evaluate_clients_every_rounds == 0) {
    unused.require_default("federated.test_partition_file",
                           "federated.evaluate_clients_every_rounds = 0");
  }
  if (config.data.format == "text" && federated.feature_noise > 0.0) {
    complaints.emplace_back(
        "federated.feature_noise",
        fmt::format("'federated.feature_noise' = {} with data.format = \"text\": "
                    "texts are numbers of characters, noise on them means "
                    "nothing",
                    federated.feature_noise));
  }
  only_with("federated.generated_samples", partition == "generated");
  const bool draws = partition != "file" && partition != "natural" && partition != "generated";
  only_with("federated.clients", partition != "file" && partition != "natural");
  only_with("federated.partition_seed",
            draws || federated.feature_noise > 0.0 || federated.client_test_fraction > 0.0);
  only_with("federated.min_client_samples", draws);
  if (federated.rounds > 0 && partition == "file" && federated.partition_file.empty()) {
    complaints.emplace_back("federated.partition_file",
                            "'federated.partition_file' is missing: federated.partition "
                            "\"file\" needs it");
  }
}

// Where data are. Strict: no rank may need samples of another one's clients.
void check_data_mode(const RunConfig& config, Complaints& complaints) {
  const FederatedSection& federated = config.federated;
  const bool sites = federated.partition == "sites";
  if (federated.rounds == 0) {
    return;
  }
  if (federated.data_mode == "strict" && !sites && federated.partition != "generated") {
    complaints.emplace_back(
        "federated.data_mode",
        fmt::format("'federated.data_mode' = \"strict\" needs data that every rank has of its own: "
                    "federated.partition \"sites\" or \"generated\", got \"{}\"",
                    federated.partition));
  }
  if (!sites) {
    return;
  }
  const auto require = [&](bool holds, std::string_view key, std::string_view expected) {
    if (!holds) {
      complaints.emplace_back(
          key, fmt::format("federated.partition \"sites\" needs '{}' = {}", key, expected));
    }
  };
  require(federated.data_mode == "strict", "federated.data_mode", "\"strict\"");
  require(federated.sites > 0, "federated.sites", "1 or more");
  require(federated.site_directory.find("{site}") != std::string::npos, "federated.site_directory",
          "a path with {site} in it");
  require(config.data.format == "idx", "data.format", "\"idx\"");
  require(config.data.normalization != "mean_std", "data.normalization",
          "\"unit\" or \"none\" (the mean of all samples is known to nobody)");
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
  check_server(config, unused, complaints);
  check_federated(config, unused, complaints);
  check_partition(config, unused, complaints);
  check_data_mode(config, complaints);
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
