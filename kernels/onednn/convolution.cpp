#include "kernels/onednn/convolution.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "base/check.h"
#include "kernels/threads.h"

namespace superstep::kernels::onednn {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

constexpr std::int64_t kAlignment = 64;

enum class Choice : std::uint8_t { kOneDnn, kPlain };

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

memory::dims dims_of(const Shape& shape) {
  return {shape.sizes().begin(), shape.sizes().end()};
}

memory::desc described(const Shape& shape, Layout layout) {
  constexpr Tag kBlocks = kChannelBlock == 16 ? Tag::aBcd16b : Tag::aBcd8b;
  return {dims_of(shape), memory::data_type::f32, layout == Layout::kPlain ? Tag::abcd : kBlocks};
}

// Which of (x, filter, y) the outputs[0] of a pass is; the other two are the inputs, in this order
// except that the input gradient takes (dy, filter).
constexpr std::size_t output_operand(ConvolutionPass pass) {
  return pass == ConvolutionPass::kForward ? 2 : pass == ConvolutionPass::kBackwardInput ? 0 : 1;
}

// The primitive of one pass: its descriptors in the order input, filter, output of the forward
// pass.
struct Primitive {
  dnnl::primitive primitive;
  std::array<memory::desc, 3> descs;
  std::array<int, 3> arguments;
  memory::desc scratchpad;
};

template <typename Descriptor>
std::optional<Primitive> finish(const Descriptor& descriptor,
                                const std::array<memory::desc, 3>& descs,
                                std::array<int, 3> arguments) {
  if (std::string_view(descriptor.impl_info_str()).substr(0, 3) == "ref") {
    return std::nullopt;
  }
  return Primitive{dnnl::primitive(descriptor.get()), descs, arguments,
                   descriptor.scratchpad_desc()};
}

// The three tensors of a pass: operands of a product in its precision, results in float32.
std::array<memory::desc, 3> wished_descs(ConvolutionPass pass, const Convolution& convolution,
                                         Choice choice, Precision precision) {
  const Tag tag = choice == Choice::kPlain ? Tag::abcd : Tag::any;
  const std::array<Shape, 3> shapes{convolution.input_shape(), convolution.filter_shape(),
                                    convolution.output_shape()};
  std::array<memory::desc, 3> descs;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const bool rounded = precision == Precision::kBfloat16 && i != output_operand(pass);
    descs[i] = memory::desc(dims_of(shapes[i]),
                            rounded ? memory::data_type::bf16 : memory::data_type::f32, tag);
  }
  return descs;
}

std::optional<Primitive> make_primitive(ConvolutionPass pass, const Convolution& convolution,
                                        Choice choice, Precision precision) {
  const auto [x, filter, y] = wished_descs(pass, convolution, choice, precision);
  const auto [hint_x, hint_filter, hint_y] =
      wished_descs(ConvolutionPass::kForward, convolution, choice, precision);
  const Window::Axis& rows = convolution.window.rows;
  const Window::Axis& columns = convolution.window.columns;
  const memory::dims strides{rows.stride, columns.stride};
  const memory::dims dilates{rows.dilation - 1, columns.dilation - 1};
  const memory::dims low{rows.begin, columns.begin};
  const memory::dims high{rows.end, columns.end};
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::primitive_attr attributes = user_scratchpad();

  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, direct, hint_x, hint_filter, hint_y, strides, dilates,
       low, high},
      attributes, cpu());
  if (pass == ConvolutionPass::kForward) {
    return finish(forward, {forward.src_desc(), forward.weights_desc(), forward.dst_desc()},
                  {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST});
  }
  if (pass == ConvolutionPass::kBackwardInput) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        {direct, x, filter, y, strides, dilates, low, high}, attributes, cpu(), forward);
    return finish(backward,
                  {backward.diff_src_desc(), backward.weights_desc(), backward.diff_dst_desc()},
                  {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST});
  }
  const dnnl::convolution_backward_weights::primitive_desc backward(
      {direct, x, filter, y, strides, dilates, low, high}, attributes, cpu(), forward);
  return finish(backward,
                {backward.src_desc(), backward.diff_weights_desc(), backward.diff_dst_desc()},
                {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST});
}

