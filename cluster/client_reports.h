// What is said of the clients of a federated run: distributions as JSON, in metrics.jsonl and
// summary.json alike, and one line per client in clients.tsv. docs/summary.md is the schema.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "worker/federated/client_data.h"
#include "worker/federated/client_metrics.h"

namespace superstep::cluster {

// An object of "client_accuracy", "client_test_accuracy", "personal_test_accuracy" and
// "own_models"; null where there is none.
nlohmann::ordered_json client_metrics_json(const std::optional<worker::ClientMetrics>& clients);

// Tab-separated, with a header; a cell is empty where a client was not judged so. Names are those
// of the data, tabs and ends of line in them made blanks. `tests`: what clients keep; may be null.
std::string client_table(const worker::ClientTable& judged, const worker::ClientData& data,
                         const worker::ClientData* tests);

}  // namespace superstep::cluster
