// What a run leaves behind: metrics.jsonl, summary.json, provenance.json.
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "cluster/metrics_log.h"
#include "cluster/provenance.h"
#include "cluster/run_directory.h"
#include "cluster/summary.h"
#include "tests/base/temporary_directory.h"

namespace superstep::cluster {
namespace {

using nlohmann::json;
using superstep::testing::TemporaryDirectory;
using ::testing::HasSubstr;

worker::StepReport step(std::int64_t superstep) {
  worker::StepReport report;
  report.superstep = superstep;
  report.epoch = 1;
  report.step_in_epoch = superstep - 1;
  report.result.total = {.num_samples = 4, .num_correct = 3, .loss_sum = 2.0};
  report.result.learning_rate = 0.05;
  report.result.gradient_norm = std::numeric_limits<double>::quiet_NaN();
  report.record.total_seconds = 0.5;
  report.record.compute_seconds = 0.25;
  return report;
}

std::vector<json> lines_of(const std::filesystem::path& file) {
  std::vector<json> lines;
  std::ifstream input(file);
  for (std::string line; std::getline(input, line);) {
    lines.push_back(json::parse(line));
  }
  return lines;
}

TEST(MetricsLog, WritesOneJsonObjectALine) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory / "metrics.jsonl";
  MetricsLog log(file, 1);
  log.on_step(step(1));
  worker::EpochReport epoch;
  epoch.epoch = 1;
  epoch.superstep = 1;
  epoch.test = worker::Evaluation{.loss = 0.5, .accuracy = 0.75, .num_samples = 4};
  log.on_epoch(epoch);
  log.on_checkpoint("/somewhere/checkpoints/step-00000001", 1, 0.125);
  const std::vector<json> lines = lines_of(file);  // while the log is open: lines are flushed
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0]["type"], "superstep");
  EXPECT_EQ(lines[0]["loss"], 0.5);
  EXPECT_EQ(lines[0]["accuracy"], 0.75);
  EXPECT_EQ(lines[0]["seconds"]["compute"], 0.25);
  EXPECT_TRUE(lines[0]["gradient_norm"].is_null());
  EXPECT_EQ(lines[1]["test_accuracy"], 0.75);
  EXPECT_FALSE(lines[1].contains("validation_accuracy"));
  EXPECT_EQ(lines[2]["path"], "checkpoints/step-00000001");
}

TEST(MetricsLog, WritesEveryKthSuperstep) {
  const TemporaryDirectory directory;
  MetricsLog log(directory / "metrics.jsonl", 3);
  for (int superstep = 1; superstep <= 7; ++superstep) {
    log.on_step(step(superstep));
  }
  const std::vector<json> lines = lines_of(directory / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["superstep"], 3);
  EXPECT_EQ(lines[1]["superstep"], 6);
}

TEST(MetricsLog, CannotBeOpenedInADirectoryThatIsMissing) {
  EXPECT_THROW(MetricsLog("/nonexistent/metrics.jsonl", 1), DataError);
}

TEST(TruncateMetrics, RemovesWhatTheResumedRunWillWriteAgain) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory / "metrics.jsonl";
  {
    MetricsLog log(file, 1);
    for (int superstep = 1; superstep <= 5; ++superstep) {
      log.on_step(step(superstep));
    }
  }
  std::ofstream(file, std::ios::app)
      << "{\"type\":\"superstep\",\"superstep\":1";  // torn by a kill
  truncate_metrics(file, 3);
  const std::vector<json> lines = lines_of(file);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines.back()["superstep"], 3);
}

TEST(TruncateMetrics, KeepsNoSuperstepThatIsNone) {
  EXPECT_TRUE(is_metrics_line_of(R"({"superstep":3})", 3));
  for (const char* line : {R"({"superstep":4})", R"({"superstep":18446744073709551615})",
                           R"({"superstep":-1})", R"({"superstep":"3"})", "3", "{}", ""}) {
    EXPECT_FALSE(is_metrics_line_of(line, 3)) << line;
  }
}

TEST(TruncateMetrics, MakesNoFile) {
  const TemporaryDirectory directory;
  truncate_metrics(directory / "metrics.jsonl", 3);
  EXPECT_FALSE(std::filesystem::exists(directory / "metrics.jsonl"));
}

RunSummary example_summary() {
  RunSummary summary;
  summary.run_id = "id";
  summary.model = "mlp_2nn";
  summary.num_parameters = 199210;
  summary.world.ranks = 4;
  summary.world.processes = 2;
  summary.world.lanes = 2;
  summary.result.reason = worker::StopReason::kSignal;
  summary.result.parameters_hash = {.low = 1, .high = 2};
  summary.exit_code = 75;
  summary.memory = {.parameters_per_node = 100,
                    .gradients_per_node = 200,
                    .exchange_per_node = 250,
                    .optimizer_state_per_world = 300};
  summary.rank_totals = {{.supersteps = 1, .compute_seconds = 1.0},
                         {.supersteps = 1, .compute_seconds = 3.0}};
  return summary;
}

