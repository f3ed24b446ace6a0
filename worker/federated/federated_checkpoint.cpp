#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

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
  manifest.texts = {{"algorithm", std::string(name_of(options.algorithm.kind))}};
  if (privacy && options.privacy.noise_source == NoiseSource::kSystem) {
    manifest.texts["privacy.sampling_key"] = fmt::format("{:016x}", sampling.seed);
  }
  for (const ClientStore* states : client_stores()) {
    manifest.texts["clients." + states->name()] = states->describe();
  }
  manifest.parameters_hash = model.layout().parameters_hash(server.pull().buffer());
  return manifest;
}

std::vector<ClientStore*> FederatedTrainer::State::client_stores() {
  std::vector<ClientStore*> stores;
  for (std::optional<ClientStore>* states : {&store, &errors}) {
    if (*states) {
      stores.push_back(&**states);
    }
  }
  return stores;
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
  const std::vector<paramserver::ArrayPart> parts = server.parts();
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
  if (store) {
    store.emplace(options.client_store / "states", model.layout().size(), rounds_done);
  }
  if (errors) {
    errors.emplace(options.client_store / "errors", model.layout().size(), rounds_done);
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
