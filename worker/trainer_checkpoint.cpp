#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/version.h"
#include "paramserver/checkpoint_files.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

namespace {

// What the trainer remembers besides parameters, optimizer state and position.
std::map<std::string, double> remembered(const EpochTotals& totals, const BestEpoch& best) {
  return {
      {"epoch.num_samples", static_cast<double>(totals.sums.num_samples)},
      {"epoch.num_correct", static_cast<double>(totals.sums.num_correct)},
      {"epoch.loss_sum", totals.sums.loss_sum},
      {"best.epoch", static_cast<double>(best.epoch)},
      {"best.superstep", static_cast<double>(best.superstep)},
      {"best.accuracy", best.accuracy},
      {"best.loss", best.loss},
      {"best.epochs_without_improvement", static_cast<double>(best.epochs_without_improvement)}};
}

double number(const paramserver::Manifest& manifest, const std::string& name) {
  const auto found = manifest.numbers.find(name);
  SUPERSTEP_CHECK(found != manifest.numbers.end(), "checkpoint has no number", name);
  return found->second;
}

}  // namespace

bool Trainer::State::checkpoint_due() const {
  const bool epoch_ended = position.step_in_epoch == 0;
  const std::int64_t every = options.checkpoint.every_supersteps;
  const bool best_now =
      options.checkpoint.keep_best && epoch_ended && best.superstep == position.superstep;
  return best_now || (every > 0 ? position.superstep % every == 0 : epoch_ended);
}

paramserver::Manifest Trainer::State::manifest() const {
  paramserver::Manifest manifest;
  manifest.run_id = options.checkpoint.run_id;
  manifest.program_version = std::string(kVersion);
  manifest.model_description = model.layout().describe();
  manifest.configuration = options.checkpoint.configuration;
  manifest.optimizer = server.optimizer();
  manifest.position = position;
  manifest.numbers = remembered(totals, best);
  numbers.save(manifest.numbers);
  manifest.numbers["update_step"] = static_cast<double>(server.step());
  return manifest;
}

// Nothing happens without a checkpoint directory; one that was begun at this superstep is not begun
// again.
void Trainer::State::save(SaveUntil until) {
  if (options.checkpoint.directory.empty()) {
    return;
  }
  if (saved_at != position.superstep) {
    while (writer.is_in_work()) {
      advance_save();
    }
    begin_save(until);
  }
  while (until == SaveUntil::kWritten && writer.is_in_work()) {
    advance_save();
  }
}

