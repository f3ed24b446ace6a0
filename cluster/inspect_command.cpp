// Says what a path is, after verifying it.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "cluster/commands.h"
#include "cluster/config_reader.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
#include "paramserver/checkpoint.h"
#include "paramserver/npz.h"
#include "worker/data/dataset.h"
#include "worker/data/idx.h"

namespace superstep::cluster {

namespace {

namespace fs = std::filesystem;

struct Description {
  std::string text;
  ExitCode exit_code = ExitCode::kDone;
};

std::string checkpoint_text(const fs::path& directory) {
  const paramserver::CheckpointReader reader(directory);
  reader.verify();
  const paramserver::Manifest& manifest = reader.manifest();
  std::string text = fmt::format(
      "{}: a checkpoint, every byte verified\n"
      "  run {}, written by superstep {}\n"
      "  superstep {}, epoch {}, step {} in the epoch\n"
      "  parameters_hash={}\n  state_hash={}\n",
      directory.string(), manifest.run_id, manifest.program_version, manifest.position.superstep,
      manifest.position.epoch + 1, manifest.position.step_in_epoch,
      to_text(manifest.parameters_hash), to_text(manifest.state_hash));
  for (const paramserver::Manifest::Array& array : manifest.arrays) {
    text += fmt::format("  {}: {} values\n", array.name, grouped(array.num_elements));
  }
  return text + "  model:\n" + manifest.model_description;
}

// One line per checkpoint; `damaged` counts those that cannot be used.
std::string checkpoints_text(const RunDirectory& run, int& damaged) {
  std::string text;
  for (const auto& [directory, problem] : paramserver::examine_checkpoints(run.checkpoints())) {
    const std::string name = directory.filename().string();
    if (problem.empty()) {
      const paramserver::CheckpointReader reader(directory);
      text += fmt::format("  {}: verified, parameters_hash={}\n", name,
                          to_text(reader.manifest().parameters_hash));
    } else {
      text += fmt::format("  {}: DAMAGED: {}\n", name, problem);
      ++damaged;
    }
  }
  return text;
}

Description describe_run(const RunDirectory& run) {
  const RunConfig config = run.read_config();
  const Provenance provenance = read_provenance(run.provenance());
  std::string text = fmt::format(
      "{}: a run\n  run {}, started {} time{}\n  model {}, optimizer {}\n", run.root().string(),
      provenance.run_id, provenance.starts.size(), provenance.starts.size() == 1 ? "" : "s",
      config.model.preset.empty() ? "of layers" : config.model.preset, config.optimizer.kind);
  int damaged = 0;
  text += checkpoints_text(run, damaged);
  text += look_at(run.summary()).exists()
              ? "  summary.json: the run has ended\n"
              : "  no summary.json: the run is training or was killed\n";
  return {.text = std::move(text),
          .exit_code = damaged > 0 ? ExitCode::kBadCheckpoint : ExitCode::kDone};
}

std::string sizes_text(const worker::IdxArray& array) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : array.sizes) {
    sizes.push_back(fmt::format("{}", size));
  }
  return join(sizes, " x ");
}

std::string idx_text(const fs::path& file) {
  const bool labels = file.filename().string().find("idx1") != std::string::npos ||
                      file.filename().string().find("labels") != std::string::npos;
  const worker::IdxArray array =
      worker::read_idx(file, labels ? worker::IdxContent::kLabels : worker::IdxContent::kImages);
  const auto [least, most] = std::minmax_element(array.values.begin(), array.values.end());
  return fmt::format("{}: IDX {}, {} bytes, values {} to {}\n", file.string(),
                     labels ? "labels" : "images", sizes_text(array), *least, *most);
}

std::string npz_text(const fs::path& file) {
  const paramserver::NpzReader reader(file);
  std::string text = fmt::format("{}: NumPy arrays, verified\n", file.string());
  for (const std::string& name : reader.names()) {
    text += fmt::format("  {} {}\n", name, reader.read(name).shape.to_string());
  }
  return text;
}

std::string config_text(const fs::path& file) {
  const ParsedConfig parsed = read_config(file);
  return fmt::format("# {}: a valid configuration; resolved:\n{}", file.string(),
                     to_toml(require_valid(parsed)));
}

bool holds_idx_images(const fs::path& path) {
  std::error_code error;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().filename().string().find("-idx3-ubyte") != std::string::npos) {
      return true;
    }
  }
  if (error) {
    throw InvalidArgument("inspect", fmt::format("{}: cannot list the directory: {}", path.string(),
                                                 error.message()));
  }
  return false;
}

std::string idx_directory_text(const fs::path& path) {
  const worker::LabelledData data = worker::idx_directory(path.string(), 256);
  return fmt::format("{}: an IDX data set\n  train: {}\n  test: {}\n", path.string(),
                     data.train->fingerprint(), data.test->fingerprint());
}

Description describe_directory(const fs::path& path) {
  if (look_at(RunDirectory(path).config()).exists()) {
    return describe_run(RunDirectory(path));
  }
  if (look_at(path / "MANIFEST").exists()) {
    return {checkpoint_text(path)};
  }
  if (holds_idx_images(path)) {
    return {idx_directory_text(path)};
  }
  throw InvalidArgument(
      "inspect",
      fmt::format("{} is neither a run, a checkpoint nor an IDX data set", path.string()));
}

std::string file_text(const fs::path& path) {
  if (path.filename() == "MANIFEST") {
    return checkpoint_text(path.parent_path());
  }
  if (path.extension() == ".toml") {
    return config_text(path);
  }
  return path.extension() == ".npz" ? npz_text(path) : idx_text(path);
}

Description describe(const fs::path& path) {
  const PathStatus status = look_at(path);
  if (!status.exists()) {
    throw InvalidArgument("inspect", fmt::format("{}: {}", path.string(), status.problem));
  }
  return status.kind == PathKind::kDirectory ? describe_directory(path)
                                             : Description{file_text(path)};
}

}  // namespace

Work prepare_inspect(const InspectArguments& arguments) {
  return [description = describe(arguments.path)] {
    fmt::print("{}", description.text);
    return static_cast<int>(description.exit_code);
  };
}

}  // namespace superstep::cluster
