// What a federated run says of its clients.
#include "cluster/client_reports.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "worker/data/dataset.h"
#include "worker/federated/client_data.h"

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
  metrics.rows = {{.client = 0, .samples = 2, .accuracy = 0.5, .test_accuracy = 0.25},
                  {.client = 1,
                   .in_cohort = true,
                   .has_own_model = true,
                   .samples = 1,
                   .test_samples = 1,
                   .accuracy = 0.75,
                   .test_accuracy = 0.5,
                   .personal_test_accuracy = 1.0},
                  {.client = 2, .samples = 1, .accuracy = 1.0}};
  metrics.rows[0].test_samples = 1;
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
  EXPECT_EQ(client_table(some_metrics(), *three_clients()),
            "client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\t"
            "has_own_model\tpersonal_test_accuracy\n"
            "0\t0\t0\t2\t0.5\t1\t0.25\t0\t\n"
            "1\tAnne Page \t1\t1\t0.75\t1\t0.5\t1\t1\n"
            "2\t2\t0\t1\t1\t0\t\t0\t\n");
}

}  // namespace
}  // namespace superstep::cluster
