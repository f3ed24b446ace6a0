#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/hash.h"
#include "cluster/commands.h"
#include "cluster/output_file.h"
#include "cluster/run_model.h"
#include "paramserver/npz.h"

namespace superstep::cluster {

Work prepare_export(const ExportArguments& arguments) {
  const RunDirectory directory(arguments.run_directory);
  const std::filesystem::path output = arguments.output.empty()
                                           ? directory.root() / "parameters.npz"
                                           : std::filesystem::path(arguments.output);
  require_output("export", "--output", output, if_exists(arguments.force));
  auto run = std::make_shared<RunModel>(load_run_model(directory, arguments.checkpoint));
  return [run, output] {
    paramserver::write_npz(output, run->model.layout(), run->parameters.span());
    fmt::print("{}: {} parameters of superstep {}, parameters_hash={}\n", output.string(),
               run->model.layout().num_parameters(), run->manifest.position.superstep,
               to_text(run->manifest.parameters_hash));
    return 0;
  };
}

}  // namespace superstep::cluster
