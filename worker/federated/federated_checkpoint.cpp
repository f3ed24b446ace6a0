#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/version.h"
#include "worker/federated/federated_state.h"

namespace superstep::worker {

namespace {

using Clock = std::chrono::steady_clock;

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
  manifest.texts = {{"algorithm", std::string(name_of(options.algorithm.kind))}};
  save_clock(manifest);
  manifest.parameters_hash = model.layout().parameters_hash(server.pull().buffer());
  return manifest;
}

// Nothing happens without a checkpoint directory, or when this round is already saved.
void FederatedTrainer::State::save() {
  if (options.checkpoint.directory.empty() || saved_at == rounds_done) {
    return;
  }
  const Clock::time_point start = Clock::now();
  world.set_phase("checkpoint");
  for (std::optional<ClientStore>* states : {&store, &errors}) {
    if (*states) {
      (*states)->flush();
    }
  }
  std::vector<paramserver::ArrayPart> parts = server.parts();
  if (versions) {
    const std::vector<paramserver::ArrayPart> older = versions->parts();
    parts.insert(parts.end(), older.begin(), older.end());
  }
  const paramserver::WrittenCheckpoint written =
      paramserver::write_checkpoint(world, options.checkpoint.directory, manifest(), parts);
  last_checkpoint = written.directory;
  saved_at = rounds_done;
  saved_state_hash = written.state_hash;
  if (world.rank() == 0) {
    paramserver::prune_checkpoints(options.checkpoint.directory,
                                   std::max(1, options.checkpoint.keep), {});
  }
  world.sync();  // before anybody looks which ones are left
  if (store || errors) {
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
  world.set_phase("compute");
  if (observer != nullptr) {
    observer->on_checkpoint(last_checkpoint, rounds_done,
                            std::chrono::duration<double>(Clock::now() - start).count());
  }
}

void FederatedTrainer::State::restore(const paramserver::CheckpointReader& reader) {
  const paramserver::Manifest& manifest = reader.manifest();
  server.restore(reader);
  rounds_done = manifest.position.superstep;
  best_accuracy = number(manifest, "best.accuracy");
  best_round = static_cast<std::int64_t>(number(manifest, "best.round"));
  if (privacy) {
    privacy->set_clip(number(manifest, "privacy.clip"));
    privacy->account(rounds_done);
  }
  restore_clock(reader);
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
