// A model of boosted trees as a JSON model of XGBoost.
//
//   write_file_atomically(directory / "model.json", xgboost_json(model));
//   // Python: booster = xgboost.Booster(model_file="model.json")
//
// The format is that of XGBoost 1.7 (doc/model.schema); nothing is lost: thresholds, leaf values
// and sets are the same numbers. Categories are indices into the vocabularies, which stand, with
// the label's classes and the model's hash, in the attribute "superstep". XGBoost sends a category
// that it does not know to the left; give it NaN for those, as Superstep does.
#pragma once

#include <string>

#include "worker/estimator/boosted_trees.h"

namespace superstep::cluster {

std::string xgboost_json(const worker::BoostedTrees& model);

}  // namespace superstep::cluster
