#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <system_error>
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

// Of the cohorts of a private run.
std::uint64_t sampling_key(const paramserver::Manifest& manifest) {
  const auto found = manifest.texts.find("privacy.sampling_key");
  SUPERSTEP_CHECK(found != manifest.texts.end(), "checkpoint has no key of private sampling");
  const std::string& text = found->second;
  std::uint64_t key = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), key, 16);
  SUPERSTEP_CHECK(error == std::errc() && end == text.data() + text.size(),
                  "key of private sampling", text);
  return key;
}

}  // namespace

// Of all rounds since the run began, with the name that a manifest gives them.
std::array<std::pair<std::string, std::int64_t*>, 5> FederatedTrainer::State::counters() {
  return {{{"count.client_rounds", &client_rounds},
           {"count.rejected", &rejected},
           {"count.rounds_without_effect", &rounds_without_effect},
           {"count.upload_bytes", &upload_bytes},
           {"count.download_bytes", &download_bytes}}};
}

bool FederatedTrainer::State::checkpoint_due() const {
  const std::int64_t every = options.checkpoint.every_supersteps;
  return every > 0 && rounds_done % every == 0;
}

paramserver::Manifest FederatedTrainer::State::manifest() {
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
  for (const auto& [name, count] : counters()) {
    manifest.numbers[name] = static_cast<double>(*count);
  }
  if (privacy) {
    manifest.numbers["privacy.clip"] = privacy->clip();
    manifest.numbers["privacy.rounds"] = static_cast<double>(privacy->executed_rounds());
  }
  if (norms) {
    manifest.numbers["norms.zeroing"] = norms->zeroing_quantile().estimate();
    manifest.numbers["norms.clipping"] = norms->clipping_quantile().estimate();
  }
  manifest.texts = {{"algorithm", std::string(name_of(options.algorithm.kind))},
                    {kClientsText, fingerprint_of_clients()}};
  if (privacy && options.privacy.noise_source == NoiseSource::kSystem) {
    manifest.texts["privacy.sampling_key"] = fmt::format("{:016x}", sampling.seed);
  }
  for (const ClientStore* states : client_stores()) {
    manifest.texts["clients." + states->name()] = states->describe();
  }
  save_clock(manifest);
  return manifest;
}

std::vector<ClientStore*> FederatedTrainer::State::client_stores() {
  std::vector<ClientStore*> stores;
  for (std::optional<ClientStore>* states : {&store, &errors}) {
    if (*states) {
      stores.push_back(&**states);
    }
  }
  if (personal && personal->states() != nullptr) {
    stores.push_back(personal->states());
  }
  return stores;
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
  for (ClientStore* states : client_stores()) {
    flushes.push_back(states->take_unflushed());
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
  std::vector<paramserver::ArrayPart> parts = server.parts();
  if (versions) {
    const std::vector<paramserver::ArrayPart> older = versions->parts();
    parts.insert(parts.end(), older.begin(), older.end());
  }
  note_checkpoint(parts);
  writer.begin(
      here ? Run::kHere : Run::kInBackground, options.checkpoint.directory, manifest(), parts,
      [directory = options.checkpoint.directory, keep = std::max(1, options.checkpoint.keep),
       newest = rounds_done] { paramserver::prune_checkpoints(directory, keep, {}, newest); },
      {}, {.layout = &model.layout(), .values = server.pull().buffer()});
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
  if (client_stores().empty()) {
    return;
  }
  const auto kept = paramserver::list_checkpoints(options.checkpoint.directory);
  SUPERSTEP_CHECK(!kept.empty(), "checkpoints after one was written");
  const std::int64_t oldest =
      paramserver::CheckpointReader(kept.front()).manifest().position.superstep;
  for (ClientStore* states : client_stores()) {
    states->prune(oldest, world.rank(), world.size());
  }
}

std::string FederatedTrainer::State::fingerprint_of_clients() const {
  return clients->fingerprint() + fingerprint(options.device);
}

// Clients whose data lie at sites are known to no file that is read before.
void FederatedTrainer::State::require_same_clients(
    const paramserver::CheckpointReader& reader) const {
  const auto found = reader.manifest().texts.find(kClientsText);
  if (found != reader.manifest().texts.end() && found->second != fingerprint_of_clients()) {
    throw DataError("FederatedTrainer", reader.directory().string(), -1,
                    fmt::format("the checkpoint is of other clients or data: got \"{}\", expected "
                                "\"{}\"",
                                fingerprint_of_clients(), found->second));
  }
}

void FederatedTrainer::State::restore(const paramserver::CheckpointReader& reader) {
  const paramserver::Manifest& manifest = reader.manifest();
  require_same_clients(reader);
  server.restore(reader);
  rounds_done = manifest.position.superstep;
  best_accuracy = number(manifest, "best.accuracy");
  best_round = static_cast<std::int64_t>(number(manifest, "best.round"));
  for (const auto& [name, count] : counters()) {
    const auto found = manifest.numbers.find(name);
    *count = found == manifest.numbers.end() ? 0 : static_cast<std::int64_t>(found->second);
  }
  client_rounds_before = client_rounds;
  if (privacy) {
    privacy->set_clip(number(manifest, "privacy.clip"));
    const auto executed = static_cast<std::int64_t>(number(manifest, "privacy.rounds"));
    privacy->account(std::max<std::int64_t>(0, executed - privacy->executed_rounds()));
    if (options.privacy.noise_source == NoiseSource::kSystem) {
      sampling.seed = sampling_key(manifest);
    }
  }
  if (norms) {
    norms->zeroing_quantile().set_estimate(number(manifest, "norms.zeroing"));
    norms->clipping_quantile().set_estimate(number(manifest, "norms.clipping"));
  }
  restore_clock(reader);
  if (store) {
    store.emplace(options.client_store / "states", model.layout().size(), rounds_done);
  }
  if (errors) {
    errors.emplace(options.client_store / "errors", model.layout().size(), rounds_done);
  }
  if (personal) {
    personal->restore(rounds_done);
  }
  for (const ClientStore* states : client_stores()) {
    const auto said = manifest.texts.find("clients." + states->name());
    if (said != manifest.texts.end()) {
      states->require_contents(said->second);
    }
  }
  last_checkpoint = reader.directory();
  saved_at = rounds_done;
  saved_state_hash = manifest.state_hash;
  reader.require_parameters_hash(model.layout().parameters_hash(server.pull().buffer()));
}

void FederatedTrainer::restore(const paramserver::CheckpointReader& reader) {
  state_->restore(reader);
}

}  // namespace superstep::worker
