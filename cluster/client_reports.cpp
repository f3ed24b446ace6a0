#include "cluster/client_reports.h"

#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace superstep::cluster {

namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson distribution_json(const worker::Distribution& over) {
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

std::string client_table(const worker::ClientMetrics& clients, const worker::ClientData& data) {
  std::string table =
      "client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\thas_own_model\t"
      "personal_test_accuracy\n";
  for (const worker::ClientRow& row : clients.rows) {
    table += fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n", row.client,
                         one_word(data.name(row.client)), row.in_cohort ? 1 : 0, row.samples,
                         cell(row.accuracy), row.test_samples, cell(row.test_accuracy),
                         row.has_own_model ? 1 : 0, cell(row.personal_test_accuracy));
  }
  return table;
}

}  // namespace superstep::cluster
