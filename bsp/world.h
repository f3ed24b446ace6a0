// What a rank sees: its place among processes, lanes and nodes, sync(), collectives and messages.
//
// Ranks are processes x lanes, numbered node-major: ranks of one node are contiguous whatever
// mapping mpirun chose. A World belongs to one rank (one thread); it is not thread-safe and must
// outlive every Var, Coarray, Queue, SharedArray and sub-world made from it. All members that
// communicate are collective: every rank of the world calls them in the same order with matching
// arguments.
//
//   environment.run(options, [](World& world) {
//     double sum = world.allreduce(double(world.rank()), ReduceOp::kSum);
//     world.sync();
//   });
//
// Costs are given as w + g*h + l (Valiant 1990; Bisseling 2004), h in bytes.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "bsp/call_site.h"

namespace superstep::bsp {

class OutgoingObserver;  // bsp/outgoing_observer.h

namespace internal {
class Team;          // the shared state of a world's ranks within one process, and its transport
class MessageStore;  // puts, gets and sends waiting for sync()
}  // namespace internal

template <typename T>
concept Element = std::is_arithmetic_v<T>;

enum class ReduceOp : std::uint8_t { kSum, kMin, kMax };

enum class DataType : std::uint8_t {
  kBool,
  kInt8,
  kUint8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
  kFloat32,
  kFloat64
};
template <Element T>
constexpr DataType data_type_of();

// Sharing levels, inner to outer. Ranks of one process share an address space, ranks of one node
// share memory.
enum class Level : std::uint8_t { kProcess, kNode, kWorld };

// One message of an exchange(): `bytes` must remain valid until exchange() returns.
struct Outgoing {
  int to = 0;
  std::span<const std::byte> bytes;
};
struct Incoming {
  int from = 0;
  std::span<std::byte> bytes;
};

// Bytes and time a rank spent since the last reset; parts of the superstep's record.
struct TrafficCounters {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t num_syncs = 0;
  std::chrono::nanoseconds sync_wait{0};
};

class World {
 public:
  struct State;  // bsp/world_state.h, for the sources of bsp

  World(World&&) noexcept;
  World& operator=(World&&) = delete;
  ~World();

  int rank() const;
  int size() const;
  int next_rank() const { return rank() + 1 == size() ? 0 : rank() + 1; }
  int process() const;  // index of this rank's process
  int num_processes() const;
  int lane() const;  // index of this rank within its process
  int node() const { return node_of(rank()); }
  int num_nodes() const;
  int node_of(int rank) const;
  // Ranks that share `level` with this rank, ascending, this rank included.
  std::span<const int> ranks_at(Level level) const;
  std::string host_of(int rank) const;

  // --- supersteps ---
  // Ends the superstep: every put, get and send becomes visible; verifies that all ranks made the
  // same sequence of collective calls (a mismatch names the first differing call, the ranks, both
  // call sites). Past the deadline it throws CommunicationError (kStoppedResumable) that names the
  // missing ranks with their superstep, phase and call site. Cost l (+ g*h of the pending
  // messages).
  void sync(CallSite site = CallSite::here());
  std::uint64_t superstep() const;  // number of completed sync() calls
  // This rank has nothing more to do unless others send it something. Holds for the superstep that
  // the next sync() ends: a rank that wants to stay halted votes in each.
  void vote_to_halt();
  // Did every rank vote in the superstep before the last sync(), and no rank put or send? The same
  // on all ranks.
  bool all_halted() const;
  // What this rank is doing, for reports about ranks that do not arrive. `phase` must be a literal.
  void set_phase(const char* phase);
  void set_deadline(std::chrono::milliseconds deadline);
  // Null: nobody. It must outlive its time here. For all worlds of this rank.
  void set_outgoing_observer(OutgoingObserver* observer);

