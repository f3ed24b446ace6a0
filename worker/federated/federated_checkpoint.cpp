#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/version.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

constexpr const char* kClientsText = "clients";

double number(const paramserver::Manifest& manifest, const std::string& name) {
  const auto found = manifest.numbers.find(name);
  SUPERSTEP_CHECK(found != manifest.numbers.end(), "checkpoint has no number", name);
  return found->second;
}

}  // namespace

bool FederatedTrainer::State::checkpoint_due() const {
  const std::int64_t every = options.checkpoint.every_supersteps;
  return every > 0 && rounds_done % every == 0;
}

paramserver::Manifest FederatedTrainer::State::manifest() const {
  paramserver::Manifest manifest;
  manifest.run_id = options.checkpoint.run_id;
  manifest.program_version = std::string(kVersion);
  manifest.model_description = model.layout().describe();
  manifest.configuration = options.checkpoint.configuration;
  manifest.position = {.superstep = rounds_done,
                       .epoch = rounds_done,
                       .step_in_epoch = 0,
                       .seed = options.local.seed};
  manifest.numbers = {{"best.accuracy", best_accuracy},
                      {"best.round", static_cast<double>(best_round)}};
  if (privacy) {
    manifest.numbers["privacy.clip"] = privacy->clip();
  }
  manifest.texts = {{"algorithm", std::string(name_of(options.algorithm.kind))},
                    {kClientsText, clients->fingerprint()}};
  manifest.parameters_hash = model.layout().parameters_hash(server.pull().buffer());
  return manifest;
}

bool FederatedTrainer::State::is_writing() const {
  return writer.is_busy() ||
         (state_flush.valid() &&
          state_flush.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
}

// Nothing happens without a checkpoint directory; one that was begun after this round is not begun
// again.
void FederatedTrainer::State::save(SaveUntil until) {
  if (options.checkpoint.directory.empty()) {
    return;
  }
  if (saved_at != rounds_done) {
    while (writer.is_in_work()) {
      advance_save();
    }
    begin_save(until);
  }
  while (until == SaveUntil::kWritten && writer.is_in_work()) {
    advance_save();
  }
}

// States of clients are never overwritten, so the ones of this round stay as they are while the
// next rounds write newer ones.
void FederatedTrainer::State::begin_save(SaveUntil until) {
  const Clock::time_point start = Clock::now();
  world.set_phase("checkpoint");
  std::vector<ClientStore::Flush> flushes;
  for (std::optional<ClientStore>* states : {&store, &errors}) {
    if (*states) {
      flushes.push_back((*states)->take_unflushed());
    }
  }
  const bool here = until == SaveUntil::kWritten;
  if (!flushes.empty()) {
    state_flush = std::async(here ? std::launch::deferred : std::launch::async,
                             [flushes = std::move(flushes)] {
                               for (const ClientStore::Flush& flush : flushes) {
                                 flush();
                               }
                             });
  }
  using Run = paramserver::CheckpointWriter::Run;
  const std::vector<paramserver::ArrayPart> parts = server.parts();
  note_checkpoint(parts);
  writer.begin(
      here ? Run::kHere : Run::kInBackground, options.checkpoint.directory, manifest(), parts,
      [directory = options.checkpoint.directory, keep = std::max(1, options.checkpoint.keep)] {
        paramserver::prune_checkpoints(directory, keep, {});
      });
  saved_at = rounds_done;
  world.set_phase("compute");
  save_seconds = to_seconds(Clock::now() - start);
  unrecorded_seconds += save_seconds;
}

// By a rank's first note the states of its clients are durable, and a checkpoint is sealed after
// the notes of all ranks were compared.
void FederatedTrainer::State::advance_save() {
  const Clock::time_point start = Clock::now();
  world.set_phase("checkpoint");
  if (state_flush.valid()) {
    state_flush.get();
  }
  const std::optional<paramserver::WrittenCheckpoint> written = writer.advance();
  if (written.has_value()) {
    last_checkpoint = written->directory;
    saved_state_hash = written->state_hash;
    prune_client_states();
  }
  world.set_phase("compute");
  const double seconds = to_seconds(Clock::now() - start);
  save_seconds += seconds;
  unrecorded_seconds += seconds;
  if (written.has_value() && observer != nullptr) {
    observer->on_checkpoint(last_checkpoint, written->superstep, save_seconds);
  }
}

// Which checkpoints are left is known: rank 0 deleted the others before the last notes.
void FederatedTrainer::State::prune_client_states() {
  if (!store && !errors) {
    return;
  }
  const auto kept = paramserver::list_checkpoints(options.checkpoint.directory);
  SUPERSTEP_CHECK(!kept.empty(), "checkpoints after one was written");
  const std::int64_t oldest =
      paramserver::CheckpointReader(kept.front()).manifest().position.superstep;
  for (std::optional<ClientStore>* states : {&store, &errors}) {
    if (*states) {
      (*states)->prune(oldest, world.rank(), world.size());
    }
  }
}

// Clients whose data lie at sites are known to no file that is read before.
void FederatedTrainer::State::require_same_clients(
    const paramserver::CheckpointReader& reader) const {
  const auto found = reader.manifest().texts.find(kClientsText);
  if (found != reader.manifest().texts.end() && found->second != clients->fingerprint()) {
    throw DataError("FederatedTrainer", reader.directory().string(), -1,
                    fmt::format("the checkpoint is of other clients or data: got \"{}\", expected "
                                "\"{}\"",
                                clients->fingerprint(), found->second));
  }
}

void FederatedTrainer::State::restore(const paramserver::CheckpointReader& reader) {
  const paramserver::Manifest& manifest = reader.manifest();
  require_same_clients(reader);
  server.restore(reader);
  rounds_done = manifest.position.superstep;
  best_accuracy = number(manifest, "best.accuracy");
  best_round = static_cast<std::int64_t>(number(manifest, "best.round"));
  if (privacy) {
    privacy->set_clip(number(manifest, "privacy.clip"));
    privacy->account(rounds_done);
  }
  if (store) {
    store.emplace(options.client_store / "states", model.layout().size(), rounds_done);
  }
  if (errors) {
    errors.emplace(options.client_store / "errors", model.layout().size(), rounds_done);
  }
  last_checkpoint = reader.directory();
  saved_at = rounds_done;
  saved_state_hash = manifest.state_hash;
  const Hash128 hash = model.layout().parameters_hash(server.pull().buffer());
  SUPERSTEP_CHECK(hash == manifest.parameters_hash,
                  "restored parameters differ from the manifest:", to_text(hash),
                  to_text(manifest.parameters_hash));
}

void FederatedTrainer::restore(const paramserver::CheckpointReader& reader) {
  state_->restore(reader);
}

}  // namespace superstep::worker
