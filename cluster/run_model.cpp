#include "cluster/run_model.h"

#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "cluster/setup.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void throw_no_checkpoint(const RunDirectory& run, const std::string& what) {
  throw DataError("checkpoint", run.checkpoints().string(), -1, what, ExitCode::kBadCheckpoint);
}

// nullopt when nothing was saved; an error when something was and all of it is damaged.
std::optional<fs::path> newest_checkpoint_of(const RunDirectory& run,
                                             const paramserver::ParameterLayout* layout = nullptr) {
  std::vector<std::string> problems;
  std::optional<fs::path> newest =
      paramserver::newest_verified_checkpoint(run.checkpoints(), &problems, layout);
  for (const std::string& problem : problems) {
    fmt::print(stderr, "superstep: skipped a checkpoint: {}\n", problem);
  }
  if (!newest && !problems.empty()) {
    throw_no_checkpoint(run, "every checkpoint here is damaged");
  }
  return newest;
}

fs::path required_checkpoint_of(const RunDirectory& run) {
  const std::optional<fs::path> newest = newest_checkpoint_of(run);
  if (!newest) {
    throw_no_checkpoint(run, "no checkpoint here");
  }
  return *newest;
}

void require_of_run(const paramserver::CheckpointReader& reader, const Provenance& provenance) {
  const std::string& found = reader.manifest().run_id;
  if (found != provenance.run_id) {
    throw DataError("checkpoint", reader.directory().string(), -1,
                    fmt::format("this is a checkpoint of another run: got run {}, expected run {}",
                                found, provenance.run_id),
                    ExitCode::kBadCheckpoint);
  }
}

AlignedBuffer<float> read_parameters(const paramserver::CheckpointReader& reader,
                                     const worker::Model& model) {
  AlignedBuffer<float> parameters(model.layout().size());
  reader.read("parameters", {0, model.layout().size()}, parameters.span());
  reader.require_parameters_hash(model.layout().parameters_hash(parameters.span()));
  return parameters;
}

}  // namespace

RunModel load_run_model(const RunDirectory& run, const fs::path& chosen) {
  run.require_run();
  RunModel result;
  result.config = run.read_config();
  result.provenance = read_provenance(run.provenance());
  result.checkpoint = chosen.empty() ? required_checkpoint_of(run) : chosen;
  const paramserver::CheckpointReader reader(result.checkpoint);
  require_of_run(reader, result.provenance);
  result.model = build_model(result.config, kernels::Shape(result.provenance.sample_shape));
  reader.require_model(result.model.layout());
  result.manifest = reader.manifest();
  result.parameters = read_parameters(reader, result.model);
  return result;
}

std::optional<fs::path> checkpoint_to_resume(const RunDirectory& run, const Provenance& provenance,
                                             const worker::Model& model) {
  const std::optional<fs::path> newest = newest_checkpoint_of(run, &model.layout());
  if (!newest) {
    return std::nullopt;
  }
  const paramserver::CheckpointReader reader(*newest);
  require_of_run(reader, provenance);
  reader.require_model(model.layout());
  return reader.directory();
}

}  // namespace superstep::cluster
