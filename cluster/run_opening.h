// The beginning of a run on disk: a new run directory, or one that is continued.
//
// The root process looks before anything is computed (constructor), the ranks agree on what it
// found (agree), and the root rank makes the directory when nothing can fail any more (open).
// Shared by the commands that leave a run behind.
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bsp/environment.h"
#include "bsp/world.h"
#include "cluster/command_line.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
#include "cluster/setup.h"

namespace superstep::cluster {

// Reads the configuration of a run with the overrides of its command line; throws InvalidArgument
// for what is wrong with it.
ParsedConfig parse_arguments(const TrainArguments& arguments);

// How this run was started; `program` as it was typed.
Launch launch_of(const bsp::Environment& environment, const std::string& program);

class RunOpening {
 public:
  // What the root process decides and every rank is told.
  struct Decisions {
    RunDirectory directory;
    std::string run_id;
    std::filesystem::path checkpoint;  // to continue from; empty: from the start
  };

  // `fingerprint` is that of the data, compared when a run is continued. `setup` must outlive this.
  // Throws one of the project's errors.
  RunOpening(const bsp::Environment& environment, const TrainArguments& arguments,
             const RunSetup& setup, const std::string& fingerprint, const Launch& launch);

  bool is_root_rank(const bsp::World& world) const;
  // Collective. First restores, from partner copies, a checkpoint of a resumed run that is newer
  // than all that the run has whole (paramserver/partner_restore.h), and says so on standard error.
  Decisions agree(bsp::World& world);
  // On the root rank: from here on the run exists on disk.
  void open(const bsp::World& world, const RunConfig& config, const std::string& command_line);

  // Of the root process; the others learn them in agree().
  const RunDirectory& directory() const { return directory_; }
  const std::string& run_id() const { return provenance_.run_id; }
  const std::filesystem::path& checkpoint() const { return checkpoint_; }
  std::int64_t resume_superstep() const { return resume_superstep_; }  // -1: not resumed
  // About what the resumed run computes, for the user.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void choose_new_directory(const TrainArguments& arguments, const RunSetup& setup,
                            const std::string& fingerprint, const Launch& launch);
  void prepare_resume(const TrainArguments& arguments, const RunSetup& setup,
                      const std::string& fingerprint);
  void choose_checkpoint();
  void restore_from_partners(bsp::World& world, const RunDirectory& directory,
                             const std::string& run_id);

  bool is_root_process_;
  const RunSetup& setup_;
  bool is_resumed_;
  RunDirectory directory_{{}};
  Provenance provenance_;
  std::filesystem::path checkpoint_;
  std::int64_t resume_superstep_ = -1;
  std::exception_ptr no_checkpoint_;  // why none can be resumed from, unless a partner has one
  std::vector<std::string> warnings_;
  std::optional<RunLock> lock_;
};

}  // namespace superstep::cluster
