// What GlooPeer is where libgloo-dev is not installed.
#include "base/check.h"
#include "bsp/gloo_peer.h"

namespace superstep::bsp {

struct GlooPeer::State {};

GlooPeer::GlooPeer(World& /*world*/) {
  SUPERSTEP_CHECK(is_there(), "built without gloo");
}
GlooPeer::~GlooPeer() = default;

bool GlooPeer::is_there() {
  return false;
}

void GlooPeer::allreduce(std::span<const float> /*in*/, std::span<float> /*out*/) {}

}  // namespace superstep::bsp
