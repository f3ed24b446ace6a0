// The commands of the program, each in a file of its own.
//
// A command is prepared first: reading and checking everything it needs, in every process, without
// communication. Preparing throws one of the project's errors; the processes then agree whether all
// are ready (program.cpp), and only then the returned work runs. Its result is the process's exit
// code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bsp/environment.h"
#include "cluster/command_line.h"

namespace superstep::cluster {

using Work = std::function<int()>;

// `environment` must remain valid until the work is done. `command` is the program with its
// arguments as it was started; never empty.
Work prepare_train(bsp::Environment& environment, const TrainArguments& arguments,
                   const std::vector<std::string>& command);
Work prepare_federated(bsp::Environment& environment, const FederatedArguments& arguments,
                       const std::vector<std::string>& command);
Work prepare_evaluate(bsp::Environment& environment, const EvaluateArguments& arguments);
// Without mpirun: it starts one.
Work prepare_launch(const bsp::Environment& environment, const LaunchArguments& arguments,
                    const std::string& command_line);
Work prepare_estimator(bsp::Environment& environment, const EstimatorArguments& arguments);
Work prepare_bench(bsp::Environment& environment, const BenchArguments& arguments);
// The following run in the root process alone.
Work prepare_partition(const PartitionArguments& arguments);
Work prepare_predict(const PredictArguments& arguments);
Work prepare_inspect(const InspectArguments& arguments);
Work prepare_export(const ExportArguments& arguments);

}  // namespace superstep::cluster
