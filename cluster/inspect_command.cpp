// Says what a path is, after verifying it.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
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

std::string run_text(const RunDirectory& run) {
  const RunConfig config = run.read_config();
  const Provenance provenance = read_provenance(run.provenance());
  std::string text = fmt::format(
      "{}: a run\n  run {}, started {} time{}\n  model {}, optimizer {}\n", run.root().string(),
      provenance.run_id, provenance.starts.size(), provenance.starts.size() == 1 ? "" : "s",
      config.model.preset.empty() ? "of layers" : config.model.preset, config.optimizer.kind);
  for (const fs::path& directory : paramserver::list_checkpoints(run.checkpoints())) {
    const paramserver::CheckpointReader reader(directory);
    reader.verify();
    text += fmt::format("  {}: verified, parameters_hash={}\n", directory.filename().string(),
                        to_text(reader.manifest().parameters_hash));
  }
  text += fs::exists(run.summary()) ? "  summary.json: the run has ended\n"
                                    : "  no summary.json: the run is training or was killed\n";
  return text;
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

std::string directory_text(const fs::path& path) {
  if (fs::exists(RunDirectory(path).config())) {
    return run_text(RunDirectory(path));
  }
  if (fs::exists(path / "MANIFEST")) {
    return checkpoint_text(path);
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    if (entry.path().filename().string().find("-idx3-ubyte") != std::string::npos) {
      const worker::LabelledData data = worker::idx_directory(path.string(), 256);
      return fmt::format("{}: an IDX data set\n  train: {}\n  test: {}\n", path.string(),
                         data.train->fingerprint(), data.test->fingerprint());
    }
  }
  throw InvalidArgument(
      "inspect",
      fmt::format("{} is neither a run, a checkpoint nor an IDX data set", path.string()));
}

std::string description(const fs::path& path) {
  if (!fs::exists(path)) {
    throw InvalidArgument("inspect", fmt::format("{}: no such file or directory", path.string()));
  }
  if (fs::is_directory(path)) {
    return directory_text(path);
  }
  if (path.filename() == "MANIFEST") {
    return checkpoint_text(path.parent_path());
  }
  if (path.extension() == ".toml") {
    return config_text(path);
  }
  return path.extension() == ".npz" ? npz_text(path) : idx_text(path);
}

}  // namespace

Work prepare_inspect(const InspectArguments& arguments) {
  return [text = description(arguments.path)] {
    fmt::print("{}", text);
    return 0;
  };
}

}  // namespace superstep::cluster
