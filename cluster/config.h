// The configuration of a run: what a TOML file and the command line say, with every default filled
// in.
//
//   [model]      preset = "mcmahan_cnn"                 # or [[model.layers]]
//   [train]      epochs = 6
//                global_batch = 128
//
// Fields hold what the file says, in the file's own words and units; cluster/setup.h turns them
// into the options of the trainer. Every field has one row in the table of keys
// (cluster/config_keys.h), which knows its name, range and help; the defaults are the initialisers
// below. Reading: cluster/config_reader.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace superstep::cluster {

struct ModelSection {
  std::string preset;  // empty when layers are given
  // [[model.layers]] as TOML text in the worker's own wording; empty when a preset is given.
  std::string layers;

  friend bool operator==(const ModelSection&, const ModelSection&) = default;
};

struct DataSection {
  std::string format = "idx";
  std::string directory;
  std::int64_t num_classes = 10;
  std::string normalization = "mean_std";
  double validation_fraction = 0.0;
  bool shuffle = true;
  std::int64_t num_train = 512;
  std::int64_t num_test = 128;
  std::vector<std::int64_t> sample_shape = {3, 32, 32};
  double noise = 0.5;
  std::int64_t seed = 1;
  std::int64_t window = 32;

  friend bool operator==(const DataSection&, const DataSection&) = default;
};

struct TrainSection {
  std::int64_t epochs = 1;
  std::int64_t max_supersteps = 0;
  std::int64_t global_batch = 128;
  std::int64_t microbatches = 8;
  std::int64_t seed = 1;
  std::int64_t evaluation_batch = 1000;
  std::int64_t evaluate_every_epochs = 1;
  std::int64_t early_stopping_patience = 0;
  double early_stopping_min_delta = 0.0;
  std::int64_t wall_time_limit_seconds = 0;
  std::string slot_placement = "contiguous";
  std::string precision = "float32";
  std::string warm_start;
  std::int64_t prefetch_depth = 2;
  std::int64_t log_every_supersteps = 1;

  friend bool operator==(const TrainSection&, const TrainSection&) = default;
};

struct ScheduleSection {
  std::string kind = "constant";
  double warmup_epochs = 0.0;
  std::vector<double> boundaries_epochs;
  double gamma = 0.1;
  double power = 1.0;
  double final_factor = 0.0;

  friend bool operator==(const ScheduleSection&, const ScheduleSection&) = default;
};

struct OptimizerSection {
  std::string kind = "momentum";
  double learning_rate = 0.05;
  double momentum = 0.9;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  double initial_accumulator = 0.0;
  double clip_value = 0.0;
  double clip_global_norm = 0.0;
  ScheduleSection schedule;

  friend bool operator==(const OptimizerSection&, const OptimizerSection&) = default;
};

// How long the logical workers of a simulated cluster take.
struct DelaySection {
  double seconds_per_sample = 0.001;
  double speed_deviation = 0.0;
  double jitter_deviation = 0.0;
  double bytes_per_second = 0.0;
  std::int64_t seed = 1;

  friend bool operator==(const DelaySection&, const DelaySection&) = default;
};

struct ServerSection {
  std::string policy = "bsp";
  std::int64_t servers = 0;
  std::int64_t workers = 0;
  std::int64_t staleness = 0;
  std::int64_t n_push = 1;
  std::int64_t n_fetch = 1;
  std::int64_t warm_start_supersteps = 0;
  std::int64_t backup_workers = 1;
  std::int64_t local_steps = 8;
  std::int64_t local_after_supersteps = 0;
  std::string outer_kind = "sgd";
  double outer_learning_rate = 1.0;
  double outer_momentum = 0.9;
  std::int64_t bucket_bytes = 0;
  DelaySection delay;

  friend bool operator==(const ServerSection&, const ServerSection&) = default;
};

struct CheckpointSection {
  std::int64_t every_supersteps = 200;
  std::int64_t keep = 3;
  bool keep_best = true;
  bool asynchronous = true;
  std::string partner_directory;

  friend bool operator==(const CheckpointSection&, const CheckpointSection&) = default;
};

struct BspSection {
  std::int64_t lanes = 1;
  std::int64_t ranks_per_node = 0;
  double sync_deadline_seconds = 60.0;

  friend bool operator==(const BspSection&, const BspSection&) = default;
};

struct CheckSection {
  std::string bad_numbers = "stop";
  std::int64_t max_skipped = 10;
  double gradient_limit = 0.0;
  double loss_spike_factor = 0.0;
  std::int64_t parameters_every_updates = 100;
  double recompute_gradients = 0.0;

  friend bool operator==(const CheckSection&, const CheckSection&) = default;
};

// Virtual time of a federated run; speed "none" means that there is none.
struct DeviceSection {
  std::string speed = "none";
  std::string profiles;
  double seconds_per_sample = 0.01;
  double speed_deviation = 0.5;
  double download_bytes_per_second = 0.0;
  double upload_bytes_per_second = 0.0;
  double bandwidth_deviation = 0.0;
  double dropout = 0.0;
  std::string availability = "always";
  double period_seconds = 86400.0;
  double available_fraction = 0.5;
  std::string trace;
  std::int64_t seed = 1;