TEST(Summary, HoldsWhatItsSchemaSays) {
  const json summary = json::parse(summary_json(example_summary()));
  EXPECT_EQ(summary["schema"], kSummarySchema);
  EXPECT_EQ(summary["exit_reason"], "signal");
  EXPECT_EQ(summary["exit_code"], 75);
  EXPECT_EQ(summary["model"]["parameters"], 199210);
  EXPECT_EQ(summary["world"]["lanes"], 2);
  EXPECT_EQ(summary["memory_bytes"]["parameters_per_node"], 100);
  EXPECT_EQ(summary["memory_bytes"]["gradients_per_node"], 200);
  EXPECT_EQ(summary["memory_bytes"]["exchange_per_node"], 250);
  EXPECT_EQ(summary["memory_bytes"]["optimizer_state_per_world"], 300);
  EXPECT_EQ(summary["time_seconds"]["supersteps_by_rank"]["compute"]["min"], 1.0);
  EXPECT_EQ(summary["time_seconds"]["supersteps_by_rank"]["compute"]["mean"], 2.0);
  EXPECT_EQ(summary["time_seconds"]["supersteps_by_rank"]["compute"]["max"], 3.0);
  EXPECT_EQ(summary["parameters_hash"], "xxh3:00000000000000020000000000000001");
  EXPECT_TRUE(summary["test"].is_null());
  EXPECT_TRUE(summary["progress"]["resumed_from_superstep"].is_null());
}

TEST(Summary, IsDescribedInItsDocument) {
  const std::string document =
      read_text_file(SUPERSTEP_SOURCE_DIRECTORY "/docs/summary.md", 1 << 20);
  const json summary = json::parse(summary_json(example_summary())).flatten();
  for (const auto& [path, value] : summary.items()) {
    const std::string name = path.substr(path.rfind('/') + 1);
    // In backticks, alone or as the last part of a path.
    EXPECT_NE(document.find(name + "`"), std::string::npos) << path;
  }
}

TEST(FinalLine, IsWhatScriptsReadIt) {
  worker::TrainResult result;
  result.test = worker::Evaluation{.loss = 0.23914, .accuracy = 0.91532, .num_samples = 10000};
  result.parameters_hash = {.low = 0xabc, .high = 0x123};
  EXPECT_EQ(final_line(result),
            "final: test_accuracy=0.9153 test_loss=0.2391 "
            "parameters_hash=xxh3:00000000000001230000000000000abc");
}

TEST(Provenance, ReadsBack) {
  const TemporaryDirectory directory;
  Provenance provenance;
  provenance.run_id = new_run_id();
  provenance.data_fingerprint = "idx 5";
  provenance.normalization.mean = 1.0F / 3.0F;
  provenance.sample_shape = {1, 28, 28};
  provenance.starts.push_back({.time = "now",
                               .command_line = "superstep train",
                               .ranks = 4,
                               .processes = 2,
                               .lanes = 2,
                               .hosts = {"a", "b"},
                               .from_superstep = 7,
                               .precision = "bf16"});
  write_provenance(directory / "provenance.json", provenance);
  const Provenance read = read_provenance(directory / "provenance.json");
  EXPECT_EQ(read.run_id, provenance.run_id);
  EXPECT_EQ(read.normalization.mean, provenance.normalization.mean);  // to the last bit
  EXPECT_EQ(read.sample_shape, provenance.sample_shape);
  ASSERT_EQ(read.starts.size(), 1U);
  EXPECT_EQ(read.starts[0].hosts, provenance.starts[0].hosts);
  EXPECT_EQ(read.starts[0].from_superstep, 7);
  EXPECT_EQ(read.starts[0].precision, "bf16");
}

std::string problem_of_missing(const std::filesystem::path& file) {
  try {
    read_provenance(file);
  } catch (const DataError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint);
    return error.what();
  }
  return "no error";
}

