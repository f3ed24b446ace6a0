// Models that belong to clients, beside the global one.
//
//   ditto      the global model as without it; a client of the cohort also trains a model v of its
//              own, which stays with it: v -= rate * (g + lambda * (v - w)), w the model published
//              before the round (Li et al. 2021, algorithm 1)
//   fedper     some layers stay with the client, the others are averaged (Arivazhagan et al. 2019)
//   fine_tune  nothing in training; in evaluations every client trains on from the global model
//
// What stays is the client's state (worker/federated/client_store.h): whole models for ditto, the
// personal entries of the layout for fedper. A client of ditto that takes part for the first time
// begins at the published model, as do the personal layers of fedper, which never change there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "paramserver/layout.h"

namespace superstep::worker {

enum class PersonalizationKind : std::uint8_t { kNone, kDitto, kFedPer, kFineTune };
std::string_view name_of(PersonalizationKind kind);

struct PersonalizationOptions {
  PersonalizationKind kind = PersonalizationKind::kNone;
  double lambda = 0.1;         // kDitto: pull of the personal model towards the global one
  std::int64_t epochs = 1;     // kDitto, kFineTune: passes over the client's samples
  double learning_rate = 0.0;  // kDitto, kFineTune; 0: the clients' rate of the round
  std::int64_t layers = 1;     // kFedPer: the last so many layers with parameters are personal
  std::vector<std::string> layer_names = {};  // kFedPer: these ones instead, by Model's names
};

// Throws InvalidArgument that names the field.
void validate(const PersonalizationOptions& options);
bool has_personal_state(PersonalizationKind kind);

// The entries that stay with clients, in the order of the layout; none unless kFedPer. A name
// stands for everything below it: "residual3" for "residual3/conv1/weight" too. Throws
// InvalidArgument for an unknown layer (with the nearest name) and when no trainable entry would be
// left to average.
std::vector<paramserver::LayoutEntry> personal_entries(const paramserver::ParameterLayout& layout,
                                                       const PersonalizationOptions& options);
// The others: what updates consist of.
std::vector<paramserver::LayoutEntry> shared_entries(const paramserver::ParameterLayout& layout,
                                                     const PersonalizationOptions& options);

}  // namespace superstep::worker