// No implementation at all is an exception in oneDNN's C++ API and an ordinary answer here.
std::optional<Primitive> try_primitive(ConvolutionPass pass, const Convolution& convolution,
                                       Choice choice, Precision precision) {
  try {
    return make_primitive(pass, convolution, choice, precision);
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_unimplemented) {
      return std::nullopt;
    }
    throw;
  }
}

std::int64_t padded(std::size_t bytes) {
  return (static_cast<std::int64_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
}

memory unbound(const memory::desc& desc) {
  return memory(desc, cpu(), nullptr);
}

// One tensor of the convolution: as it lies in the program, and in the layout of the primitive, in
// the workspace. One memory object serves both when the layouts agree.
class Operand {
 public:
  enum class Direction : std::uint8_t { kIn, kOut };

  Operand(const memory::desc& given, const memory::desc& chosen, Direction direction)
      : direction_(direction), tensor_(unbound(given)) {
    if (tensor_.get_desc() == chosen) {
      return;
    }
    inner_ = unbound(chosen);
    const memory::desc from = direction == Direction::kIn ? tensor_.get_desc() : chosen;
    const memory::desc to = direction == Direction::kIn ? chosen : tensor_.get_desc();
    const dnnl::reorder::primitive_desc reorder(cpu(), from, cpu(), to, user_scratchpad());
    scratchpad_bytes_ = reorder.scratchpad_desc().get_size();
    scratchpad_ = unbound(reorder.scratchpad_desc());
    reorder_ = dnnl::reorder(reorder);
    const memory& source = direction == Direction::kIn ? tensor_ : inner_;
    const memory& target = direction == Direction::kIn ? inner_ : tensor_;
    arguments_[0] = {DNNL_ARG_FROM, source.get()};
    arguments_[1] = {DNNL_ARG_TO, target.get()};
    arguments_[2] = {DNNL_ARG_SCRATCHPAD, scratchpad_.get()};
  }

  bool reordered() const { return static_cast<bool>(reorder_); }
  Direction direction() const { return direction_; }
  std::int64_t inner_bytes() const {
    return reordered() ? padded(inner_.get_desc().get_size()) : 0;
  }
  std::size_t scratchpad_bytes() const { return scratchpad_bytes_; }
  dnnl_memory_t primitive_memory() const { return reordered() ? inner_.get() : tensor_.get(); }

  void bind(const std::byte* tensor, std::byte* inner, std::byte* scratchpad,
            const dnnl::stream& stream) const {
    tensor_.set_data_handle(const_cast<std::byte*>(tensor), stream);
    if (reordered()) {
      inner_.set_data_handle(inner, stream);
      scratchpad_.set_data_handle(scratchpad, stream);
    }
  }

  void reorder(const dnnl::stream& stream) const {
    const dnnl_status_t status = dnnl_primitive_execute(
        reorder_.get(), stream.get(), static_cast<int>(arguments_.size()), arguments_.data());
    SUPERSTEP_CHECK(status == dnnl_success, "oneDNN reorder failed with status",
                    static_cast<int>(status));
  }

 private:
  Direction direction_;
  memory tensor_;
  memory inner_;
  memory scratchpad_;
  std::size_t scratchpad_bytes_ = 0;
  dnnl::reorder reorder_;
  std::array<dnnl_exec_arg_t, 3> arguments_{};
};

class OneDnnConvolution final : public Kernel {
 public:
  OneDnnConvolution(ConvolutionPass pass, const Convolution& convolution,
                    const ImageLayouts& layouts, Primitive primitive)
      : pass_(pass),
        team_(team_size()),
        primitive_(std::move(primitive)),
        stream_(cpu()),
        scratchpad_(unbound(primitive_.scratchpad)) {
    const std::array<memory::desc, 3> given{described(convolution.input_shape(), layouts.x),
                                            described(convolution.filter_shape(), Layout::kPlain),
                                            described(convolution.output_shape(), layouts.y)};
    std::size_t scratchpad = primitive_.scratchpad.get_size();
    for (std::size_t i = 0; i < 3; ++i) {
      operands_.emplace_back(
          given[i], primitive_.descs[i],
          i == output_operand(pass) ? Operand::Direction::kOut : Operand::Direction::kIn);
      scratchpad = std::max(scratchpad, operands_[i].scratchpad_bytes());
      arguments_[i] = {primitive_.arguments[i], operands_[i].primitive_memory()};
      inner_bytes_ += operands_[i].inner_bytes();
    }
    arguments_[3] = {DNNL_ARG_SCRATCHPAD, scratchpad_.get()};
    workspace_bytes_ = inner_bytes_ + padded(scratchpad);
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes_; }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    const TeamScope team(team_);
    bind(inputs, outputs[0], workspace);
    for (const Operand& operand : operands_) {
      if (operand.reordered() && operand.direction() == Operand::Direction::kIn) {
        operand.reorder(stream_);
      }
    }
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive_.primitive.get(), stream_.get(),
                               static_cast<int>(arguments_.size()), arguments_.data());
    SUPERSTEP_CHECK(status == dnnl_success, "oneDNN convolution failed with status",
                    static_cast<int>(status));
    if (const Operand& output = operands_[output_operand(pass_)]; output.reordered()) {
      output.reorder(stream_);
    }
    dnnl_stream_wait(stream_.get());
  }

 private:
  void bind(std::span<const Tensor> inputs, Tensor& output, std::span<std::byte> workspace) const {
    std::array<const std::byte*, 3> tensors{};
    switch (pass_) {
      case ConvolutionPass::kForward:
        tensors = {inputs[0].bytes(), inputs[1].bytes(), output.mutable_bytes()};
        break;
      case ConvolutionPass::kBackwardInput:
        tensors = {output.mutable_bytes(), inputs[1].bytes(), inputs[0].bytes()};
        break;
      case ConvolutionPass::kBackwardFilter:
        tensors = {inputs[0].bytes(), output.mutable_bytes(), inputs[1].bytes()};
        break;
    }
    std::byte* inner = workspace.data();
    std::byte* scratchpad = workspace.data() + inner_bytes_;
    for (std::size_t i = 0; i < 3; ++i) {
      operands_[i].bind(tensors[i], inner, scratchpad, stream_);
      inner += operands_[i].inner_bytes();
    }
    scratchpad_.set_data_handle(scratchpad, stream_);
  }

  ConvolutionPass pass_;
  int team_;
  Primitive primitive_;
  dnnl::stream stream_;
  memory scratchpad_;
  std::vector<Operand> operands_;
  std::array<dnnl_exec_arg_t, 4> arguments_{};
  std::int64_t inner_bytes_ = 0;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace

bool is_profitable(ConvolutionPass pass, const Convolution& convolution) {
  constexpr std::int64_t kFewestChannels = 4;
  return pass != ConvolutionPass::kBackwardInput || convolution.in_channels >= kFewestChannels;
}

std::unique_ptr<Kernel> make_convolution_kernel(ConvolutionPass pass,
                                                const Convolution& convolution,
                                                const ImageLayouts& layouts, Precision precision) {
  const TeamScope team(team_size());  // oneDNN plans for the threads it sees now
  std::optional<Primitive> primitive = try_primitive(pass, convolution, Choice::kOneDnn, precision);
  if (!primitive) {
    primitive = try_primitive(pass, convolution, Choice::kPlain, precision);
  }
  if (!primitive) {
    return nullptr;
  }
  return std::make_unique<OneDnnConvolution>(pass, convolution, layouts, *std::move(primitive));
}

}  // namespace superstep::kernels::onednn
