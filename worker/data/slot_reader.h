// Reads the samples of one slot of one step into the tensors a Program takes.
//
//   SlotReader reader(dataset, normalization, plan);
//   SlotBatch batch{.slot = 3};
//   reader.read(position, batch, [] { return KeepReading::kYes; });
//
// The order of an epoch is computed once and kept. Tensors of a slot that had as many samples
// before are used again, so that reading allocates nothing in the steady state. Not thread-safe;
// the Prefetcher has one in its thread, a rank that takes slots from others has one of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/shape.h"
#include "worker/data/batches.h"
#include "worker/data/dataset.h"

namespace superstep::worker {

enum class KeepReading : std::uint8_t { kYes, kNo };

class SlotReader {
 public:
  SlotReader(std::shared_ptr<const Dataset> dataset, Normalization normalization, BatchPlan plan);

  const BatchPlan& plan() const { return plan_; }

  // Fills `batch` with the samples of slot batch.slot. Asks `keep_reading` between pieces of 256
  // samples; after kNo the content is undefined and the result is kNo.
  KeepReading read(BatchPosition position, SlotBatch& batch,
                   const std::function<KeepReading()>& keep_reading);

 private:
  std::shared_ptr<const Dataset> dataset_;
  Normalization normalization_;
  BatchPlan plan_;
  kernels::Shape sample_shape_;
  std::optional<std::int64_t> order_epoch_;
  std::vector<std::int64_t> order_;
};

}  // namespace superstep::worker
