// superstep bench: the trainer itself on synthetic data in memory, measured.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/checked_cast.h"
#include "base/clock.h"
#include "base/error.h"
#include "bsp/slot_tree.h"
#include "cluster/bench_report.h"
#include "cluster/commands.h"
#include "cluster/handshake.h"
#include "kernels/multiply_add_peak.h"
#include "kernels/precision.h"
#include "kernels/threads.h"
#include "paramserver/collocated_server.h"
#include "worker/model.h"
#include "worker/step_programs.h"
#include "worker/trainer.h"

namespace superstep::cluster {

namespace {

constexpr int kNumClasses = 10;
constexpr std::int64_t kWarmupSteps = 5;
// Enough that an epoch's permutation, made in the background, costs nothing.
constexpr std::int64_t kLeastSamples = 4096;
constexpr std::chrono::milliseconds kPeakDuration{150};
constexpr std::uint64_t kSeed = 1;

// Shared by the lanes of a process, read-only.
struct Bench {
  BenchArguments arguments;
  std::int64_t microbatches = 0;
  std::int64_t global_batch = 0;
  worker::Model model;
  std::shared_ptr<const worker::Dataset> data;
};

worker::Dense hidden(std::int64_t units) {
  return {.units = units, .initializer = worker::Initializer::kHeNormal};
}

worker::Model model_of(const std::string& name) {
  using worker::Relu;
  if (name == "mlp") {
    return worker::Model::build(worker::mlp_2nn(kNumClasses), {1, 28, 28}, kNumClasses);
  }
  if (name == "wide-mlp") {
    return worker::Model::build({worker::Flatten{}, hidden(2048), Relu{}, hidden(2048), Relu{},
                                 worker::Dense{.units = kNumClasses}},
                                {1, 28, 28}, kNumClasses);
  }
  if (name == "cnn") {
    return worker::Model::build(worker::mcmahan_cnn(kNumClasses), {1, 28, 28}, kNumClasses);
  }
  SUPERSTEP_CHECK(name == "resnet20", "model", name);
  return worker::Model::build(worker::resnet20(kNumClasses), {3, 32, 32}, kNumClasses);
}

// Adds up the measured steps of one rank.
class StepMeter : public worker::TrainObserver {
 public:
  void on_step(const worker::StepReport& report) override {
    if (report.superstep == kWarmupSteps) {
      watch_.restart();
    }
    if (report.superstep <= kWarmupSteps) {
      return;
    }
    split_.total += report.record.total_seconds;
    split_.compute += report.record.compute_seconds;
    split_.input_wait += report.record.input_wait_seconds;
    split_.exchange += report.record.exchange_seconds;
    split_.sync += report.record.sync_wait_seconds;
    seconds_ = watch_.seconds();
  }
  const StepSplit& split() const { return split_; }  // sums over the steps
  double seconds() const { return seconds_; }

