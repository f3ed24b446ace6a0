// What every rank is doing, readable by the ranks that wait for it.
//
// Each rank writes its own entry with a few relaxed atomic stores per collective call (some
// nanoseconds); entries are read only to report ranks that do not arrive. The board lies in memory
// shared by the processes of a node, so that a stopped process can be named too.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bsp/call_log.h"
#include "bsp/shared_memory.h"

namespace superstep::bsp::internal {

enum class RankState : std::uint32_t { kNotStarted, kComputing, kInCall, kFinished };

// A text of fixed size, written and read without tearing a character.
template <std::size_t kWords>
class SharedText {
 public:
  static constexpr std::size_t kCharacters = kWords * sizeof(std::uint64_t);
  void store(std::string_view text);
  std::string load() const;

 private:
  std::array<std::atomic<std::uint64_t>, kWords> words_;
};

struct alignas(64) StatusSlot {
  std::atomic<std::uint32_t> state;
  std::atomic<std::uint32_t> kind;       // CallKind of the last call
  std::atomic<std::uint32_t> context;    // world of the last call
  std::atomic<std::int32_t> line;        // call site of the last call
  std::atomic<std::uint64_t> calls;      // calls entered in that world
  std::atomic<std::uint64_t> superstep;  // completed, of the world that Environment::run made
  std::atomic<std::int32_t> process_id;  // of the system, on the rank's machine
  std::atomic<std::int32_t> thread_id;
  SharedText<6> file;
  SharedText<4> phase;
};

// A copy of one entry.
struct RankStatus {
  bool visible = false;  // false: the rank is on another node
  RankState state = RankState::kNotStarted;
  CallKind kind = CallKind::kNone;
  std::uint32_t context = 0;
  std::uint64_t calls = 0;
  std::uint64_t superstep = 0;
  std::string site;  // "file:line", empty before the first call
  std::string phase;
  std::int32_t process_id = 0;  // 0: unknown, or on another machine
  std::int32_t thread_id = 0;
  // system_state() of its thread, asked on its machine, by StatusBoard::observe() only.
  std::string doing = {};
  std::string host = {};  // where it runs, when whoever asks knows it
};

class StatusBoard {
 public:
  // Bytes of a board for the ranks of a world.
  static std::int64_t bytes_for(int num_ranks);

  // visible[rank]: the rank writes to this very mapping.
  StatusBoard(SharedMapping mapping, std::vector<bool> visible);

  StatusSlot& slot(int rank) const;
  RankStatus read(int rank) const;
  // Also asks the system, which takes far longer.
  RankStatus observe(int rank) const;
  int num_ranks() const { return static_cast<int>(visible_.size()); }

 private:
  SharedMapping mapping_;
  std::vector<bool> visible_;
};

// The writing end of one rank.
class StatusWriter {
 public:
  explicit StatusWriter(StatusSlot& slot) : slot_(&slot) {}

  void enter_call(CallKind kind, std::uint32_t context, std::uint64_t calls, CallSite site);
  void leave_call();
  void set_superstep(std::uint64_t superstep);
  void set_phase(const char* phase);
  void set_state(RankState state);
  // Of the calling thread.
  void set_thread();

 private:
  StatusSlot* slot_;
  const char* last_file_ = nullptr;  // literals: the same pointer is the same text
  const char* last_phase_ = nullptr;
};

// What a waiting rank knows about the call it waits in.
struct AwaitedCall {
  CallKind kind = CallKind::kNone;
  std::uint32_t context = 0;
  std::uint64_t calls = 0;
};

struct MissingReport {
  std::string text;
  std::vector<int> missing;     // ranks of the world that waits; empty when ranks disagree
  bool ranks_disagree = false;  // everybody waits, but in different calls
};

// statuses[rank]: of every rank of the world that waits.
MissingReport report_missing(std::span<const RankStatus> statuses, const AwaitedCall& awaited);

}  // namespace superstep::bsp::internal
