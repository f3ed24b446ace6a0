// superstep estimator train: a CSV file in, a model of boosted trees out.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/text.h"
#include "cluster/commands.h"
#include "cluster/handshake.h"
#include "cluster/launcher_check.h"
#include "cluster/output_file.h"
#include "cluster/world_shape.h"
#include "cluster/xgboost_model.h"
#include "worker/data/mapped_file.h"
#include "worker/estimator/boosted_trees_trainer.h"

namespace superstep::cluster {

namespace {

constexpr std::string_view kEstimator = "estimator";

struct TableSource {
  std::unique_ptr<worker::MappedFile> file;
  worker::CsvSchema schema;
};

// Shared by the lanes of a process, read-only.
struct Estimating {
  EstimatorArguments arguments;
  worker::CsvDialect dialect;
  TableSource data;
  std::optional<TableSource> eval;
  worker::BoostedTreesOptions options;  // objective and constraints are completed by the ranks
};

worker::CsvDialect dialect_of(const EstimatorArguments& arguments) {
  worker::CsvDialect dialect;
  if (arguments.delimiter == "tab") {
    dialect.delimiter = '\t';
  } else if (arguments.delimiter.size() == 1) {
    dialect.delimiter = arguments.delimiter[0];
  } else {
    throw InvalidArgument(kEstimator, fmt::format("--delimiter: got \"{}\", expected one character "
                                                  "or tab",
                                                  arguments.delimiter));
  }
  dialect.missing.insert(dialect.missing.end(), arguments.missing.begin(), arguments.missing.end());
  return dialect;
}

worker::SchemaRequest schema_request(const EstimatorArguments& arguments) {
  worker::SchemaRequest request;
  if (!arguments.columns.empty() && !arguments.schema.empty()) {
    throw InvalidArgument(kEstimator, "got --columns and --schema, expected one of them");
  }
  request.columns = arguments.columns;
  if (!arguments.schema.empty()) {
    request.kinds = worker::read_schema_file(arguments.schema);
    for (const worker::GivenColumn& column : request.kinds) {
      request.columns.push_back(column.name);
    }
  }
  const bool has_classes = arguments.objective == "binary" || arguments.objective == "multiclass";
  if (has_classes && arguments.schema.empty()) {
    request.kinds.push_back({arguments.label, worker::ColumnKind::kCategory});
  }
  return request;
}

TableSource open_table(const std::string& path, const worker::CsvDialect& dialect,
                       const worker::SchemaRequest& request) {
  TableSource source;
  source.file = std::make_unique<worker::MappedFile>(path);
  source.schema = worker::infer_schema(*source.file, dialect, request);
  return source;
}

// What training took the columns for holds for the evaluation, too; other columns are not read.
void adopt_kinds(const worker::CsvSchema& training, worker::CsvSchema& evaluation) {
  for (worker::ColumnSchema& column : evaluation.columns) {
    column.kind = worker::ColumnKind::kIgnored;
    for (const worker::ColumnSchema& known : training.columns) {
      if (known.name == column.name) {
        column.kind = known.kind;
      }
    }
  }
}

worker::BoostedTreesOptions options_of(const EstimatorArguments& arguments) {
  worker::BoostedTreesOptions options;
  options.rounds = arguments.rounds.value_or(options.rounds);
  options.limits.max_depth = arguments.max_depth.value_or(options.limits.max_depth);
  options.limits.learning_rate = arguments.learning_rate.value_or(options.limits.learning_rate);
  options.rules.lambda = arguments.lambda.value_or(options.rules.lambda);
  options.rules.gamma = arguments.gamma.value_or(options.rules.gamma);
  options.rules.min_child_weight =
      arguments.min_child_weight.value_or(options.rules.min_child_weight);
  options.rules.max_cat_to_onehot =
      arguments.max_cat_to_onehot.value_or(options.rules.max_cat_to_onehot);
  options.max_bin = arguments.max_bin.value_or(options.max_bin);
  options.subsample = arguments.subsample.value_or(options.subsample);
  options.colsample = arguments.colsample.value_or(options.colsample);
  options.base_score = arguments.base_score;
  options.validation_fraction = arguments.validation_fraction.value_or(options.validation_fraction);
  options.early_stopping_rounds = arguments.early_stopping.value_or(options.early_stopping_rounds);
  options.seed = arguments.seed;
  worker::check(options);
  return options;
}

void require_new_directory(const std::string& path) {
  const PathStatus status = look_at(path);
  if (!status.exists() && status.kind == PathKind::kMissing) {
    return;
  }
  if (status.kind != PathKind::kDirectory || !std::filesystem::is_empty(path)) {
    throw InvalidArgument(
        kEstimator,
        fmt::format("--out {}: {}", path,
                    status.exists() ? "exists and is not an empty directory" : status.problem));
  }
}

// Objective and constraints, once the label's classes are known.
void complete_options(const EstimatorArguments& arguments, const worker::Table& table,
                      worker::BoostedTreesOptions& options) {
  const worker::TableColumn& label = table.columns[table.index_of(arguments.label, "--label")];
  if (!arguments.objective.empty()) {
    options.objective = worker::objective_of(arguments.objective);
  } else if (label.kind == worker::ColumnKind::kNumber) {
    options.objective = worker::Objective::kSquaredError;
  } else {
    options.objective = label.vocabulary.size() == 2 ? worker::Objective::kBinaryLogistic
                                                     : worker::Objective::kMulticlass;
  }
  for (const std::string& one : arguments.monotone) {
    const std::size_t equals = one.rfind('=');
    const std::string direction = equals == std::string::npos ? "" : one.substr(equals + 1);
    if (direction != "1" && direction != "-1" && direction != "0") {
      throw InvalidArgument(kEstimator, fmt::format("--monotone: got \"{}\", expected NAME=1, "
                                                    "NAME=-1 or NAME=0",
                                                    one));
    }
    const std::size_t column = table.index_of(one.substr(0, equals), "--monotone");
    const std::size_t label_column = table.index_of(arguments.label, "--label");
    if (column == label_column) {
      throw InvalidArgument(kEstimator, "--monotone: got the label, expected another column");
    }
    options.rules.monotone.resize(table.columns.size() - 1);
    options.rules.monotone[column - (column > label_column ? 1 : 0)] = std::stoi(direction);
  }
}

// "adult.data: 32,561 rows, 4,262 missing values (3.79 MiB in 0.021 s)"
std::string table_line(const std::string& path, const worker::Table& table, std::size_t bytes,
                       double seconds) {
  std::int64_t missing = 0;
  std::int64_t unknown = 0;
  for (const worker::TableColumn& column : table.columns) {
    missing += column.missing;
    unknown += column.unknown;
  }
  return fmt::format("{}: {} rows, {} missing values{} ({} in {:.3f} s)\n", path,
                     grouped(table.total_rows), grouped(missing),
                     unknown > 0 ? fmt::format(", {} that training did not have", grouped(unknown))
                                 : std::string(),
                     human_bytes(static_cast<std::int64_t>(bytes)), seconds);
}

std::string csv_quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r ") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  }
  return quoted + '"';
}

std::string schema_csv(const worker::CsvSchema& schema) {
  std::string text = "name,kind\n";
  for (const worker::ColumnSchema& column : schema.columns) {
    text += fmt::format("{},{}\n", csv_quoted(column.name), worker::name_of(column.kind));
  }
  return text;
}

std::string importances_csv(const worker::BoostedTrees& model) {
  std::string text = "feature,gain,cover,splits\n";
  const std::vector<worker::FeatureImportance> importances = worker::feature_importances(model);
  for (std::size_t f = 0; f < importances.size(); ++f) {
    text += fmt::format("{},{},{},{}\n", csv_quoted(model.features[f].name), importances[f].gain,
                        importances[f].cover, importances[f].splits);
  }
  return text;
}

void write_contributions(const std::string& path, const worker::BoostedTrees& model,
                         const worker::Table& table) {
  AtomicFile file(path, IfExists::kRefuse);
  std::string header = "row,output";
  for (const worker::ModelFeature& feature : model.features) {
    header += "," + csv_quoted(feature.name);
  }
  file.write(header + ",bias\n");
  const worker::FeatureContributions contributions(model);
  worker::RowReader rows(model, table);
  const auto outputs = static_cast<std::size_t>(model.num_outputs());
  std::vector<double> values(outputs * contributions.width());
  for (std::int64_t row = 0; row < table.num_rows; ++row) {
    contributions.explain(rows.read(static_cast<std::size_t>(row)), values);
    for (std::size_t k = 0; k < outputs; ++k) {
      const auto mine =
          std::span<const double>(values).subspan(k * contributions.width(), contributions.width());
      file.write(fmt::format("{},{},{:.9g}\n", row, k, fmt::join(mine, ",")));
    }
  }
  file.commit();
}

std::string final_text(const worker::TrainedTrees& trained,
                       const std::optional<worker::TreesEvaluation>& test) {
  std::string metrics;
  if (test && trained.model.objective == worker::Objective::kSquaredError) {
    metrics = fmt::format("test_rmse={:.6g} ", std::sqrt(test->loss));
  } else if (test) {
    metrics = fmt::format("test_accuracy={:.4f} test_loss={:.4f} ", test->accuracy, test->loss);
  }
  return fmt::format("final: {}rounds={} model_hash={}\n", metrics, trained.model.num_rounds(),
                     to_text(trained.model.hash()));
}

class EstimatorRun {
 public:
  EstimatorRun(bsp::World& world, const Estimating& work, const bsp::Environment& environment)
      : world_(world),
        work_(work),
        arguments_(work.arguments),
        is_root_(environment.is_root_process() && world.lane() == 0) {}

