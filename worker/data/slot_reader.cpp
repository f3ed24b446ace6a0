#include "worker/data/slot_reader.h"

#include <algorithm>
#include <utility>

namespace superstep::worker {

namespace {

constexpr std::size_t kPieceSamples = 256;  // between two looks at keep_reading

kernels::Shape batch_shape(std::int64_t num_samples, const kernels::Shape& sample_shape) {
  std::vector<std::int64_t> sizes{num_samples};
  sizes.insert(sizes.end(), sample_shape.sizes().begin(), sample_shape.sizes().end());
  return kernels::Shape(std::move(sizes));
}

void resize(SlotBatch& batch, std::int64_t num_samples, const kernels::Shape& sample_shape) {
  if (batch.labels.defined() && batch.num_samples() == num_samples) {
    return;
  }
  using kernels::DType;
  using kernels::Tensor;
  batch.images = Tensor::uninitialized(batch_shape(num_samples, sample_shape), DType::kFloat32);
  batch.labels = Tensor::uninitialized({num_samples}, DType::kInt64);
  batch.sample_ids = Tensor::uninitialized({num_samples}, DType::kInt64);
}

}  // namespace

SlotReader::SlotReader(std::shared_ptr<const Dataset> dataset, Normalization normalization,
                       BatchPlan plan)
    : dataset_(std::move(dataset)),
      normalization_(normalization),
      plan_(std::move(plan)),
      sample_shape_(dataset_->sample_shape()) {}

KeepReading SlotReader::read(BatchPosition position, SlotBatch& batch,
                             const std::function<KeepReading()>& keep_reading) {
  if (order_epoch_ != position.epoch) {
    order_epoch_.reset();
    order_ = plan_.order(position.epoch);
    order_epoch_ = position.epoch;
  }
  const std::span<const std::int64_t> indices =
      plan_.slot_indices(order_, position.step_in_epoch, batch.slot);
  resize(batch, static_cast<std::int64_t>(indices.size()), sample_shape_);
  std::copy(indices.begin(), indices.end(), batch.sample_ids.mutable_data<std::int64_t>().begin());
  const std::span<float> images = batch.images.mutable_data<float>();
  const std::span<std::int64_t> labels = batch.labels.mutable_data<std::int64_t>();
  const std::size_t elements = indices.empty() ? 0 : images.size() / indices.size();
  for (std::size_t first = 0; first < indices.size(); first += kPieceSamples) {
    if (keep_reading() == KeepReading::kNo) {
      return KeepReading::kNo;
    }
    const std::size_t count = std::min(kPieceSamples, indices.size() - first);
    dataset_->read(indices.subspan(first, count), normalization_,
                   images.subspan(first * elements, count * elements),
                   labels.subspan(first, count));
  }
  return KeepReading::kYes;
}

}  // namespace superstep::worker
