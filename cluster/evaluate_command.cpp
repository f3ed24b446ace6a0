#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "base/hash.h"
#include "cluster/commands.h"
#include "cluster/handshake.h"
#include "cluster/launcher_check.h"
#include "cluster/run_model.h"
#include "cluster/setup.h"
#include "kernels/precision.h"
#include "kernels/threads.h"
#include "worker/evaluator.h"

namespace superstep::cluster {

namespace {

// Shared by the lanes of a process, read-only.
struct Evaluating {
  RunModel run;
  std::shared_ptr<const worker::Dataset> test;
};

// The run's configuration with the data of the command line.
ParsedConfig data_config(const RunModel& run, const EvaluateArguments& arguments) {
  ParsedConfig parsed;
  parsed.config = run.config;
  if (!arguments.data_directory.empty()) {
    parsed.config.data.format = "idx";
    parsed.config.data.directory = arguments.data_directory;
    parsed.places["data.directory"] = "--data";
  }
  return parsed;
}

void evaluate_on_rank(bsp::World& world, const Evaluating& work,
                      const bsp::Environment& environment) {
  kernels::set_team_size(1);
  require_same_program(world, environment.mpi_library());
  world.require_same("checkpoint", to_text(work.run.manifest.state_hash));
  world.require_same("data", work.test->fingerprint());
  worker::StepPrograms programs(
      work.run.model, work.run.parameters.span(),
      {.precision = kernels::precision_named(work.run.config.train.precision)});
  const worker::Evaluation test =
      worker::evaluate(world, programs, *work.test,
                       {.batch = work.run.config.train.evaluation_batch,
                        .normalization = work.run.provenance.normalization});
  if (environment.is_root_process() && world.lane() == 0) {
    fmt::print("{}: superstep {}\n", work.run.checkpoint.string(),
               work.run.manifest.position.superstep);
    fmt::print("evaluation: test_accuracy={:.4f} test_loss={:.4f} samples={} parameters_hash={}\n",
               test.accuracy, test.loss, test.num_samples,
               to_text(work.run.manifest.parameters_hash));
  }
}

}  // namespace

Work prepare_evaluate(bsp::Environment& environment, const EvaluateArguments& arguments) {
  require_known_launcher(environment);
  auto work = std::make_shared<Evaluating>();
  work->run = load_run_model(RunDirectory(arguments.run_directory), arguments.checkpoint);
  work->test = load_test_data(data_config(work->run, arguments));
  const kernels::Shape shape = work->test->sample_shape();
  if (shape != work->run.model.sample_shape()) {
    throw InvalidArgument(
        "evaluate", fmt::format("the data do not fit the model: got samples of {}, "
                                "expected {}",
                                shape.to_string(), work->run.model.sample_shape().to_string()));
  }
  bsp::EnvironmentOptions options = environment_options(work->run.config);
  options.lanes = arguments.lanes.value_or(1);
  return [work, options, &environment] {
    return environment.run(options,
                           [&](bsp::World& world) { evaluate_on_rank(world, *work, environment); });
  };
}

}  // namespace superstep::cluster
