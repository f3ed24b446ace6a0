// Classifies images in batches: CSV lines "index,class,p0,p1,...".
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file.h"
#include "cluster/commands.h"
#include "cluster/output_file.h"
#include "cluster/run_model.h"
#include "kernels/precision.h"
#include "kernels/tensor.h"
#include "kernels/threads.h"
#include "worker/data/idx.h"
#include "worker/metrics.h"

namespace superstep::cluster {

namespace {

using kernels::DType;
using kernels::Shape;
using kernels::Tensor;

constexpr std::int64_t kBatch = 256;

std::vector<Tensor> parameter_tensors(RunModel& run) {
  std::vector<Tensor> tensors;
  for (const paramserver::LayoutEntry& entry : run.model.layout().entries()) {
    auto* memory = reinterpret_cast<std::byte*>(run.parameters.data() + entry.offset);
    tensors.push_back(Tensor::borrow(entry.shape, DType::kFloat32, memory));
  }
  return tensors;
}

Tensor batch_of(const worker::IdxArray& images, std::int64_t begin, std::int64_t end,
                const RunModel& run) {
  const std::int64_t elements = run.model.sample_shape().num_elements();
  std::vector<std::int64_t> sizes{end - begin};
  const std::span<const std::int64_t> sample = run.model.sample_shape().sizes();
  sizes.insert(sizes.end(), sample.begin(), sample.end());
  Tensor batch = Tensor::uninitialized(Shape(std::move(sizes)), DType::kFloat32);
  const auto* from = images.values.data() + begin * elements;
  std::transform(from, from + (end - begin) * elements, batch.mutable_data<float>().begin(),
                 [&](std::uint8_t raw) {
                   return run.provenance.normalization.apply(static_cast<float>(raw));
                 });
  return batch;
}

std::string csv_row(std::int64_t index, std::int64_t predicted, std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - most);
  }
  std::string row = fmt::format("{},{}", index, predicted);
  for (const float logit : logits) {
    row += fmt::format(",{:.6f}", std::exp(static_cast<double>(logit) - most) / sum);
  }
  return row + '\n';
}

std::string csv_header(int num_classes) {
  std::string header = "index,class";
  for (int label = 0; label < num_classes; ++label) {
    header += fmt::format(",p{}", label);
  }
  return header + '\n';
}

// (N, H, W) of a file is (N, 1, H, W) of a model.
void require_fitting(const worker::IdxArray& images, const RunModel& run) {
  std::int64_t elements = 1;
  for (std::size_t axis = 1; axis < images.sizes.size(); ++axis) {
    elements *= images.sizes[axis];
  }
  if (elements != run.model.sample_shape().num_elements()) {
    throw DataError(
        "predict", images.path.string(), -1,
        fmt::format("the images do not fit the model: got {} values each, expected {} {}", elements,
                    run.model.sample_shape().num_elements(), run.model.sample_shape().to_string()));
  }
}

int predict(RunModel& run, const worker::IdxArray& images, const std::string& output,
            IfExists if_exists) {
  kernels::set_team_size(1);
  const std::vector<Tensor> parameters = parameter_tensors(run);
  const auto num_classes = static_cast<std::size_t>(run.model.num_classes());
  AtomicFile file(output, if_exists);
  file.write(csv_header(run.model.num_classes()));
  for (std::int64_t begin = 0; begin < images.num_items(); begin += kBatch) {
    const std::int64_t end = std::min(begin + kBatch, images.num_items());
    const worker::ForwardOutputs outputs =
        run.model.forward({.parameters = parameters,
                           .images = batch_of(images, begin, end, run),
                           .precision = kernels::precision_named(run.config.train.precision)},
                          worker::Mode::kEvaluation);
    const std::vector<std::int64_t> classes = worker::predict_classes(outputs.logits);
    const std::span<const float> logits = outputs.logits.data<float>();
    for (std::int64_t i = begin; i < end; ++i) {
      const auto row = static_cast<std::size_t>(i - begin);
      file.write(csv_row(i, classes[row], logits.subspan(row * num_classes, num_classes)));
    }
  }
  file.commit();
  fmt::print("{}: {} predictions\n", output, images.num_items());
  return 0;
}

}  // namespace

Work prepare_predict(const PredictArguments& arguments) {
  require_output("predict", "--output", arguments.output, if_exists(arguments.force));
  auto run = std::make_shared<RunModel>(
      load_run_model(RunDirectory(arguments.run_directory), arguments.checkpoint));
  if (const PathStatus input = look_at(arguments.input); !input.exists()) {
    throw InvalidArgument("predict", fmt::format("--input {}: {}", arguments.input, input.problem));
  }
  auto images = std::make_shared<worker::IdxArray>(
      worker::read_idx(arguments.input, worker::IdxContent::kImages));
  require_fitting(*images, *run);
  return [run, images, output = arguments.output, existing = if_exists(arguments.force)] {
    return predict(*run, *images, output, existing);
  };
}

}  // namespace superstep::cluster
