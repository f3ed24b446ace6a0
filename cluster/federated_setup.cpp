#include "cluster/federated_setup.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "base/error.h"
#include "cluster/federated_time_setup.h"
#include "cluster/kind_by_name.h"
#include "kernels/precision.h"
#include "worker/federated/client_division.h"
#include "worker/federated/feature_noise.h"
#include "worker/federated/partition.h"
#include "worker/federated/partition_file.h"

namespace superstep::cluster {

namespace {

using worker::PartitionKind;

worker::PartitionOptions partition_options(const FederatedSection& federated) {
  constexpr std::array kKinds = {
      PartitionKind::kIid,       PartitionKind::kShards,         PartitionKind::kPathological,
      PartitionKind::kDirichlet, PartitionKind::kDirichletSizes, PartitionKind::kQuantity};
  return {.kind = kind_by_name(kKinds, federated.partition),
          .num_clients = federated.clients,
          .shards_per_client = federated.shards_per_client,
          .labels_per_client = federated.labels_per_client,
          .alpha = federated.dirichlet_alpha,
          .size_skew = federated.size_skew,
          .min_samples = federated.min_client_samples,
          .seed = static_cast<std::uint64_t>(federated.partition_seed)};
}

// Samples are made when they are read, so the files' normalisation means nothing to them; the test
// data are clients that no cohort ever holds.
void use_generated(const RunConfig& config, FederatedSetup& setup) {
  if (config.data.format != "synthetic") {
    throw InvalidArgument("configuration",
                          "'federated.partition' = \"generated\" needs data.format = "
                          "\"synthetic\"");
  }
  worker::GeneratedClientsOptions options{.num_clients = config.federated.clients,
                                          .samples_per_client = config.federated.generated_samples,
                                          .sample_shape = kernels::Shape(config.data.sample_shape),
                                          .num_classes = checked_cast<int>(config.data.num_classes),
                                          .noise = static_cast<float>(config.data.noise),
                                          .seed = static_cast<std::uint64_t>(config.data.seed)};
  setup.clients.train = worker::generated_clients(options);
  const std::int64_t held_out =
      std::max<std::int64_t>(1, config.data.num_test / options.samples_per_client);
  options.num_clients += held_out;
  setup.run.data.parts.test =
      worker::dataset_of_clients(worker::generated_clients(options), config.federated.clients);
  setup.run.normalization = worker::Normalization::none();
}

// The clients that the data themselves name: of texts, their authors.
std::shared_ptr<const worker::ClientData> natural_clients(
    const std::shared_ptr<const worker::Dataset>& dataset) {
  const worker::SampleGroups* groups = dataset->groups();
  if (groups == nullptr) {
    throw InvalidArgument("configuration",
                          "'federated.partition' = \"natural\": these data do not say whose "
                          "samples are whose, expected data.format = \"text\" (for IDX files give "
                          "a partition \"file\")");
  }
  worker::ClientIndex index(dataset->size());
  for (std::size_t client = 0; client < groups->names.size(); ++client) {
    std::vector<std::uint32_t> samples(
        static_cast<std::size_t>(groups->cuts[client + 1] - groups->cuts[client]));
    std::iota(samples.begin(), samples.end(), checked_cast<std::uint32_t>(groups->cuts[client]));
    index.add(samples, groups->names[client]);
  }
  return worker::partitioned_clients(dataset, std::move(index));
}

std::shared_ptr<const worker::ClientData> make_clients(const RunConfig& config,
                                                       const worker::TrainingData& parts) {
  const FederatedSection& federated = config.federated;
  if (federated.partition == "file") {
    return worker::partitioned_clients(
        parts.train, worker::read_partition(federated.partition_file, parts.train->size(),
                                            federated.partition_column));
  }
  return worker::partitioned_clients(
      parts.train, worker::make_partition(parts.train->labels(), parts.train->num_classes(),
                                          partition_options(federated)));
}

worker::SiteOptions site_options(const RunSetup& run) {
  const FederatedSection& federated = run.config.federated;
  const std::filesystem::path directory =
      std::filesystem::path(run.config.data.directory) / federated.site_directory;
  return {.directory = directory.native(),
          .num_sites = federated.sites,
          .client_column = federated.partition_column,
          .sample_shape = run.data.parts.test->sample_shape(),
          .num_classes = run.data.parts.test->num_classes()};
}

// Noise first: a client's samples look alike, whether it trains on them or keeps them.
void add_noise_and_divide(const FederatedSection& federated, ClientParts& clients) {
  const auto seed = static_cast<std::uint64_t>(federated.partition_seed);
  if (federated.feature_noise > 0.0) {
    clients.train =
        worker::noisy_clients(clients.train, {.deviation = federated.feature_noise, .seed = seed});
  }
  if (federated.client_test_fraction > 0.0) {
    const worker::DividedClients parts = worker::divide_clients(
        clients.train,
        {.test_fraction = federated.client_test_fraction,
         .split = kind_by_name(std::array{worker::ClientSplit::kRandom, worker::ClientSplit::kLast},
                               federated.client_test_split),
         .seed = seed});
    clients.train = parts.train;
    clients.tests = parts.test;
  }
}

// "dense2, batch_norm1".
std::vector<std::string> names_in(std::string_view text) {
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    std::string_view name = text.substr(0, end);
    const std::size_t first = std::min(name.find_first_not_of(' '), name.size());
    name = name.substr(first, name.find_last_not_of(' ') + 1 - first);
    names.emplace_back(name);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return names;
}

worker::PersonalizationOptions personalization_options(const FederatedSection& federated) {
  using worker::PersonalizationKind;
  return {
      .kind = kind_by_name(std::array{PersonalizationKind::kNone, PersonalizationKind::kDitto,
                                      PersonalizationKind::kFedPer, PersonalizationKind::kFineTune},
                           federated.personalization),
      .lambda = federated.ditto_lambda,
      .epochs = federated.personal_epochs,
      .learning_rate = federated.personal_learning_rate,
      .layers = federated.personal_layers,
      .layer_names = names_in(federated.personal_layer_names)};
}

worker::AlgorithmOptions algorithm_options(const FederatedSection& federated) {
  return {.kind = worker::algorithm_of(federated.algorithm),
          .weighting =
              kind_by_name(std::array{worker::Weighting::kSamples, worker::Weighting::kUniform},
                           federated.weighting),
          .mu = federated.mu,
          .alpha = federated.alpha,
          .q = federated.q,
          .beta = federated.beta,
          .server = {.learning_rate = federated.server_learning_rate,
                     .momentum = federated.server_momentum,
                     .beta1 = federated.server_beta1,
                     .beta2 = federated.server_beta2,
                     .tau = federated.server_tau}};
}

worker::NoiseSource noise_source(const FederatedSection& federated) {
  return kind_by_name(std::array{worker::NoiseSource::kSystem, worker::NoiseSource::kTest},
                      federated.noise_source);
}

worker::NormBound norm_bound(const std::string& name) {
  using worker::NormBound;
  return kind_by_name(std::array{NormBound::kNone, NormBound::kFlat, NormBound::kAdaptive}, name);
}

worker::NormOptions norm_options(const FederatedSection& federated) {
  return {.zeroing = {.kind = norm_bound(federated.norm_zeroing),
                      .norm = federated.zeroing_norm,
                      .quantile = federated.zeroing_quantile},
          .clipping = {.kind = norm_bound(federated.norm_clipping),
                       .norm = federated.clipping_norm,
                       .quantile = federated.clipping_quantile},
          .count_noise = federated.norm_count_noise,
          .noise_source = noise_source(federated)};
}

worker::PrivacyOptions privacy_options(const FederatedSection& federated) {
  return {
      .kind = kind_by_name(std::array{worker::PrivacyKind::kNone, worker::PrivacyKind::kDpFedAvg},
                           federated.privacy),
      .clip = federated.clip,
      .noise_multiplier = federated.noise_multiplier,
      .delta = federated.delta,
      .clipping = kind_by_name(std::array{worker::Clipping::kFlat, worker::Clipping::kAdaptive},
                               federated.clipping),
      .target_quantile = federated.target_quantile,
      .clip_learning_rate = federated.clip_learning_rate,
      .count_noise = federated.count_noise,
      .weight_cap = federated.weight_cap,
      .noise_source = noise_source(federated),
      .noise_cohort = federated.noise_cohort,
      .pld_every_rounds = federated.pld_every_rounds};
}

worker::CompressionOptions compression_options(const FederatedSection& federated) {
  using worker::CompressionKind;
  return {.kind = kind_by_name(std::array{CompressionKind::kNone, CompressionKind::kQsgd,
                                          CompressionKind::kTopK, CompressionKind::kRandomK,
                                          CompressionKind::kSign, CompressionKind::kRotation},
                               federated.compression),
          .keep = federated.compression_keep,
          .levels = checked_cast<int>(federated.compression_levels),
          .bits = checked_cast<int>(federated.compression_bits),
          .error_feedback =
              federated.error_feedback ? worker::ErrorFeedback::kOn : worker::ErrorFeedback::kOff};
}

worker::RobustOptions robust_options(const FederatedSection& federated) {
  using worker::RobustKind;
  return {.kind = kind_by_name(std::array{RobustKind::kNone, RobustKind::kMean, RobustKind::kMedian,
                                          RobustKind::kTrimmedMean, RobustKind::kKrum,
                                          RobustKind::kMultiKrum, RobustKind::kGeometricMedian},
                               federated.robust),
          .trim_fraction = federated.trim_fraction,
          .byzantine = federated.byzantine,
          .selected = federated.selected,
          .tolerance = federated.geometric_median_tolerance};
}

worker::AttackOptions attack_options(const FederatedSection& federated) {
  using worker::AttackKind;
  return {.kind = kind_by_name(std::array{AttackKind::kNone, AttackKind::kSignFlip,
                                          AttackKind::kGaussian, AttackKind::kLabelFlip,
                                          AttackKind::kLittleIsEnough, AttackKind::kInnerProduct},
                               federated.attack),
          .fraction = federated.attack_fraction,
          .strength = federated.attack_strength};
}

worker::FederatedOptions federated_options(const RunSetup& run) {
  using worker::Sampling;
  const RunConfig& config = run.config;
  const FederatedSection& federated = config.federated;
  const auto seed = static_cast<std::uint64_t>(config.train.seed);
  worker::FederatedOptions options;
  options.rounds = federated.rounds;
  options.cohort = {.sampling = kind_by_name(
                        std::array{Sampling::kFixed, Sampling::kPoisson, Sampling::kWeighted},
                        federated.sampling),
                    .size = federated.cohort,
                    .seed = seed};
  options.local = {.epochs = federated.local_epochs,
                   .batch = federated.local_batch,
                   .learning_rate = federated.client_learning_rate,
                   .learning_rate_decay = federated.client_learning_rate_decay,
                   .seed = seed,
                   .normalization = run.normalization,
                   .precision = kernels::precision_named(config.train.precision)};
  options.algorithm = algorithm_options(federated);
  options.privacy = privacy_options(federated);
  options.compression = compression_options(federated);
  options.robust = robust_options(federated);
  options.norms = norm_options(federated);
  options.attack = attack_options(federated);
  options.personalization = personalization_options(federated);
  options.data_mode = kind_by_name(std::array{worker::DataMode::kShared, worker::DataMode::kStrict},
                                   federated.data_mode);
  options.update_bound = federated.update_bound;
  options.ring_bits = checked_cast<int>(federated.ring_bits);
  options.evaluate_every_rounds = federated.evaluate_every_rounds;
  options.evaluate_clients_every_rounds = federated.evaluate_clients_every_rounds;
  options.evaluation_batch = config.train.evaluation_batch;
  options.checkpoint.every_supersteps = config.checkpoint.every_supersteps;
  options.checkpoint.keep = checked_cast<int>(config.checkpoint.keep);
  options.checkpoint.asynchronous = config.checkpoint.asynchronous;
  options.checkpoint.configuration = to_toml(config);
  options.wall_time_limit = std::chrono::seconds(config.train.wall_time_limit_seconds);
  return options;
}

}  // namespace

FederatedSetup make_federated_setup(const ParsedConfig& parsed, Begin begin) {
  if (require_valid(parsed).federated.rounds == 0) {
    throw InvalidArgument("configuration",
                          "'federated.rounds' is missing: superstep federated needs at least 1");
  }
  FederatedSetup setup;
  setup.run = make_setup(parsed, begin);
  const RunConfig& config = setup.run.config;
  if (config.federated.partition == "generated") {
    use_generated(config, setup);
  } else if (config.federated.partition == "sites") {
    setup.sites = site_options(setup.run);
  } else if (config.federated.partition == "natural") {
    setup.clients = {.train = natural_clients(setup.run.data.parts.train),
                     .tests = natural_clients(setup.run.data.parts.test)};
  } else {
    setup.clients.train = make_clients(config, setup.run.data.parts);
  }
  if (setup.clients.train != nullptr) {
    setup.whole_clients = setup.clients.train;
    add_noise_and_divide(config.federated, setup.clients);
  }
  if (const std::string& file = config.federated.test_partition_file; !file.empty()) {
    const std::shared_ptr<const worker::Dataset>& test = setup.run.data.parts.test;
    setup.held_out = worker::partitioned_clients(
        test, worker::read_partition(file, test->size(), config.federated.partition_column));
  }
  setup.options = federated_options(setup.run);
  worker::shared_entries(setup.run.model.layout(), setup.options.personalization);
  if (setup.clients.train != nullptr) {
    set_time_options(config.federated, setup.clients.train->num_clients(), setup.options);
    worker::FederatedOptions checked = setup.options;
    checked.client_store = "clients";  // of the run directory that is made later
    worker::check_federated(checked, *setup.clients.train, setup.run.model.layout());
  }
  return setup;
}

ClientParts clients_of_rank(bsp::World& world, const FederatedSetup& setup) {
  if (!setup.sites) {
    return setup.clients;
  }
  ClientParts clients{.train = worker::read_sites(world, *setup.sites), .tests = nullptr};
  add_noise_and_divide(setup.run.config.federated, clients);
  return clients;
}

worker::FederatedOptions options_for(const FederatedSetup& setup,
                                     const worker::ClientData& clients) {
  worker::FederatedOptions options = setup.options;
  if (setup.sites) {
    set_time_options(setup.run.config.federated, clients.num_clients(), options);
  }
  return options;
}

}  // namespace superstep::cluster