  // --- collectives (rank order is tree order, so results have the same bits on every rank) ---
  // Binomial tree: ceil(log2 p) (g*n + l).
  template <Element T>
  void broadcast(std::span<T> data, int root, CallSite site = CallSite::here()) {
    broadcast_bytes(std::as_writable_bytes(data), data_type_of<T>(), root, site);
  }
  // out[i] = op over ranks of in[i]; in and out may be the same span. For n bytes: on one node
  // through shared memory (bsp/node_allreduce.h), 2 n read and n written per rank, one meeting per
  // chunk and one more. Over N nodes of one rank reduce_scatter + allgather, 2 ((p - 1) / p g*n +
  // l), of several ranks over the sharing levels, 2 (N - 1)/N n between nodes per node and 4 l; a
  // few elements go to every rank at once, (p - 1) g*n + l (docs/collectives.md).
  template <Element T>
  void allreduce(std::span<const T> in, std::span<T> out, ReduceOp op,
                 CallSite site = CallSite::here()) {
    allreduce_bytes(std::as_bytes(in), std::as_writable_bytes(out), data_type_of<T>(), op, site);
  }
  template <Element T>
  T allreduce(T value, ReduceOp op, CallSite site = CallSite::here()) {
    T result{};
    allreduce(std::span<const T>(&value, 1), std::span<T>(&result, 1), op, site);
    return result;
  }
  // `in` holds sum(counts) elements; rank r receives the reduced part of length counts[r].
  template <Element T>
  void reduce_scatter(std::span<const T> in, std::span<T> out, std::span<const std::int64_t> counts,
                      ReduceOp op, CallSite site = CallSite::here()) {
    reduce_scatter_bytes(std::as_bytes(in), std::as_writable_bytes(out), counts, data_type_of<T>(),
                         op, site);
  }
  // out = concatenation of every rank's `in`, counts[r] elements from rank r.
  template <Element T>
  void allgather(std::span<const T> in, std::span<T> out, std::span<const std::int64_t> counts,
                 CallSite site = CallSite::here()) {
    allgather_bytes(std::as_bytes(in), std::as_writable_bytes(out), counts, data_type_of<T>(),
                    site);
  }
  template <Element T>
  std::vector<T> allgather(const T& value, CallSite site = CallSite::here()) {
    std::vector<T> all(static_cast<std::size_t>(size()));
    const std::vector<std::int64_t> ones(all.size(), 1);
    allgather(std::span<const T>(&value, 1), std::span<T>(all), ones, site);
    return all;
  }
  // As allgather, but only root receives (out is ignored elsewhere).
  template <Element T>
  void gather(std::span<const T> in, std::span<T> out, std::span<const std::int64_t> counts,
              int root, CallSite site = CallSite::here()) {
    gather_bytes(std::as_bytes(in), std::as_writable_bytes(out), counts, data_type_of<T>(), root,
                 site);
  }
  // send_counts[r] elements go to rank r, receive_counts[r] come from rank r, both packed in rank
  // order.
  template <Element T>
  void alltoallv(std::span<const T> in, std::span<const std::int64_t> send_counts, std::span<T> out,
                 std::span<const std::int64_t> receive_counts, CallSite site = CallSite::here()) {
    alltoallv_bytes(std::as_bytes(in), send_counts, std::as_writable_bytes(out), receive_counts,
                    data_type_of<T>(), site);
  }
  // Strings of any length from every rank, in rank order (control messages; not for bulk data).
  std::vector<std::string> allgather_string(std::string_view mine,
                                            CallSite site = CallSite::here());

  // One round of point-to-point messages whose sizes both sides know; collective (a rank may have
  // none). Within a process a copy, between processes MPI messages, chunked. Messages between one
  // ordered pair arrive in the order listed. Cost g*h + l.
  void exchange(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming,
                CallSite site = CallSite::here());

  // Throws CommunicationError (kRanksDisagree) on every rank unless `value` is the same on all: the
  // message names the field, the deviating ranks and both values.
  void require_same(std::string_view name, std::string_view value,
                    CallSite site = CallSite::here());

  // A world of the ranks that gave the same color, ordered by (key, rank). Collective.
  World split(int color, int key, CallSite site = CallSite::here());

  const TrafficCounters& traffic() const;
  void reset_traffic();

 private:
  friend struct WorldAccess;  // for Var, Coarray, Queue, SharedArray and Environment
  explicit World(std::unique_ptr<State> state);

  void broadcast_bytes(std::span<std::byte> data, DataType type, int root, CallSite site);
  void allreduce_bytes(std::span<const std::byte> in, std::span<std::byte> out, DataType type,
                       ReduceOp op, CallSite site);
  void reduce_scatter_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                            std::span<const std::int64_t> counts, DataType type, ReduceOp op,
                            CallSite site);
  void allgather_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                       std::span<const std::int64_t> counts, DataType type, CallSite site);
  void gather_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                    std::span<const std::int64_t> counts, DataType type, int root, CallSite site);
  void alltoallv_bytes(std::span<const std::byte> in, std::span<const std::int64_t> send_counts,
                       std::span<std::byte> out, std::span<const std::int64_t> receive_counts,
                       DataType type, CallSite site);

  std::unique_ptr<State> state_;
};

// Of the messages between processes: ranks with another one do not understand each other.
int wire_version();

template <Element T>
constexpr DataType data_type_of() {
  if constexpr (std::is_same_v<T, bool>) {
    return DataType::kBool;
  } else if constexpr (std::is_same_v<T, float>) {
    return DataType::kFloat32;
  } else if constexpr (std::is_same_v<T, double>) {
    return DataType::kFloat64;
  } else {
    static_assert(std::is_integral_v<T>, "no MPI data type for this element");
    constexpr bool is_signed = std::is_signed_v<T>;
    switch (sizeof(T)) {
      case 1:
        return is_signed ? DataType::kInt8 : DataType::kUint8;
      case 2:
        return is_signed ? DataType::kInt16 : DataType::kUint16;
      case 4:
        return is_signed ? DataType::kInt32 : DataType::kUint32;
      default:
        return is_signed ? DataType::kInt64 : DataType::kUint64;
    }
  }
}

}  // namespace superstep::bsp
