// A run's directory: everything a run leaves behind, and everything it needs to go on.
//
//   runs/fashion_mnist_cnn-20260501-093000/
//     config.toml       the resolved configuration, every default included
//     provenance.json   what program on which machines wrote this, one entry per start
//     metrics.jsonl     one line per logged superstep, epoch and checkpoint
//     privacy.jsonl     the ledger of a private federated run, one line per round
//     clients.tsv       of a federated run that judges its clients: one line per client, at the end
//     checkpoints/      paramserver/checkpoint.h
//     summary.json      docs/summary.md; written at the end
//     launch.jsonl      under `superstep launch`: one line per attempt
//     launch/           and how each rank ended (cluster/launch_record.h)
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "cluster/config_reader.h"

namespace superstep::cluster {

// How the user started the program, for messages with a command that can be pasted.
struct Launch {
  std::string program = "superstep";  // as it was typed: a name on the PATH, or a path
  int num_processes = 1;              // 1: without mpirun
  bool oversubscribed = false;        // mpirun refuses more processes than cores unless told so
};

class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path config() const { return root_ / "config.toml"; }
  std::filesystem::path provenance() const { return root_ / "provenance.json"; }
  std::filesystem::path metrics() const { return root_ / "metrics.jsonl"; }
  std::filesystem::path privacy() const { return root_ / "privacy.jsonl"; }
  std::filesystem::path audit() const { return root_ / "audit.jsonl"; }
  std::filesystem::path client_table() const { return root_ / "clients.tsv"; }
  std::filesystem::path checkpoints() const { return root_ / "checkpoints"; }
  std::filesystem::path summary() const { return root_ / "summary.json"; }
  std::filesystem::path launch_log() const { return root_ / "launch.jsonl"; }
  std::filesystem::path launch_records() const { return root_ / "launch"; }

  // Throws InvalidArgument unless the path is free, or an empty directory, or one where a run ended
  // before it began (no configuration yet, no checkpoint); the message holds the command that
  // resumes when a run is there.
  void require_new_or_empty(const Launch& launch) const;
  // Throws InvalidArgument unless a run was started here.
  void require_run() const;
  // The configuration of the run; throws InvalidArgument when it is damaged.
  RunConfig read_config() const;
  // Makes the directories.
  void create() const;

  // The command line that continues this run, started as `launch` was.
  std::string resume_command(const Launch& launch) const;

 private:
  std::filesystem::path root_;
};

// runs/<stem of the configuration's name>-<UTC time>, with -2, -3, ... when that exists.
std::filesystem::path default_run_directory(const std::filesystem::path& config,
                                            std::chrono::system_clock::time_point now);

// Holds the run while it trains, so that two programs never write to one run. The lock ends with
// the process, however it ends.
class RunLock {
 public:
  // Throws InvalidArgument when another process holds the run.
  explicit RunLock(const RunDirectory& run);
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();

 private:
  int file_ = -1;
};

}  // namespace superstep::cluster
