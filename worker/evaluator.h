// Loss and accuracy of a model on a dataset, with the same bits for every world.
//
// The dataset is read in order in batches of its own, each cut into slots of its own; slots are
// dealt out contiguously (ranks beyond the slots only wait). Sums go through the fixed tree within
// a batch and from batch to batch in order.
#pragma once

#include <cstdint>
#include <memory>

#include "bsp/world.h"
#include "worker/data/dataset.h"
#include "worker/step_programs.h"

namespace superstep::worker {

struct Evaluation {
  double loss = 0.0;  // mean cross-entropy
  double accuracy = 0.0;
  std::int64_t num_samples = 0;
};

struct EvaluationOptions {
  std::int64_t batch = 1000;
  int slots = 8;
  Normalization normalization;
};

// Collective. No rank may be updating parameters meanwhile. Cost w + one allreduce of 24 bytes per
// slot.
Evaluation evaluate(bsp::World& world, StepPrograms& programs, const Dataset& dataset,
                    const EvaluationOptions& options);

}  // namespace superstep::worker
