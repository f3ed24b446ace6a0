#include "cluster/estimator_options.h"

#include "cluster/shared_options.h"
#include "worker/estimator/objective.h"

namespace superstep::cluster {

namespace {

void add_estimator_input(CLI::App& app, EstimatorArguments& arguments) {
  app.add_option("action", arguments.action, "What to do: train")
      ->required()
      ->check(CLI::IsMember({"train"}))
      ->type_name("train");
  app.add_option("--kind", arguments.kind, "The model: boosted-trees")
      ->required()
      ->check(CLI::IsMember({"boosted-trees"}));
  add_path(app, "--data", arguments.data, "CSV file to train on")->required()->type_name("FILE");
  app.add_option("--label", arguments.label, "The column to predict")
      ->required()
      ->type_name("NAME");
  add_path(app, "--eval-data", arguments.eval_data, "CSV file to evaluate the model on")
      ->type_name("FILE");
  app.add_option("--columns", arguments.columns, "Names of the columns of files without a header")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME,...");
  add_path(app, "--schema", arguments.schema,
           "CSV file with the header name,kind: the columns, each number, category or ignore")
      ->type_name("FILE");
  app.add_option("--delimiter", arguments.delimiter, "What separates fields: a character, or tab")
      ->capture_default_str()
      ->type_name("CHAR");
  app.add_option("--missing", arguments.missing,
                 "One more word for no value, beside nothing, ?, NA, N/A, NaN, nan and null")
      ->allow_extra_args(false)
      ->type_name("WORD");
  add_path(app, "--out", arguments.out,
           "Directory for the model: new or empty (default: nothing is written)")
      ->type_name("DIR");
  add_path(app, "--contributions", arguments.contributions,
           "CSV file to write: what each feature contributed to each row of --eval-data")
      ->type_name("FILE");
}

void add_estimator_model(CLI::App& app, EstimatorArguments& arguments) {
  app.add_option("--objective", arguments.objective,
                 "binary, multiclass or regression (default: as the label is)")
      ->check(CLI::IsMember(worker::objective_names()))
      ->type_name("NAME");
  app.add_option("--rounds", arguments.rounds, "Rounds of trees (default 100)")->type_name("N");
  app.add_option("--max-depth", arguments.max_depth, "Splits above a leaf (default 6)")
      ->type_name("N");
  app.add_option("--learning-rate", arguments.learning_rate, "Shrinks every leaf (default 0.1)")
      ->type_name("X");
  app.add_option("--lambda", arguments.lambda, "L2 penalty of leaves (default 1)")->type_name("X");
  app.add_option("--gamma", arguments.gamma, "Least gain of a split (default 0)")->type_name("X");
  app.add_option("--min-child-weight", arguments.min_child_weight,
                 "Least sum of second derivatives in a node (default 1)")
      ->type_name("X");
  app.add_option("--max-bin", arguments.max_bin, "Bins per column of numbers (default 255)")
      ->type_name("N");
  app.add_option("--max-cat-to-onehot", arguments.max_cat_to_onehot,
                 "Categories of fewer values are split one against the rest (default 4)")
      ->type_name("N");
  app.add_option("--subsample", arguments.subsample, "Share of the rows per round (default 1)")
      ->type_name("X");
  app.add_option("--colsample", arguments.colsample, "Share of the columns per tree (default 1)")
      ->type_name("X");
  app.add_option("--base-score", arguments.base_score,
                 "Prediction before any tree (default 0.5; regression: the mean)")
      ->type_name("X");
  app.add_option("--monotone", arguments.monotone,
                 "Predictions may not fall (1) or rise (-1) with this column")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME=1,...");
  app.add_option("--validation-fraction", arguments.validation_fraction,
                 "Share of the rows that is kept out, to say when to stop (default 0)")
      ->type_name("X");
  app.add_option("--early-stopping", arguments.early_stopping,
                 "Stop after so many rounds without a better validation loss")
      ->type_name("ROUNDS");
  app.add_option("--seed", arguments.seed, "Of all samples of rows and columns")
      ->capture_default_str()
      ->type_name("N");
  add_lanes(app, arguments.lanes);
}

}  // namespace

void add_estimator(CLI::App& program, EstimatorArguments& arguments) {
  CLI::App& app = *program.add_subcommand(
      "estimator", "Train a model of a table (CSV): boosted trees, in supersteps");
  app.footer(
      "Prints what the columns were taken for, and ends with a line\n"
      "  final: test_accuracy=0.8741 test_loss=0.2747 rounds=100 model_hash=xxh3:...\n"
      "The number of ranks never changes the model (docs/estimators.md).\n\n"
      "Examples:\n"
      "  superstep estimator train --kind boosted-trees --data houses.csv --label price\n"
      "  mpirun -n 2 superstep estimator train --kind boosted-trees --data adult.data \\\n"
      "    --eval-data adult.test --schema examples/adult_schema.csv --label income --out model");
  add_estimator_input(app, arguments);
  add_estimator_model(app, arguments);
}

}  // namespace superstep::cluster