  void run() {
    say(to_text(shape_of(world_)) + "\ncolumns:\n" + worker::to_text(work_.data.schema));
    const worker::Table table = read(arguments_.data, work_.data, {});
    worker::BoostedTreesOptions options = work_.options;
    complete_options(arguments_, table, options);
    const worker::TrainedTrees trained = worker::train_boosted_trees(
        world_, table, arguments_.label, options,
        [this](const worker::TreesRoundReport& report) { say_round(report); });
    say_trained(trained);
    if (is_root_ && !arguments_.out.empty()) {
      write_model(trained.model);
    }
    std::optional<worker::TreesEvaluation> test;
    if (work_.eval) {
      const worker::Table rows = read(arguments_.eval_data, *work_.eval, table.columns);
      test = worker::evaluate(world_, trained.model, rows);
      explain(trained.model, table.columns);
    }
    world_.sync();
    say(final_text(trained, test));
  }

 private:
  void say(const std::string& text) const {
    if (is_root_) {
      fmt::print("{}", text);
      std::fflush(stdout);
    }
  }

  worker::Table read(const std::string& path, const TableSource& source,
                     std::span<const worker::TableColumn> known) {
    const Stopwatch watch;
    worker::Table table =
        worker::read_table(world_, *source.file, source.schema, work_.dialect, known);
    const std::size_t bytes = source.file->bytes().size() - source.schema.data_begin;
    say(table_line(path, table, bytes, watch.seconds()));
    return table;
  }

