#include <memory>

#include "cluster/commands.h"
#include "cluster/launcher_check.h"
#include "cluster/train_run.h"

namespace superstep::cluster {

Work prepare_train(bsp::Environment& environment, const TrainArguments& arguments,
                   const std::string& command_line) {
  require_known_launcher(environment);
  auto run = std::make_shared<TrainRun>(environment, arguments, command_line);
  return [run] { return run->execute(); };
}

}  // namespace superstep::cluster
