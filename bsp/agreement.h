// Named values that must be the same on all ranks, compared together.
//
//   Agreement agreement;
//   agreement.add("commit", git_id());
//   agreement.add("model", layout.describe());
//   agreement.require(world);
//
// One small allgather of a hash when all agree; only when they do not are the values themselves
// exchanged. Every rank then throws the same CommunicationError (kRanksDisagree), which names each
// field that differs, the deviating ranks and both values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bsp/world.h"

namespace superstep::bsp {

class Agreement {
 public:
  // Every rank adds the same names in the same order. Values may be of any length.
  void add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }

  // Collective.
  void require(World& world, CallSite site = CallSite::here()) const;

  const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

}  // namespace superstep::bsp
