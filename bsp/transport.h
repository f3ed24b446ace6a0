// Bytes between the processes of a world. One thread per process (the leader of the team) uses a
// Transport; those of different worlds in one process may be used at the same time.
//
// Implementations: bsp/mpi/mpi_transport.h, and single_process_transport() for a program that was
// not launched by mpirun and never makes an MPI call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bsp/patience.h"

namespace superstep::bsp::internal {

// Grows when processes of an older build would misunderstand each other.
inline constexpr int kWireVersion = 3;

// Ranks are named in errors only. Messages between two processes match in the order they are
// listed.
struct ProcessSend {
  int process = 0;
  std::span<const std::byte> bytes;
  int from_rank = 0;
  int to_rank = 0;
};
struct ProcessReceive {
  int process = 0;
  std::span<std::byte> bytes;
  int from_rank = 0;
  int to_rank = 0;
};

// A short text to or from another process, outside of the order of exchanges.
struct ControlMessage {
  int process = 0;
  std::string text;
};

class Transport {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual ~Transport() = default;

  virtual int process() const = 0;  // of this transport's processes
  virtual int num_processes() const = 0;

  // Sends and receives all; empty messages do not travel. The memory must remain valid until the
  // call returns. Throws CommunicationError (routine, ranks) and what `patience` throws.
  virtual void exchange(std::span<const ProcessSend> sends,
                        std::span<const ProcessReceive> receives, Patience& patience) = 0;

  // A barrier: returns when every process has called it; `words` become their maxima over
  // processes.
  virtual void synchronise(std::span<std::uint64_t> words, Patience& patience) = 0;

  // Control messages: sent without waiting, received when one has come. They belong to the job, not
  // to a world, and processes are numbered as in the job. Thread-safe.
  virtual void post_control(ControlMessage message) = 0;
  virtual std::optional<ControlMessage> poll_control() = 0;

  // A number that no other reservation of any process of the job has: names a new world.
  virtual std::uint32_t reserve_context() = 0;
  // The transport of a world of some of these processes (indices here, in the order of the new
  // world). Does not communicate: all of them give the same context.
  virtual std::unique_ptr<Transport> subset(std::span<const int> processes,
                                            std::uint32_t context) = 0;
};

std::unique_ptr<Transport> single_process_transport();

// Every process's text, in process order. For control messages: two rounds.
std::vector<std::string> allgather_texts(Transport& transport, std::string_view mine,
                                         Patience& patience);

}  // namespace superstep::bsp::internal