 private:
  Stopwatch watch_;
  StepSplit split_;
  double seconds_ = 0.0;
};

worker::TrainOptions train_options(const Bench& bench) {
  worker::TrainOptions options;
  options.max_supersteps = kWarmupSteps + bench.arguments.steps;
  const worker::BatchPlan plan(bench.data->size(), {.global_batch = bench.global_batch});
  options.epochs = options.max_supersteps / plan.steps_per_epoch() + 1;
  options.batch = {.global_batch = bench.global_batch,
                   .microbatches = checked_cast<int>(bench.microbatches),
                   .seed = kSeed};
  options.normalization = {.kind = worker::Normalization::Kind::kUnit};
  options.evaluate_every_epochs = 0;
  options.precision = kernels::precision_named(bench.arguments.precision);
  return options;
}

// A rate so small that the samples, always the same, are not learnt by heart: gradients that vanish
// become subnormal numbers, with which some processors are a hundred times slower.
paramserver::OptimizerSpec optimizer() {
  return {.kind = paramserver::OptimizerKind::kMomentum, .learning_rate = 1e-6};
}

// Seconds that the optimizer's rule takes on this rank's shard, run alone on memory of its own.
double measure_update(const bsp::World& world, const paramserver::ParameterLayout& layout) {
  const std::int64_t length = layout.shard(world.rank(), world.size()).length();
  if (length == 0) {
    return 0.0;
  }
  AlignedBuffer<float> gradient(length);
  AlignedBuffer<float> parameters(length);
  AlignedBuffer<float> velocity(length);
  for (AlignedBuffer<float>* buffer : {&gradient, &parameters, &velocity}) {
    std::fill(buffer->span().begin(), buffer->span().end(), 0.01F);
  }
  const std::array<std::span<float>, 1> states{velocity.span()};
  constexpr int kRepetitions = 7;
  std::array<double, kRepetitions> seconds{};
  for (double& one : seconds) {
    const Stopwatch watch;
    paramserver::update<float>(optimizer(), {.step = 1, .learning_rate = optimizer().learning_rate},
                               gradient.span(), parameters.span(), states);
    one = watch.seconds();
  }
  std::nth_element(seconds.begin(), seconds.begin() + kRepetitions / 2, seconds.end());
  return seconds[kRepetitions / 2];
}

// One slot of the first batch through a recorded step, op by op.
std::vector<kernels::OpTiming> profile(const Bench& bench, std::span<const float> parameters) {
  worker::StepPrograms programs(
      bench.model, parameters,
      {.seed = kSeed, .precision = kernels::precision_named(bench.arguments.precision)});
  worker::Prefetcher input(bench.data, {.kind = worker::Normalization::Kind::kUnit},
                           worker::BatchPlan(bench.data->size(), train_options(bench).batch), {0},
                           0, 0, 1, 1);
  AlignedBuffer<float> gradient(bench.model.layout().size());
  constexpr int kRepetitions = 21;
  return programs.time_ops(input.next().slots[0], 0, gradient.span(), kRepetitions);
}

double flops_per_step(const Bench& bench, std::span<const float> parameters) {
  worker::StepPrograms programs(bench.model, parameters, {.seed = kSeed});
  double flops = 0.0;
  for (int slot = 0; slot < bench.microbatches; ++slot) {
    const bsp::SampleRange range =
        bsp::samples_of_slot(slot, checked_cast<int>(bench.microbatches), bench.global_batch);
    flops += programs.training_flops(range.end - range.begin);
  }
  return flops;
}

StepSplit mean_split(bsp::World& world, const StepSplit& sums, double update, std::int64_t steps) {
  const double one = 1.0 / static_cast<double>(steps);
  const std::array<double, 6> mine{
      sums.total * one, sums.compute * one, sums.input_wait * one, sums.exchange * one,
      update,           sums.sync * one};
  std::array<double, 6> all{};
  world.allreduce(std::span<const double>(mine), std::span<double>(all), bsp::ReduceOp::kSum);
  for (double& value : all) {
    value /= world.size();
  }
  const double rule = std::min(all[4], all[3]);  // of a pass this short it is all
  return {.total = all[0],
          .compute = all[1],
          .input_wait = all[2],
          .exchange = all[3] - rule,
          .update = rule,
          .sync = all[5]};
}

void bench_on_rank(bsp::World& world, const Bench& bench, const bsp::Environment& environment) {
  kernels::set_team_size(1);
  require_same_program(world, environment.mpi_library());
  world.require_same("arguments", fmt::format("{} {} {} {} {}", bench.arguments.model,
                                              bench.arguments.batch, bench.arguments.steps,
                                              bench.microbatches, bench.arguments.precision));
  paramserver::CollocatedOptions server_options;
  server_options.optimizer = optimizer();
  server_options.num_slots = checked_cast<int>(bench.microbatches);
  paramserver::CollocatedServer server(world, bench.model.layout(), server_options);
  AlignedBuffer<float> parameters(bench.model.layout().size());
  bench.model.initialize(kSeed, parameters.span());
  server.load_parameters(parameters.span());
  double peak = kernels::multiply_add_peak(kPeakDuration);
  StepMeter meter;
  worker::Trainer trainer(world, bench.model, server, train_options(bench), &meter);
  trainer.fit({.train = bench.data, .validation = nullptr, .test = nullptr});
  peak = std::max(peak, kernels::multiply_add_peak(kPeakDuration));
  BenchReport report;
  report.model = bench.arguments.model;
  report.precision = bench.arguments.precision;
  report.num_parameters = bench.model.layout().num_parameters();
  report.batch_per_rank = bench.arguments.batch;
  report.microbatches = bench.microbatches;
  report.steps = bench.arguments.steps;
  report.world = shape_of(world);
  report.seconds = world.allreduce(meter.seconds(), bsp::ReduceOp::kMax);
  report.peak_flops_per_core = world.allreduce(peak, bsp::ReduceOp::kSum) / world.size();
  report.split = mean_split(world, meter.split(), measure_update(world, bench.model.layout()),
                            bench.arguments.steps);
  if (environment.is_root_process() && world.lane() == 0) {
    report.flops_per_step = flops_per_step(bench, server.pull().buffer());
    if (bench.arguments.profile) {
      report.ops = profile(bench, server.pull().buffer());
    }
    fmt::print("{}", bench.arguments.json ? to_json(report) : to_text(report));
  }
}

}  // namespace

Work prepare_bench(bsp::Environment& environment, const BenchArguments& arguments) {
  auto bench = std::make_shared<Bench>();
  bench->arguments = arguments;
  const std::int64_t ranks = std::int64_t{environment.num_processes()} * arguments.lanes;
  bench->global_batch = arguments.batch * ranks;
  bench->microbatches = arguments.microbatches == 0 ? ranks : arguments.microbatches;
  if (bench->microbatches < ranks || bench->microbatches > bench->global_batch) {
    throw InvalidArgument(
        "bench", fmt::format("--microbatches: got {}, expected at least the number of ranks, {}, "
                             "and at most the global batch, {} ({} per rank)",
                             bench->microbatches, ranks, bench->global_batch, arguments.batch));
  }
  bench->model = model_of(arguments.model);
  const std::int64_t batches =
      (std::max(kLeastSamples, bench->global_batch) + bench->global_batch - 1) /
      bench->global_batch;
  bench->data = worker::synthetic_dataset({.num_samples = batches * bench->global_batch,
                                           .sample_shape = bench->model.sample_shape(),
                                           .num_classes = kNumClasses,
                                           .seed = kSeed});
  bsp::EnvironmentOptions options;
  options.lanes = arguments.lanes;
  return [bench, options, &environment] {
    return environment.run(options,
                           [&](bsp::World& world) { bench_on_rank(world, *bench, environment); });
  };
}

}  // namespace superstep::cluster
