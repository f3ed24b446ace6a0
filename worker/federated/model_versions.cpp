#include "worker/federated/model_versions.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kVersionPrefix = "version_";

std::string array_of_version(std::int64_t version) {
  return fmt::format("{}{}", kVersionPrefix, version);
}

template <typename T>
std::span<T> part_of(std::span<T> whole, const paramserver::ElementRange& range) {
  return whole.subspan(as_size(range.begin), as_size(range.length()));
}

}  // namespace

ModelVersions::ModelVersions(bsp::World& world, const paramserver::ParameterLayout& layout)
    : world_(world), layout_(layout) {}

paramserver::ElementRange ModelVersions::part_of_node() const {
  const std::span<const int> ranks = world_.ranks_at(bsp::Level::kNode);
  const auto place = std::find(ranks.begin(), ranks.end(), world_.rank()) - ranks.begin();
  return layout_.shard(static_cast<int>(place), static_cast<int>(ranks.size()));
}

// An array for one more version.
std::span<float> ModelVersions::take(std::int64_t version) {
  if (unused_.empty()) {
    arrays_.emplace_back(world_, layout_.size());
    unused_.push_back(arrays_.size() - 1);
  }
  const std::size_t place = unused_.back();
  unused_.pop_back();
  slots_.emplace(version, place);
  return arrays_[place].span();
}

void ModelVersions::keep(std::span<const std::int64_t> needed, std::int64_t version,
                         std::span<const float> current) {
  const auto is_needed = [&](std::int64_t of) {
    return std::find(needed.begin(), needed.end(), of) != needed.end();
  };
  for (auto slot = slots_.begin(); slot != slots_.end();) {
    if (is_needed(slot->first)) {
      ++slot;
    } else {
      unused_.push_back(slot->second);
      slot = slots_.erase(slot);
    }
  }
  if (is_needed(version)) {
    const paramserver::ElementRange part = part_of_node();
    const std::span<const float> own = part_of(current, part);
    std::copy(own.begin(), own.end(), part_of(take(version), part).begin());
  }
}

std::span<const float> ModelVersions::at(std::int64_t version) const {
  const auto slot = slots_.find(version);
  SUPERSTEP_CHECK(slot != slots_.end(), "a version that is not kept:", version);
  return arrays_[slot->second].span();
}

std::int64_t ModelVersions::bytes_per_node() const {
  return static_cast<std::int64_t>(arrays_.size()) * layout_.size() *
         static_cast<std::int64_t>(sizeof(float));
}

std::vector<paramserver::ArrayPart> ModelVersions::parts() const {
  const paramserver::ElementRange shard = layout_.shard(world_.rank(), world_.size());
  std::vector<paramserver::ArrayPart> parts;
  for (const auto& [version, place] : slots_) {
    parts.push_back({.name = array_of_version(version),
                     .num_elements = layout_.size(),
                     .range = shard,
                     .values = part_of(std::span<const float>(arrays_[place].span()), shard)});
  }
  return parts;
}

std::vector<std::int64_t> ModelVersions::versions_in(const paramserver::Manifest& manifest) {
  std::vector<std::int64_t> versions;
  for (const paramserver::Manifest::Array& array : manifest.arrays) {
    const std::string_view name = array.name;
    if (name.starts_with(kVersionPrefix)) {
      std::int64_t version = 0;
      const char* const end = name.data() + name.size();
      const auto read = std::from_chars(name.data() + kVersionPrefix.size(), end, version);
      if (read.ec == std::errc() && read.ptr == end) {
        versions.push_back(version);
      }
    }
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

void ModelVersions::restore(const paramserver::CheckpointReader& reader,
                            std::span<const std::int64_t> versions) {
  for (const auto& [version, place] : slots_) {
    unused_.push_back(place);
  }
  slots_.clear();
  const paramserver::ElementRange part = part_of_node();
  for (const std::int64_t version : versions) {
    reader.read(array_of_version(version), part, part_of(take(version), part));
  }
  world_.sync();
}

}  // namespace superstep::worker
