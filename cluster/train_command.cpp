#include <memory>
#include <string>
#include <vector>

#include "cluster/commands.h"
#include "cluster/launcher_check.h"
#include "cluster/train_run.h"

namespace superstep::cluster {

Work prepare_train(bsp::Environment& environment, const TrainArguments& arguments,
                   const std::vector<std::string>& command) {
  require_known_launcher(environment);
  auto run = std::make_shared<TrainRun>(environment, arguments, command);
  return [run] { return run->execute(); };
}

}  // namespace superstep::cluster
