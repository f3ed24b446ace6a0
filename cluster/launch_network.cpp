#include "cluster/launch_network.h"

#include <algorithm>
#include <bit>
#include <memory>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

namespace superstep::cluster {

namespace {

constexpr int kBits = 32;

std::uint32_t mask_of(int prefix) {
  return prefix == 0 ? 0U : ~std::uint32_t{0} << static_cast<unsigned int>(kBits - prefix);
}

std::uint32_t address_in(const sockaddr* address) {
  return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
}

std::optional<std::uint32_t> address_of(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  return address_in(found->ai_addr);
}

}  // namespace

bool Network::contains(std::uint32_t other) const {
  return (address & mask_of(prefix)) == (other & mask_of(prefix));
}

std::string Network::to_text() const {
  return fmt::format("{}/{}", address_text(address & mask_of(prefix)), prefix);
}

std::optional<std::uint32_t> parse_address(const std::string& text) {
  in_addr address{};
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1
             ? std::optional<std::uint32_t>(ntohl(address.s_addr))
             : std::nullopt;
}

std::string address_text(std::uint32_t address) {
  return fmt::format("{}.{}.{}.{}", address >> 24U, (address >> 16U) & 255U, (address >> 8U) & 255U,
                     address & 255U);
}

std::vector<Network> local_networks() {
  std::vector<Network> networks;
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) {
    return networks;
  }
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, &::freeifaddrs);
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_netmask == nullptr ||
        entry->ifa_addr->sa_family != AF_INET || (entry->ifa_flags & IFF_UP) == 0) {
      continue;
    }
    networks.push_back({.address = address_in(entry->ifa_addr),
                        .prefix = std::popcount(address_in(entry->ifa_netmask)),
                        .loopback = (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return networks;
}

std::optional<std::vector<std::uint32_t>> addresses_of(std::span<const std::string> hosts) {
  std::vector<std::uint32_t> addresses;
  for (const std::string& host : hosts) {
    const std::optional<std::uint32_t> address = address_of(host);
    if (!address) {
      return std::nullopt;
    }
    addresses.push_back(*address);
  }
  return addresses;
}

std::optional<Network> common_network(std::span<const std::uint32_t> addresses,
                                      std::span<const Network> networks) {
  std::vector<std::uint32_t> others;
  for (const std::uint32_t address : addresses) {
    const bool is_own = std::any_of(networks.begin(), networks.end(), [&](const Network& network) {
      return network.address == address || (network.loopback && network.contains(address));
    });
    if (!is_own) {
      others.push_back(address);
    }
  }
  std::optional<Network> best;
  for (const Network& network : networks) {
    const bool holds_all =
        !network.loopback && std::all_of(others.begin(), others.end(), [&](std::uint32_t address) {
          return network.contains(address);
        });
    if (!others.empty() && holds_all && (!best || network.prefix > best->prefix)) {
      best = network;
    }
  }
  return best;
}

}  // namespace superstep::cluster
