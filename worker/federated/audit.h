// A record of everything that leaves a rank during federated training, which ends the run when it
// is a sample, or something that nobody declared.
//
//   Audit audit(world);                       // from here on every message is looked at
//   audit.protect(clients->sample_memory());  // these bytes never leave
//   audit.note("update_sums", AuditWay::kSharedMemory, bytes);
//   for (const AuditEntry& entry : audit.take()) ...
//
// A message is of the type that its phase declares (World::set_phase): records of clients are sent
// in the phase "share records", sums of updates in "exchange". In the phase "compute", when clients
// train, and in every other phase nothing may be sent. A message whose bytes overlap protected
// memory, or contain the canary, is a sample that leaves: CommunicationError with rank, superstep,
// type and call. Copies of samples elsewhere are found by the canary alone: a pattern that a test
// puts into its samples, for which every message is searched.
//
// It is a check of this program, not protection against someone who changes it. Thread-compatible;
// one per rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bsp/outgoing_observer.h"
#include "bsp/world.h"

namespace superstep::worker {

enum class AuditWay : std::uint8_t { kMessage, kSharedMemory, kFile };
std::string_view name_of(AuditWay way);

// All of one type that left a rank by one way since take().
struct AuditEntry {
  int rank = 0;
  std::string type;
  AuditWay way = AuditWay::kMessage;
  std::int64_t count = 0;
  std::int64_t bytes = 0;  // a message to three ranks counts three times
};

// The type that a phase declares; empty: nothing may leave in it.
std::string_view audited_type(std::string_view phase, std::string_view call);

class Audit final : public bsp::OutgoingObserver {
 public:
  explicit Audit(bsp::World& world);
  Audit(const Audit&) = delete;
  Audit& operator=(const Audit&) = delete;
  ~Audit() override;

  using Memory = std::span<const std::byte>;
  // Until forget(), which must come before the memory is used for something else.
  void protect(Memory samples);
  void protect(const std::vector<Memory>& samples);
  void forget() { protected_.clear(); }
  // Every message is searched for these bytes: one pass over everything that is sent.
  void set_canary(std::vector<std::byte> canary) { canary_ = std::move(canary); }

  void on_outgoing(const bsp::OutgoingBytes& outgoing) override;
  // What others can read without a message.
  void note(std::string_view type, AuditWay way, std::int64_t bytes);

  // From here on nothing is looked at.
  void stop();

  // Collective, in the phase "audit": of all ranks, in rank order, the same on every rank.
  std::vector<AuditEntry> take();

 private:
  [[noreturn]] void fail(const bsp::OutgoingBytes& outgoing, std::string_view type,
                         const std::string& what) const;

  bsp::World& world_;
  std::vector<Memory> protected_;
  std::vector<std::byte> canary_;
  std::map<std::pair<std::string, AuditWay>, AuditEntry> entries_;
};

}  // namespace superstep::worker