  friend bool operator==(const DeviceSection&, const DeviceSection&) = default;
};

struct AsynchronySection {
  std::string kind = "none";
  std::int64_t concurrency = 10;
  std::int64_t buffer = 10;
  double mixing = 0.6;
  std::string staleness = "polynomial";
  double staleness_a = 0.5;
  double staleness_b = 4.0;
  std::int64_t max_staleness = 0;

  friend bool operator==(const AsynchronySection&, const AsynchronySection&) = default;
};

// superstep federated; rounds = 0 means that the configuration is not of a federated run.
struct FederatedSection {
  std::int64_t rounds = 0;
  std::int64_t clients = 100;
  std::int64_t cohort = 10;
  std::string sampling = "fixed";
  std::string algorithm = "fedavg";
  std::int64_t local_epochs = 1;
  std::int64_t local_batch = 10;
  double client_learning_rate = 0.1;
  double client_learning_rate_decay = 1.0;
  std::string weighting = "samples";
  double mu = 0.01;
  double alpha = 0.01;
  double q = 1.0;
  double beta = 0.9;
  double server_learning_rate = 1.0;
  double server_momentum = 0.9;
  double server_beta1 = 0.9;
  double server_beta2 = 0.99;
  double server_tau = 0.001;
  std::string partition = "iid";
  std::int64_t partition_seed = 1;
  std::int64_t shards_per_client = 2;
  std::int64_t labels_per_client = 2;
  double dirichlet_alpha = 0.5;
  double size_skew = 0.0;
  std::int64_t min_client_samples = 1;
  std::string partition_file;
  std::string partition_column = "client";
  std::int64_t generated_samples = 20;
  std::string data_mode = "shared";
  bool audit = false;
  std::int64_t sites = 0;
  std::string site_directory = "site-{site}";
  double update_bound = 16.0;
  std::int64_t ring_bits = 64;
  std::int64_t evaluate_every_rounds = 1;
  std::int64_t evaluate_clients_every_rounds = 0;
  std::string test_partition_file;
  double client_test_fraction = 0.0;
  std::string client_test_split = "random";
  double feature_noise = 0.0;
  std::string personalization = "none";
  double ditto_lambda = 0.1;
  std::int64_t personal_epochs = 1;
  double personal_learning_rate = 0.0;
  std::int64_t personal_layers = 1;
  std::string personal_layer_names;
  std::string robust = "none";
  double trim_fraction = 0.1;
  std::int64_t byzantine = 0;
  std::int64_t selected = 1;
  double geometric_median_tolerance = 1e-6;
  std::string norm_zeroing = "none";
  double zeroing_norm = 10.0;
  double zeroing_quantile = 0.98;
  std::string norm_clipping = "none";
  double clipping_norm = 1.0;
  double clipping_quantile = 0.8;
  double norm_count_noise = 0.0;
  std::string compression = "none";
  double compression_keep = 0.01;
  std::int64_t compression_levels = 16;
  std::int64_t compression_bits = 4;
  bool error_feedback = false;
  std::string attack = "none";
  double attack_fraction = 0.0;
  double attack_strength = 1.0;
  std::string privacy = "none";
  double clip = 1.0;
  double noise_multiplier = 1.0;
  double delta = 1e-5;
  std::int64_t pld_every_rounds = 0;
  std::string clipping = "flat";
  double target_quantile = 0.5;
  double clip_learning_rate = 0.2;
  double count_noise = 0.0;
  double weight_cap = 0.0;
  std::int64_t noise_cohort = 0;
  std::string noise_source = "system";
  double over_selection = 1.0;
  double deadline_seconds = 0.0;
  std::int64_t min_reports = 0;
  DeviceSection device;
  AsynchronySection asynchrony;

  friend bool operator==(const FederatedSection&, const FederatedSection&) = default;
};

struct RunConfig {
  ModelSection model;
  DataSection data;
  TrainSection train;
  OptimizerSection optimizer;
  ServerSection server;
  CheckpointSection checkpoint;
  CheckSection check;
  BspSection bsp;
  FederatedSection federated;

  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

// The whole configuration as TOML, every default included. Reading it gives an equal RunConfig.
std::string to_toml(const RunConfig& config);

// Key path ("train.epochs") to value as TOML, in the order of the table of keys; "model.layers" is
// last.
std::vector<std::pair<std::string, std::string>> flatten(const RunConfig& config);

// Contradictions between keys that are fine by themselves: key path to complaint, without its
// place.
std::vector<std::pair<std::string, std::string>> contradictions(const RunConfig& config);

// What a resumed run may change, but not without changing what it computes: one line per key, for a
// warning.
std::vector<std::string> differences_that_change_a_resumed_run(const RunConfig& before,
                                                               const RunConfig& now);

// What a resumed run may not change: one line per key that differs and has to be equal, with both
// values.
std::vector<std::string> differences_refused_on_resume(const RunConfig& before,
                                                       const RunConfig& now);

}  // namespace superstep::cluster
