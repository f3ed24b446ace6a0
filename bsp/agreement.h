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

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bsp/world.h"

namespace superstep::bsp {

// Names and values.
using AgreementFields = std::vector<std::pair<std::string, std::string>>;

class Agreement {
 public:
  // Every rank adds the same names in the same order. Values may be of any length.
  void add(std::string name, std::string value) {
    fields_.emplace_back(std::move(name), std::move(value));
  }

  // Collective.
  void require(World& world, CallSite site = CallSite::here()) const;

  const AgreementFields& fields() const { return fields_; }

 private:
  AgreementFields fields_;
};

namespace internal {

// The fields as they travel. decode_fields() throws CommunicationError (kRanksDisagree) for a text
// that encode_fields() did not write.
std::string encode_fields(const AgreementFields& fields);
AgreementFields decode_fields(std::string_view text, int rank);

// One text per field that differs from rank 0's. There is at least one rank.
std::vector<std::string> differences(std::span<const AgreementFields> by_rank);

}  // namespace internal

}  // namespace superstep::bsp