  void say_round(const worker::TreesRoundReport& report) const {
    constexpr int kEvery = 10;
    if (report.validation_loss && report.round % kEvery == 0) {
      say(fmt::format("round {}: validation_loss={:.6f}\n", report.round, *report.validation_loss));
    }
  }

  void say_trained(const worker::TrainedTrees& trained) {
    const double seconds = world_.allreduce(trained.seconds, bsp::ReduceOp::kMax);
    std::string text = fmt::format(
        "trained {}: {} rounds in {:.3f} s, {} bins, {} of {} features with a bin per value\n",
        worker::name_of(trained.model.objective), trained.rounds_trained, seconds,
        grouped(static_cast<std::int64_t>(trained.num_bins)), trained.exact_features,
        trained.model.features.size());
    if (trained.validation_loss) {
      text +=
          fmt::format("validation: loss={:.6f} rows={} after round {}\n", *trained.validation_loss,
                      trained.validation_rows, trained.model.num_rounds());
    }
    say(text);
  }

  void write_model(const worker::BoostedTrees& model) const {
    const std::filesystem::path directory = arguments_.out;
    make_directories(directory);
    write_file_atomically(directory / "schema.csv", schema_csv(work_.data.schema));
    write_file_atomically(directory / "importances.csv", importances_csv(model));
    write_file_atomically(directory / "model.json", xgboost_json(model));
  }

  // One rank reads all rows of the evaluation once more.
  void explain(const worker::BoostedTrees& model, std::span<const worker::TableColumn> known) {
    if (arguments_.contributions.empty()) {
      return;
    }
    bsp::World alone = world_.split(world_.rank(), 0);
    if (is_root_) {
      write_contributions(
          arguments_.contributions, model,
          worker::read_table(alone, *work_.eval->file, work_.eval->schema, work_.dialect, known));
    }
  }

  bsp::World& world_;
  const Estimating& work_;
  const EstimatorArguments& arguments_;
  bool is_root_;
};

void estimate_on_rank(bsp::World& world, const Estimating& work,
                      const bsp::Environment& environment) {
  require_same_program(world, environment.mpi_library());
  const TableSource& eval = work.eval ? *work.eval : work.data;
  world.require_same("data", fmt::format("{} bytes\n{}", work.data.file->bytes().size(),
                                         worker::to_text(work.data.schema)));
  world.require_same("eval data", fmt::format("{} bytes\n{}", eval.file->bytes().size(),
                                              worker::to_text(eval.schema)));
  EstimatorRun(world, work, environment).run();
}

}  // namespace

Work prepare_estimator(bsp::Environment& environment, const EstimatorArguments& arguments) {
  require_known_launcher(environment);
  SUPERSTEP_CHECK(arguments.kind == "boosted-trees", arguments.kind);
  auto work = std::make_shared<Estimating>();
  work->arguments = arguments;
  work->options = options_of(arguments);
  work->dialect = dialect_of(arguments);
  if (!arguments.out.empty()) {
    require_new_directory(arguments.out);
  }
  if (!arguments.contributions.empty()) {
    if (arguments.eval_data.empty()) {
      throw InvalidArgument(kEstimator, "--contributions needs --eval-data");
    }
    require_output(kEstimator, "--contributions", arguments.contributions, IfExists::kRefuse);
  }
  worker::SchemaRequest request = schema_request(arguments);
  work->data = open_table(arguments.data, work->dialect, request);
  work->data.schema.index_of(arguments.label, "--label");
  if (!arguments.eval_data.empty()) {
    request.kinds.clear();
    work->eval = open_table(arguments.eval_data, work->dialect, request);
    adopt_kinds(work->data.schema, work->eval->schema);
  }
  bsp::EnvironmentOptions options;
  options.lanes = arguments.lanes.value_or(1);
  return [work, options, &environment] {
    return environment.run(options,
                           [&](bsp::World& world) { estimate_on_rank(world, *work, environment); });
  };
}

}  // namespace superstep::cluster
