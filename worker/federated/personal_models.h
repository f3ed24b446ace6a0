// The personal models of the clients that this rank trains or judges.
//
//   PersonalModels personal(model, clients, local_options, options, directory);
//   local.train(personal.start_of(client, global), client, round, rule);   // as every client
//   personal.take_layers(local.parameters());                              // fedper: out of it,
//   personal.return_layers(global, local.mutable_parameters());            // so no update has them
//   if (accepted) personal.keep(client, round, global);                    // ditto: trains here
//   personal.note(client, round + 1);                                      // on every rank
//   judge.evaluate_at(personal.model_of(client, round, global), client);
//
// A pure function of (global model, client, its state, round), as everything that clients do, so it
// keeps its bits for every number of ranks. The path of the global model is untouched: with ditto
// and fine_tune it has the bits of a run without them. Memory per rank: one model, a second replica
// for what trains (ditto, fine_tune), and one state.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "worker/federated/client_data.h"
#include "worker/federated/client_store.h"
#include "worker/federated/local_trainer.h"
#include "worker/federated/personalization.h"
#include "worker/model.h"

namespace superstep::worker {

class PersonalModels {
 public:
  // `model` must outlive this object. States lie under `root`; those of later rounds than
  // `round` do not count.
  PersonalModels(const Model& model, std::shared_ptr<const ClientData> clients,
                 const LocalOptions& local, const PersonalizationOptions& options,
                 std::filesystem::path root);

  // Where a client begins to train: `global`, for fedper with the client's own layers. Valid until
  // the next call.
  std::span<const float> start_of(std::int64_t client, std::span<const float> global);
  // fedper: remembers the personal layers of a trained model; false when they are not finite.
  bool take_layers(std::span<const float> trained);
  // fedper: puts the global model's layers in their place, so that the update is zero there.
  void return_layers(std::span<const float> global, std::span<float> trained) const;

  enum class Kept : std::uint8_t { kNew, kOld };
  // Writes the client's state of this round. kOld: the personal model of ditto was no longer
  // finite, so the one before stays.
  Kept keep(std::int64_t client, std::int64_t round, std::span<const float> global);
  void note(std::int64_t client, std::int64_t version);

  // The model that serves a client after `round` rounds: valid until the next call. A client
  // without a state is served by the global model.
  std::span<const float> model_of(std::int64_t client, std::int64_t round,
                                  std::span<const float> global);
  bool has_own(std::int64_t client) const;

  // As LocalTrainer's, of the samples that personal models train on.
  void set_sample_watch(LocalTrainer::SampleWatch watch);

  // nullptr where clients have no state.
  ClientStore* states() { return states_ ? &*states_ : nullptr; }
  // States of later rounds no longer count.
  void restore(std::int64_t round);

 private:
  std::span<const float> ditto_model(std::int64_t client, std::span<const float> global);
  std::span<const float> with_own_layers(std::int64_t client, std::span<const float> global);

  std::filesystem::path root_;
  PersonalizationKind kind_;
  float lambda_;
  std::vector<paramserver::LayoutEntry> entries_;  // fedper
  std::int64_t state_elements_ = 0;
  std::optional<ClientStore> states_;
  std::optional<LocalTrainer> trainer_;  // ditto, fine_tune
  AlignedBuffer<float> composed_;        // ditto, fedper: the personal model as a whole
  std::vector<float> layers_;            // fedper: of one client, entry after entry
};

}  // namespace superstep::worker