// What the server holds, and what the policy needs to go on.
std::vector<paramserver::ArrayPart> Trainer::State::parts(
    paramserver::CollocatedServer::Verified verified) {
  std::vector<paramserver::ArrayPart> all = server.parts(verified);
  const auto add = [&](std::vector<paramserver::ArrayPart> more) {
    all.insert(all.end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
  };
  if (versions.has_value() && policy != nullptr) {
    versions->keep(policy->versions_needed(), position.superstep, server.pull().buffer());
    add(versions->parts());
  }
  if (own_models != nullptr) {
    add(own_models->parts());
  }
  if (replicas != nullptr) {
    add(replicas->parts());
  }
  return all;
}

// Before the first superstep, so that no checkpoint has to wait for memory.
void Trainer::State::reserve_copies() {
  if (options.checkpoint.asynchronous && !options.checkpoint.directory.empty()) {
    writer.reserve(parts(), published());
  }
}

paramserver::PublishedParameters Trainer::State::published() {
  return {.layout = &model.layout(), .values = server.pull().buffer()};
}

void Trainer::State::begin_save(SaveUntil until) {
  const Stopwatch watch;
  world.set_phase("checkpoint");
  SUPERSTEP_FAILPOINT_HERE(world.rank(), position.superstep);
  SUPERSTEP_FAILPOINT("checkpoint.begin");
  using paramserver::CheckpointWriter;
  using Verified = paramserver::CollocatedServer::Verified;
  const bool goes_on = until == SaveUntil::kBegun;
  const std::vector<paramserver::ArrayPart> all =
      parts(goes_on ? Verified::kByItsHashes : Verified::kNow);
  const auto run = goes_on ? CheckpointWriter::Run::kInBackground : CheckpointWriter::Run::kHere;
  const int keep = std::max(1, options.checkpoint.keep);
  writer.begin(
      run, options.checkpoint.directory, manifest(), all,
      [this, keep, pinned = best_directory(), newest = position.superstep] {
        SUPERSTEP_FAILPOINT("checkpoint.verified");
        paramserver::prune_checkpoints(options.checkpoint.directory, keep, pinned, newest);
      },
      {.directory = options.checkpoint.partner_directory, .keep = keep, .pinned = best_directory()},
      published());
  saved_at = position.superstep;
  world.set_phase("compute");
  save_seconds = watch.seconds();
  unrecorded_seconds += watch.seconds();
}

void Trainer::State::advance_save() {
  const Stopwatch watch;
  world.set_phase("checkpoint");
  const std::optional<paramserver::WrittenCheckpoint> written = writer.advance();
  if (written.has_value()) {
    last_checkpoint = written->directory;
    saved_state_hash = written->state_hash;
    saved_parameters = {.superstep = written->superstep, .hash = written->parameters_hash};
    SUPERSTEP_FAILPOINT("checkpoint.end");
  }
  world.set_phase("compute");
  save_seconds += watch.seconds();
  unrecorded_seconds += watch.seconds();
  if (written.has_value() && observer != nullptr) {
    observer->on_checkpoint(last_checkpoint, written->superstep, save_seconds);
  }
}

// Nothing was written to the parameters since they were saved.
void Trainer::State::require_as_saved(const Hash128& hash) const {
  if (saved_parameters.superstep == position.superstep && saved_parameters.hash != hash) {
    throw DataError("Trainer", fmt::format("memory of {}", world.host_of(world.rank())), -1,
                    fmt::format("rank {}: parameters changed since they were saved at superstep "
                                "{}, where nobody wrote: got {}, expected {}. Suspect the memory "
                                "of this machine; the checkpoint is right",
                                world.rank(), position.superstep, to_text(hash),
                                to_text(saved_parameters.hash)),
                    ExitCode::kCorruption);
  }
}

// Of the best epoch; empty when it need not be kept.
std::vector<std::filesystem::path> Trainer::State::best_directory() const {
  if (!options.checkpoint.keep_best || best.superstep < 0) {
    return {};
  }
  return {options.checkpoint.directory / paramserver::step_directory_name(best.superstep)};
}

void Trainer::restore(const paramserver::CheckpointReader& reader) {
  State& state = *state_;
  const paramserver::Manifest& manifest = reader.manifest();
  SUPERSTEP_FAILPOINT_HERE(state.world.rank(), manifest.position.superstep);
  SUPERSTEP_FAILPOINT("restore");
  state.server.restore(reader, static_cast<std::int64_t>(number(manifest, "update_step")));
  state.position = manifest.position;
  state.numbers.restore(manifest.numbers);
  state.restore_policy(reader);
  state.totals.sums = {
      .num_samples = static_cast<std::int64_t>(number(manifest, "epoch.num_samples")),
      .num_correct = static_cast<std::int64_t>(number(manifest, "epoch.num_correct")),
      .loss_sum = number(manifest, "epoch.loss_sum")};
  state.best = {.epoch = static_cast<std::int64_t>(number(manifest, "best.epoch")),
                .superstep = static_cast<std::int64_t>(number(manifest, "best.superstep")),
                .accuracy = number(manifest, "best.accuracy"),
                .loss = number(manifest, "best.loss"),
                .epochs_without_improvement =
                    static_cast<std::int64_t>(number(manifest, "best.epochs_without_improvement"))};
  state.last_checkpoint = reader.directory();
  state.saved_at = manifest.position.superstep;
  state.saved_state_hash = manifest.state_hash;
  state.saved_parameters = {.superstep = manifest.position.superstep,
                            .hash = manifest.parameters_hash};
  reader.require_parameters_hash(
      state.model.layout().parameters_hash(state.server.pull().buffer()));
}

std::filesystem::path Trainer::save_checkpoint() {
  state_->save(State::SaveUntil::kWritten);
  return state_->last_checkpoint;
}

}  // namespace superstep::worker
