// Gloo's allreduce over TCP on this machine, which PyTorch's data-parallel training uses on CPUs;
// for benchmarks only, built where libgloo-dev is installed.
#pragma once

#include <memory>
#include <span>

#include "bsp/world.h"

namespace superstep::bsp {

class GlooPeer {
 public:
  // Collective; one lane per process. The ranks meet through files in a temporary directory.
  explicit GlooPeer(World& world);
  GlooPeer(const GlooPeer&) = delete;
  GlooPeer& operator=(const GlooPeer&) = delete;
  ~GlooPeer();

  // Whether this build has gloo; else the constructor fails a check.
  static bool is_there();

  // Collective: out = sum over ranks of in.
  void allreduce(std::span<const float> in, std::span<float> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace superstep::bsp
