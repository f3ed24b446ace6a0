#include "cluster/config_keys.h"

#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"
#include "cluster/config_key_ranges.h"

namespace superstep::cluster {

namespace {

template <auto Section, auto Member>
auto& field(RunConfig& config) {
  return config.*Section.*Member;
}

template <auto Member>
auto& schedule_field(RunConfig& config) {
  return config.optimizer.schedule.*Member;
}

using namespace key_ranges;  // NOLINT(google-build-using-namespace): words of this table

constexpr OnResume kMayChange = OnResume::kMayChange;
constexpr OnResume kMustEqual = OnResume::kMustEqual;

std::vector<Key> model_and_data_keys() {
  using D = DataSection;
  constexpr auto kData = &RunConfig::data;
  return {
      {"model.preset",
       &field<&RunConfig::model, &ModelSection::preset>,
       any(),
       {},
       "A model by name (superstep models lists them); or [[model.layers]] one by one"},
      {"data.format",
       &field<kData, &D::format>,
       any(),
       {"idx", "text", "synthetic"},
       "idx: files as of MNIST, plain or gzip; text: texts of clients, to predict the next "
       "character "
       "of; synthetic: labelled images made from data.seed"},
      {"data.directory",
       &field<kData, &D::directory>,
       any(),
       {},
       "idx: where train-images-idx3-ubyte and the three other files are; text: where roles.jsonl "
       "is",
       kMayChange},
      {"data.num_classes",
       &field<kData, &D::num_classes>,
       between(2, kMaxClasses),
       {},
       "Labels are 0 to num_classes - 1"},
      {"data.normalization",
       &field<kData, &D::normalization>,
       any(),
       {"mean_std", "unit", "none"},
       "mean_std: mean 0 and deviation 1 over the training part; unit: bytes / 255; none: as they "
       "are"},
      {"data.validation_fraction",
       &field<kData, &D::validation_fraction>,
       from_below(0, 1),
       {},
       "This part of the training data, taken from its end, is held out for validation"},
      {"data.shuffle",
       &field<kData, &D::shuffle>,
       any(),
       {},
       "Visit the samples in a new order every epoch, keyed by train.seed and the epoch"},
      {"data.num_train",
       &field<kData, &D::num_train>,
       between(1, kMaxCount),
       {},
       "synthetic: number of training samples"},
      {"data.num_test",
       &field<kData, &D::num_test>,
       between(1, kMaxCount),
       {},
       "synthetic: number of test samples"},
      {"data.sample_shape",
       &field<kData, &D::sample_shape>,
       between(1, kMaxInt),
       {},
       "synthetic: shape of a sample, (channels, height, width)"},
      {"data.noise",
       &field<kData, &D::noise>,
       between(0, 1e6),
       {},
       "synthetic: deviation of the noise added to the prototype of the class"},
      {"data.seed",
       &field<kData, &D::seed>,
       at_least(0),
       {},
       "synthetic: key of the random numbers"},
      {"data.window",
       &field<kData, &D::window>,
       between(1, 1e6),
       {},
       "text: characters before the one that is predicted"},
  };
}

std::vector<Key> train_keys() {
  using T = TrainSection;
  constexpr auto kTrain = &RunConfig::train;
  return {
      {"train.epochs",
       &field<kTrain, &T::epochs>,
       between(1, kMaxInt),
       {},
       "Passes over the training data",
       kMayChange},
      {"train.max_supersteps",
       &field<kTrain, &T::max_supersteps>,
       between(0, kMaxCount),
       {},
       "Stop after this many supersteps; 0: no limit",
       kMayChange},
      {"train.global_batch",
       &field<kTrain, &T::global_batch>,
       between(1, kMaxInt),
       {},
       "Samples per update, over all ranks"},
      {"train.microbatches",
       &field<kTrain, &T::microbatches>,
       between(1, 65536),
       {},
       "Slots the global batch is cut into; at least the number of ranks. It decides the bits of a "
       "run, "
       "the number of ranks does not"},
      {"train.seed",
       &field<kTrain, &T::seed>,
       at_least(0),
       {},
       "Key of initial parameters, order of samples and dropout"},
      {"train.evaluation_batch",
       &field<kTrain, &T::evaluation_batch>,
       between(1, kMaxInt),
       {},
       "Samples per step of an evaluation, over all ranks"},
      {"train.evaluate_every_epochs",
       &field<kTrain, &T::evaluate_every_epochs>,
       between(1, kMaxInt),
       {},
       "Evaluate validation and test data after every k-th epoch, and always at the end"},
      {"train.early_stopping_patience",
       &field<kTrain, &T::early_stopping_patience>,
       between(0, kMaxInt),
       {},
       "Stop after this many evaluations without a better validation loss; 0: never"},
      {"train.early_stopping_min_delta",
       &field<kTrain, &T::early_stopping_min_delta>,
       between(0, 1e6),
       {},
       "A validation loss is better when it is lower by more than this"},
      {"train.wall_time_limit_seconds",
       &field<kTrain, &T::wall_time_limit_seconds>,
       between(0, kMaxSeconds),
       {},
       "Stop with a checkpoint and exit code 75 after this time; 0: no limit",
       kMayChange},
      {"train.slot_placement",
       &field<kTrain, &T::slot_placement>,
       any(),
       {"contiguous", "random", "measured", "stealing"},
       "Which rank computes which slots; never changes results",
       kMayChange},
      {"train.precision",
       &field<kTrain, &T::precision>,
       any(),
       {"float32", "bf16"},
       "bf16: products and convolutions round their operands to bf16 and add in float32; "
       "parameters, gradients and updates stay float32"},
      {"train.warm_start",
       &field<kTrain, &T::warm_start>,
       any(),
       {},
       "Start from the parameters in this .npz file (superstep export) instead of random ones"},
      {"train.prefetch_depth",
       &field<kTrain, &T::prefetch_depth>,
       between(1, 1024),
       {},
       "Steps whose batches are assembled ahead, in a thread per rank",
       kMayChange},
      {"train.log_every_supersteps",
       &field<kTrain, &T::log_every_supersteps>,
       between(1, kMaxInt),
       {},
       "Write every k-th superstep to metrics.jsonl",
       kMayChange},
  };
}

std::vector<Key> optimizer_keys() {
  using O = OptimizerSection;
  using S = ScheduleSection;
  constexpr auto kOptimizer = &RunConfig::optimizer;
  return {
      {"optimizer.kind",
       &field<kOptimizer, &O::kind>,
       any(),
       {"sgd", "momentum", "nesterov", "adagrad", "adam", "adamw"},
       "Update rule"},
      {"optimizer.learning_rate",
       &field<kOptimizer, &O::learning_rate>,
       between(0, 1e6),
       {},
       "Before the schedule's factor"},
      {"optimizer.momentum",
       &field<kOptimizer, &O::momentum>,
       from_below(0, 1),
       {},
       "momentum, nesterov"},
      {"optimizer.beta1",
       &field<kOptimizer, &O::beta1>,
       from_below(0, 1),
       {},
       "adam, adamw: decay of the mean of gradients"},
      {"optimizer.beta2",
       &field<kOptimizer, &O::beta2>,
       from_below(0, 1),
       {},
       "adam, adamw: decay of the mean of squared gradients"},
      {"optimizer.epsilon",
       &field<kOptimizer, &O::epsilon>,
       positive(),
       {},
       "adagrad, adam, adamw: added to the square root"},
      {"optimizer.weight_decay",
       &field<kOptimizer, &O::weight_decay>,
       between(0, 1e6),
       {},
       "L2 penalty (adamw: decoupled decay); leaves biases and normalisation scales alone"},
      {"optimizer.initial_accumulator",
       &field<kOptimizer, &O::initial_accumulator>,
       between(0, 1e6),
       {},
       "adagrad: the accumulator's first value"},
      {"optimizer.clip_value",
       &field<kOptimizer, &O::clip_value>,
       between(0, 1e30),
       {},
       "Clip every element of the mean gradient to [-v, v]; 0: off"},
      {"optimizer.clip_global_norm",
       &field<kOptimizer, &O::clip_global_norm>,
       between(0, 1e30),
       {},
       "Scale the mean gradient to at most this L2 norm (one more sync per step); 0: off"},
      {"optimizer.schedule.kind",
       &schedule_field<&S::kind>,
       any(),
       {"constant", "step", "cosine", "polynomial"},
       "Factor of the learning rate over the steps of train.epochs"},
      {"optimizer.schedule.warmup_epochs",
       &schedule_field<&S::warmup_epochs>,
       between(0, 1e6),
       {},
       "The rate rises linearly for this long; may be a fraction of an epoch"},
      {"optimizer.schedule.boundaries_epochs",
       &schedule_field<&S::boundaries_epochs>,
       between(0, 1e9),
       {},
       "step: the rate is multiplied by gamma at each of these"},
      {"optimizer.schedule.gamma",
       &schedule_field<&S::gamma>,
       between(0, 1e6),
       {},
       "step: factor at a boundary"},
      {"optimizer.schedule.power",
       &schedule_field<&S::power>,
       between(0, 1e3),
       {},
       "polynomial: exponent"},
      {"optimizer.schedule.final_factor",
       &schedule_field<&S::final_factor>,
       between(0, 1),
       {},
       "cosine, polynomial: factor at the last step"},
  };
}

std::vector<Key> system_keys() {
  using C = CheckpointSection;
  using K = CheckSection;
  using B = BspSection;
  return {
      {"checkpoint.every_supersteps",
       &field<&RunConfig::checkpoint, &C::every_supersteps>,
       between(0, kMaxCount),
       {},
       "Write a checkpoint every k supersteps and at the end; 0: after each epoch",
       kMayChange},
      {"checkpoint.keep",
       &field<&RunConfig::checkpoint, &C::keep>,
       between(1, kMaxInt),
       {},
       "Keep the newest k checkpoints",
       kMayChange},
      {"checkpoint.keep_best",
       &field<&RunConfig::checkpoint, &C::keep_best>,
       any(),
       {},
       "Keep the checkpoint of the best evaluation too",
       kMayChange},
      {"checkpoint.asynchronous",
       &field<&RunConfig::checkpoint, &C::asynchronous>,
       any(),
       {},
       "Copy the state and write it while training goes on; false: training waits",
       kMayChange},
      {"checkpoint.partner_directory",
       &field<&RunConfig::checkpoint, &C::partner_directory>,
       any(),
       {},
       "Keep a second copy of each rank's part here, on the next node; empty: none",
       kMayChange},
      {"check.bad_numbers",
       &field<&RunConfig::check, &K::bad_numbers>,
       any(),
       {"stop", "skip"},
       "When a loss or gradient is no number: stop (exit code 6), or leave the superstep out on "
       "all "
       "ranks"},
      {"check.max_skipped",
       &field<&RunConfig::check, &K::max_skipped>,
       between(0, kMaxCount),
       {},
       "skip: this many supersteps in a row at most; one more stops the run"},
      {"check.gradient_limit",
       &field<&RunConfig::check, &K::gradient_limit>,
       between(0, 1e38),
       {},
       "An element of a slot's gradient above this counts as no number; 0: any finite one is fine"},
      {"check.loss_spike_factor",
       &field<&RunConfig::check, &K::loss_spike_factor>,
       between(0, 1e30),
       {},
       "A slot's loss above this many times the running mean counts as no number; 0: off"},
      {"check.parameters_every_updates",
       &field<&RunConfig::check, &K::parameters_every_updates>,
       between(0, kMaxCount),
       {},
       "Verify that parameters and optimizer state did not change in memory, after every k-th "
       "update; 0: never",
       kMayChange},
      {"check.recompute_gradients",
       &field<&RunConfig::check, &K::recompute_gradients>,
       between(0, 1),
       {},
       "In this share of the supersteps every rank computes another one's gradients again and "
       "compares; 0: never",
       kMayChange},
      {"bsp.lanes",
       &field<&RunConfig::bsp, &B::lanes>,
       between(1, kMaxLanes),
       {},
       "Ranks per process, as threads (--lanes)",
       kMayChange},
      {"bsp.ranks_per_node",
       &field<&RunConfig::bsp, &B::ranks_per_node>,
       between(0, kMaxInt),
       {},
       "Treat every k consecutive ranks as a node of their own (tests); 0: nodes are machines",
       kMayChange},
      {"bsp.sync_deadline_seconds",
       &field<&RunConfig::bsp, &B::sync_deadline_seconds>,
       between(0.001, 1e6),
       {},
       "A rank that is this late is named and the job ends",
       kMayChange},
  };
}

std::vector<Key> all_keys() {
  std::vector<Key> keys;
  for (std::vector<Key> part :
       {model_and_data_keys(), train_keys(), optimizer_keys(), server_keys(), system_keys(),
        federated_keys(), federated_time_keys()}) {
    keys.insert(keys.end(), part.begin(), part.end());
  }
  return keys;
}

static_assert(static_cast<int>(kMustEqual) == 0, "the default of Key::on_resume");

}  // namespace

std::span<const Key> config_keys() {
  static const std::vector<Key> keys = all_keys();
  return keys;
}

const Key* find_key(std::string_view path) {
  for (const Key& key : config_keys()) {
    if (key.path == path) {
      return &key;
    }
  }
  return nullptr;
}

}  // namespace superstep::cluster
