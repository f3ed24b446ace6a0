// The members of each kind of layer by name: the one list that configuration files are read and
// written with. Members are visited as (name, reference).
//
//   visit_fields(layer, [](std::string_view name, auto& member) { ... });   // layer: any
//   alternative
#pragma once

#include <array>
#include <concepts>
#include <string_view>
#include <type_traits>

#include "worker/layers.h"

namespace superstep::worker {

template <typename L, typename... Kinds>
concept AnyOf = (std::same_as<std::remove_const_t<L>, Kinds> || ...);

template <AnyOf<Dense> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("units", layer.units);
  visit("bias", layer.bias);
  visit("initializer", layer.initializer);
}

template <AnyOf<Conv2d> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("filters", layer.filters);
  visit("kernel", layer.kernel);
  visit("stride", layer.stride);
  visit("dilation", layer.dilation);
  visit("padding", layer.padding);
  visit("bias", layer.bias);
  visit("initializer", layer.initializer);
}

template <AnyOf<MaxPool, AveragePool> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("kernel", layer.kernel);
  visit("stride", layer.stride);
}

template <AnyOf<BatchNorm> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("epsilon", layer.epsilon);
  visit("momentum", layer.momentum);
}

template <AnyOf<Dropout> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("rate", layer.rate);
}

template <AnyOf<Embedding> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("vocabulary", layer.vocabulary);
  visit("units", layer.units);
}

template <AnyOf<Residual> L, typename Visitor>
void visit_fields(L& layer, Visitor&& visit) {
  visit("body", layer.body);
}

template <AnyOf<GlobalAveragePool, Relu, Tanh, Sigmoid, Flatten> L, typename Visitor>
void visit_fields(L& /*layer*/, Visitor&& /*visit*/) {}

// In the order of the alternatives of Layer.
inline constexpr std::array<std::string_view, std::variant_size_v<Layer>> kLayerKinds = {
    "dense",      "conv2d",   "max_pool", "average_pool", "global_average_pool",
    "batch_norm", "relu",     "tanh",     "sigmoid",      "flatten",
    "dropout",    "residual", "embedding"};
inline constexpr std::array<Initializer, 3> kInitializers = {
    Initializer::kHeNormal, Initializer::kGlorotUniform, Initializer::kZeros};
inline constexpr std::array<Padding, 2> kPaddings = {Padding::kValid, Padding::kSame};

}  // namespace superstep::worker