TEST(Provenance, RefusesWhatItDidNotWrite) {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory / "provenance.json";
  const auto problem = [&](const std::string& text) -> std::string {
    std::ofstream(file) << text;
    try {
      read_provenance(file);
    } catch (const DataError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kBadCheckpoint) << text;
      EXPECT_EQ(error.path(), file.string());
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(problem(""),
              HasSubstr("byte 1: this is not the provenance of a run: it is not JSON"));
  EXPECT_THAT(problem("{"), HasSubstr("it is not JSON"));
  EXPECT_THAT(problem("[]"), HasSubstr("the file: got [], expected an object"));
  EXPECT_THAT(problem("{}"), HasSubstr("missing key run_id"));
  EXPECT_THAT(problem(R"({"run_id": 3})"), HasSubstr("run_id: got 3, expected a string"));
  EXPECT_THAT(problem("{\"run_id\": 9e9999}"), HasSubstr("it has a number that is too large"));
  EXPECT_THAT(problem(R"({"run_id": [1, 2]})"), HasSubstr("run_id: got a list of 2, expected"));
  constexpr std::size_t kLevels = 1'000'000;
  EXPECT_THAT(
      problem("{\"run_id\": " + std::string(kLevels, '[') + std::string(kLevels, ']') + "}"),
      HasSubstr("run_id: got a list of 1, expected a string"));
  std::filesystem::remove(file);
  EXPECT_THAT(problem_of_missing(file), HasSubstr("cannot be read"));

  write_provenance(file, {.run_id = "r",
                          .data_fingerprint = "d",
                          .normalization = {},
                          .sample_shape = {4},
                          .starts = {{.time = "now", .command_line = "x", .hosts = {"a"}}}});
  std::ifstream stream(file);
  const std::string good{std::istreambuf_iterator<char>(stream), {}};
  const auto changed = [&](const std::string& from, const std::string& to) {
    const std::size_t at = good.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return problem(std::string(good).replace(at, from.size(), to));
  };
  EXPECT_THAT(changed("\"kind\": 1", "\"kind\": 9"),
              HasSubstr("normalization.kind: got 9, expected an integer from 0 to 2"));
  EXPECT_THAT(changed("\"standard_deviation\": 1.0", "\"standard_deviation\": 0"),
              HasSubstr("normalization.standard_deviation: got 0, expected a number"));
  EXPECT_THAT(changed("\"ranks\": 1", "\"ranks\": 1e99"), HasSubstr("starts[0].ranks: got 1e+99"));
  EXPECT_THAT(changed("\"precision\": \"float32\"", "\"precision\": 32"),
              HasSubstr("starts[0].precision: got 32, expected a string"));
  // Files of earlier versions, which knew float32 alone.
  EXPECT_EQ(changed(",\n      \"precision\": \"float32\"", ""), "no error");
  EXPECT_EQ(read_provenance(file).starts[0].precision, "float32");
  EXPECT_THAT(changed("    4\n", "    0\n"), HasSubstr("sample_shape[0]: got 0"));
}

TEST(RunDirectory, IsNewWhenMissingOrEmpty) {
  const TemporaryDirectory directory;
  EXPECT_NO_THROW(RunDirectory(directory.path()).require_new_or_empty({}));
  EXPECT_NO_THROW(RunDirectory(directory / "missing").require_new_or_empty({}));
  std::ofstream(directory / "file") << "x";
  EXPECT_THROW(RunDirectory(directory.path()).require_new_or_empty({}), InvalidArgument);
  EXPECT_THROW(RunDirectory(directory / "file").require_new_or_empty({}), InvalidArgument);
}

TEST(RunDirectory, NamesTheCommandThatContinuesARun) {
  const TemporaryDirectory directory;
  const RunDirectory run(directory / "my run");
  run.create();
  std::ofstream(run.config()) << "";
  try {
    run.require_new_or_empty({});
    FAIL() << "expected InvalidArgument";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("--resume"));
    EXPECT_THAT(error.what(), HasSubstr("--out '" + run.root().string() + "'"));  // a shell's word
  }
  EXPECT_THAT(run.resume_command({.num_processes = 3}),
              ::testing::StartsWith("mpirun -n 3 superstep train "));
  EXPECT_THAT(
      run.resume_command({.program = "./my build/ss", .num_processes = 3, .oversubscribed = true}),
      ::testing::StartsWith("mpirun --oversubscribe -n 3 './my build/ss' train "));
}

TEST(RunDirectory, IsNamedAfterConfigurationAndTime) {
  const std::chrono::system_clock::time_point noon{std::chrono::seconds(1'777'636'800)};
  EXPECT_EQ(default_run_directory("examples/a.toml", noon), "runs/a-20260501-120000");
}

TEST(RunLock, KeepsASecondTrainingOut) {
  const TemporaryDirectory directory;
  const RunDirectory run(directory.path());
  {
    const RunLock lock(run);
    EXPECT_THROW(RunLock{run}, InvalidArgument);
  }
  EXPECT_NO_THROW(RunLock{run});
}

}  // namespace
}  // namespace superstep::cluster
