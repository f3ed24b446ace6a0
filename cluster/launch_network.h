// The network that the hosts of a job share, for Open MPI's if_include parameters.
//
// Left alone, Open MPI may pick an interface that leads nowhere, such as a container's or a virtual
// machine's bridge that every host has with the same addresses, and the job hangs. The network of
// this machine that holds the addresses of all hosts is the right one.
//
//   if (auto network = common_network(addresses_of(hosts), local_networks())) {
//     ... --mca btl_tcp_if_include 10.1.0.0/16 --mca oob_tcp_if_include 10.1.0.0/16
//   }
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace superstep::cluster {

// IPv4, in host byte order.
struct Network {
  std::uint32_t address = 0;  // of this machine in it
  int prefix = 0;             // bits
  bool loopback = false;

  bool contains(std::uint32_t other) const;
  std::string to_text() const;  // "10.1.0.0/16"
};

std::vector<Network> local_networks();
// "10.1.2.3"; nullopt for anything else.
std::optional<std::uint32_t> parse_address(const std::string& text);
std::string address_text(std::uint32_t address);

// Addresses by name service; nullopt when a host has none (an alias of ssh, say).
std::optional<std::vector<std::uint32_t>> addresses_of(std::span<const std::string> hosts);

// The narrowest network of this machine that holds all the addresses which are not this machine's
// own; nullopt when there is none, or no other machine.
std::optional<Network> common_network(std::span<const std::uint32_t> addresses,
                                      std::span<const Network> networks);

}  // namespace superstep::cluster
