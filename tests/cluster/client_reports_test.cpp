// What a federated run says of its clients.
#include "cluster/client_reports.h"

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "worker/data/dataset.h"
#include "worker/federated/client_data.h"
#include "worker/federated/client_division.h"

namespace superstep::cluster {
namespace {

std::shared_ptr<const worker::ClientData> three_clients() {
  worker::ClientIndex index(6);
  index.add(std::vector<std::uint32_t>{0, 1, 2});
  index.add(std::vector<std::uint32_t>{3, 4}, "Anne\tPage\n");
  index.add(std::vector<std::uint32_t>{5});
  return worker::partitioned_clients(worker::synthetic_dataset({.num_samples = 6}),
                                     std::move(index));
}

worker::ClientMetrics some_metrics() {
  worker::ClientMetrics metrics;
  metrics.accuracy_all = worker::distribution_of({0.5, 0.75, 1.0});
  metrics.accuracy_cohort = worker::distribution_of({0.75});
  metrics.test_accuracy = worker::ClientDistributions{.all = worker::distribution_of({0.25, 0.5}),
                                                      .cohort = worker::distribution_of({0.5})};
  metrics.own_models = 1;
  return metrics;
}

TEST(ClientReports, DistributionsAreNamedApart) {
  const nlohmann::ordered_json json = client_metrics_json(some_metrics());
  EXPECT_EQ(json["client_accuracy"]["all"]["clients"], 3);
  EXPECT_EQ(json["client_accuracy"]["all"]["median"], 0.75);
  EXPECT_EQ(json["client_accuracy"]["cohort"]["min"], 0.75);
  EXPECT_TRUE(json["client_accuracy"]["held_out"].is_null());
  EXPECT_EQ(json["client_test_accuracy"]["all"]["mean"], 0.375);
  EXPECT_EQ(json["client_test_accuracy"]["cohort"]["clients"], 1);
  EXPECT_TRUE(json["personal_test_accuracy"].is_null());
  EXPECT_EQ(json["own_models"], 1);
  const nlohmann::ordered_json nothing = client_metrics_json(std::nullopt);
  EXPECT_EQ(nothing.size(), json.size());
  for (const auto& [name, value] : nothing.items()) {
    EXPECT_TRUE(value.is_null() && json.contains(name)) << name;
  }
}

TEST(ClientReports, TheTableHasALinePerClientAndEmptyCellsForWhatWasNotJudged) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const worker::DividedClients parts =
      worker::divide_clients(three_clients(), {.test_fraction = 0.4});
  worker::ClientTable table{.accuracy = {0.5, 0.75, 1.0},
                            .test_accuracy = {0.25, 0.5, none},
                            .personal_test_accuracy = {none, 1.0, none},
                            .in_cohort = {false, true, false},
                            .has_own_model = {false, true, false}};
  EXPECT_EQ(client_table(table, *parts.train, parts.test.get()),
            "client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\t"
            "has_own_model\tpersonal_test_accuracy\n"
            "0\t0\t0\t2\t0.5\t1\t0.25\t0\t\n"
            "1\tAnne Page \t1\t1\t0.75\t1\t0.5\t1\t1\n"
            "2\t2\t0\t1\t1\t0\t\t0\t\n");
  table.test_accuracy.clear();
  table.personal_test_accuracy.clear();
  EXPECT_EQ(client_table(table, *three_clients(), nullptr),
            "client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\t"
            "has_own_model\tpersonal_test_accuracy\n"
            "0\t0\t0\t3\t0.5\t0\t\t0\t\n"
            "1\tAnne Page \t1\t2\t0.75\t0\t\t1\t\n"
            "2\t2\t0\t1\t1\t0\t\t0\t\n");
}

}  // namespace
}  // namespace superstep::cluster
