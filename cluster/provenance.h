// provenance.json: what made a run. The program, its libraries, the data, and every start with its
// ranks and machines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/dataset.h"

namespace superstep::cluster {

struct Start {
  std::string time;  // UTC
  std::string command_line;
  int ranks = 1;
  int processes = 1;
  int lanes = 1;
  std::vector<std::string> hosts;  // distinct, in rank order
  std::int64_t from_superstep = 0;
  std::string precision = "float32";  // train.precision; files without it are of such runs
};

struct Provenance {
  std::string run_id;
  std::string data_fingerprint;
  worker::Normalization normalization;     // what inputs of this model go through
  std::vector<std::int64_t> sample_shape;  // and their shape
  std::vector<Start> starts;
};

// Time and process, so that two runs hardly share one.
std::string new_run_id();

// Writes the file with what this program is (version, commit, compiler, instruction set,
// libraries).
void write_provenance(const std::filesystem::path& file, const Provenance& provenance);
// Throws DataError (exit code 4) when the file is missing or damaged.
Provenance read_provenance(const std::filesystem::path& file);
// The same for its text.
Provenance parse_provenance(std::string_view text, const std::filesystem::path& file);

}  // namespace superstep::cluster
