#include <memory>

#include "cluster/commands.h"
#include "cluster/federated_run.h"

namespace superstep::cluster {

Work prepare_federated(bsp::Environment& environment, const FederatedArguments& arguments,
                       const std::vector<std::string>& command) {
  auto run = std::make_shared<FederatedRun>(environment, arguments.run, command);
  return [run] { return run->execute(); };
}

}  // namespace superstep::cluster
