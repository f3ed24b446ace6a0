// What Model::build throws where a layer does not fit, with the layer's position for those who know
// where its description came from.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace superstep::worker {

class LayerError : public InvalidArgument {
 public:
  LayerError(std::vector<std::size_t> position, std::string_view what)
      : InvalidArgument("Model::build", what), position_(std::move(position)) {}

  // Index in the list of layers, then in the body of that residual layer, and so on.
  const std::vector<std::size_t>& position() const noexcept { return position_; }

 private:
  std::vector<std::size_t> position_;
};

}  // namespace superstep::worker
