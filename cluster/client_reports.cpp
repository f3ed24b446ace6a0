#include "cluster/client_reports.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/as_size.h"

namespace superstep::cluster {

namespace {

using OrderedJson = nlohmann::ordered_json;

// Nothing over no clients: a Poisson cohort may be empty.
OrderedJson distribution_json(const worker::Distribution& over) {
  if (over.count == 0) {
    return nullptr;
  }
  return {{"clients", over.count}, {"min", over.minimum},      {"p10", over.p10},
          {"median", over.median}, {"p90", over.p90},          {"max", over.maximum},
          {"mean", over.mean},     {"variance", over.variance}};
}

OrderedJson distributions_json(const std::optional<worker::ClientDistributions>& over) {
  if (!over) {
    return nullptr;
  }
  return {{"all", distribution_json(over->all)}, {"cohort", distribution_json(over->cohort)}};
}

std::string cell(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : std::string();
}

std::string one_word(std::string name) {
  for (char& c : name) {
    c = c == '\t' || c == '\n' || c == '\r' ? ' ' : c;
  }
  return name;
}

}  // namespace

OrderedJson client_metrics_json(const std::optional<worker::ClientMetrics>& clients) {
  if (!clients) {
    return {{"client_accuracy", nullptr},
            {"client_test_accuracy", nullptr},
            {"personal_test_accuracy", nullptr},
            {"own_models", nullptr}};
  }
  OrderedJson accuracy = distributions_json(worker::ClientDistributions{
      .all = clients->accuracy_all, .cohort = clients->accuracy_cohort});
  accuracy["held_out"] =
      clients->accuracy_held_out ? distribution_json(*clients->accuracy_held_out) : OrderedJson();
  return {{"client_accuracy", std::move(accuracy)},
          {"client_test_accuracy", distributions_json(clients->test_accuracy)},
          {"personal_test_accuracy", distributions_json(clients->personal_test_accuracy)},
          {"own_models", clients->own_models}};
}

std::string client_table(const worker::ClientTable& judged, const worker::ClientData& data,
                         const worker::ClientData* tests) {
  const auto of_column = [](const std::vector<double>& column, std::size_t client) {
    return column.empty() ? std::string() : cell(column[client]);
  };
  std::string table =
      "client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\thas_own_model\t"
      "personal_test_accuracy\n";
  for (std::int64_t client = 0; client < data.num_clients(); ++client) {
    const std::size_t at = as_size(client);
    table += fmt::format(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n", client, one_word(data.name(client)),
        judged.in_cohort[at] ? 1 : 0, data.num_samples(client), of_column(judged.accuracy, at),
        tests == nullptr ? 0 : tests->num_samples(client), of_column(judged.test_accuracy, at),
        judged.has_own_model[at] ? 1 : 0, of_column(judged.personal_test_accuracy, at));
  }
  return table;
}

}  // namespace superstep::cluster
