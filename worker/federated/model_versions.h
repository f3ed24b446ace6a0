// Older models that clients in training still need, in memory that the ranks of a node share.
//
//   versions.keep(schedule.versions_in_training(), version, parameters);   // before the update
//   local.train(versions.at(flight.version), ...);
//
// Memory: layout.size() * 4 bytes per version and node. An array is made when one more version must
// be kept than ever before, and used again for later ones.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bsp/shared_array.h"
#include "bsp/world.h"
#include "paramserver/checkpoint.h"
#include "paramserver/layout.h"

namespace superstep::worker {

class ModelVersions {
 public:
  // Both must outlive this object.
  ModelVersions(bsp::World& world, const paramserver::ParameterLayout& layout);

  // Collective when it makes an array; the same arguments on every rank. Forgets what is not
  // `needed`, then copies `current`, which is `version`, if that is. No rank reads from any version
  // meanwhile, and nobody reads the copy, or writes `current`, before the next sync.
  void keep(std::span<const std::int64_t> needed, std::int64_t version,
            std::span<const float> current);
  // Valid until the next keep().
  std::span<const float> at(std::int64_t version) const;

  std::int64_t count() const { return static_cast<std::int64_t>(slots_.size()); }
  std::int64_t bytes_per_node() const;  // arrays that were ever needed
  // What this rank writes of a version that its node keeps.
  paramserver::ElementRange part_of_node() const;

  // What a checkpoint holds, and its inverse (collective): the versions named.
  std::vector<paramserver::ArrayPart> parts() const;
  void restore(const paramserver::CheckpointReader& reader, std::span<const std::int64_t> versions);
  // The versions that a checkpoint holds, ascending.
  static std::vector<std::int64_t> versions_in(const paramserver::Manifest& manifest);

 private:
  std::span<float> take(std::int64_t version);

  bsp::World& world_;
  const paramserver::ParameterLayout& layout_;
  std::vector<bsp::SharedArray<float>> arrays_;
  std::vector<std::size_t> unused_;            // places in arrays_
  std::map<std::int64_t, std::size_t> slots_;  // version to place
};

}  // namespace superstep::worker
