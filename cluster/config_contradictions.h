// What the checks of a configuration's values against each other are made of. For the sources of
// contradictions() (cluster/config.h).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "cluster/config.h"
#include "cluster/config_keys.h"

namespace superstep::cluster {

using Complaints = std::vector<std::pair<std::string, std::string>>;  // key and what is wrong

// A key that has no effect beside another key's value is an error when it was changed from its
// default: whoever sets it expects something to happen.
class UnusedKeys {
 public:
  // Both must outlive this object.
  UnusedKeys(const RunConfig& config, Complaints& complaints)
      : config_(config), complaints_(complaints) {}

  void require_default(std::string_view path, std::string_view because) {
    const Key* key = find_key(path);
    if (value_text(*key, config_) != value_text(*key, defaults_)) {
      complaints_.emplace_back(path, fmt::format("'{}' = {} has no effect with {}", path,
                                                 value_text(*key, config_), because));
    }
  }

 private:
  const RunConfig& config_;
  const RunConfig defaults_;
  Complaints& complaints_;
};

enum class Used : std::uint8_t { kNo, kYes };

constexpr Used used_if(bool condition) {
  return condition ? Used::kYes : Used::kNo;
}

// Keys that say nothing unless `used`, for the reason `because`.
inline void check_used(UnusedKeys& unused, Used used, std::string_view because,
                       std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (used == Used::kNo) {
      unused.require_default(key, because);
    }
  }
}

// config_server.cpp: dedicated servers and policies.
void check_server(const RunConfig& config, UnusedKeys& unused, Complaints& complaints);

// config_federated_time.cpp: devices, timing and asynchrony of a federated run.
void check_virtual_time(const FederatedSection& federated, UnusedKeys& unused,
                        Complaints& complaints);

}  // namespace superstep::cluster
