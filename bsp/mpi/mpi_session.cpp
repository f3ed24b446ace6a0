#include "bsp/mpi/mpi_session.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <list>
#include <mutex>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <mpi.h>
#include <time.h>

#include "base/check.h"
#include "base/checked_cast.h"
#include "base/env.h"

namespace superstep::bsp::internal {

// Shared by the session and the transports made from it.
struct MpiHandles {
  std::mutex mutex;  // held during every MPI call after set-up
  MPI_Comm communicator = MPI_COMM_NULL;
  int process = 0;
  int num_processes = 1;
  std::uint32_t max_context = 0;
  std::atomic<std::uint32_t> reservations{0};
  std::list<std::pair<MPI_Request, std::string>> posted;  // control messages under way
};

namespace {

// Two kinds of messages of one world never match each other.
enum class Channel : int { kData = 0, kSynchronise = 1, kControl = 2 };
constexpr int kChannels = 3;
// Names the set-up and control messages; worlds have contexts from 1 on.
constexpr std::uint32_t kJobContext = 0;

// Far below INT_MAX and a multiple of every element size.
constexpr std::size_t kChunkBytes = std::size_t{1} << 30;

int tag_of(std::uint32_t context, Channel channel) {
  return static_cast<int>(context) * kChannels + static_cast<int>(channel);
}

// Ranks for the error message; -1: does not apply.
struct Peers {
  int rank = -1;
  int peer = -1;
};

void check_mpi(int code, const char* routine, Peers peers = {}) {
  if (code == MPI_SUCCESS) {
    return;
  }
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  const std::string where =
      peers.rank < 0 ? std::string() : fmt::format(" (rank {}, peer {})", peers.rank, peers.peer);
  throw CommunicationError(routine,
                           fmt::format("MPI reports an error{}: got code {} \"{}\"", where, code,
                                       std::string_view(text, static_cast<std::size_t>(length))));
}

// Whether synchronise() calls MPI_Ibarrier: only the world of Environment::run does, because all
// calls on the communicator must come in the same order on all processes.
enum class Barrier : std::uint8_t { kMessages, kMessagesAndMpi };

class MpiTransport : public Transport {
 public:
  MpiTransport(std::shared_ptr<MpiHandles> handles, std::vector<int> members, std::uint32_t context,
               Barrier barrier);

  int process() const override { return process_; }
  int num_processes() const override { return static_cast<int>(members_.size()); }
  void exchange(std::span<const ProcessSend> sends, std::span<const ProcessReceive> receives,
                Patience& patience) override;
  void synchronise(std::span<std::uint64_t> words, Patience& patience) override;
  void post_control(ControlMessage message) override;
  std::optional<ControlMessage> poll_control() override;
  std::uint32_t reserve_context() override;
  std::unique_ptr<Transport> subset(std::span<const int> processes, std::uint32_t context) override;

 private:
  // What an open request is for.
  struct Pending {
    enum class Kind : std::uint8_t { kSend, kReceive, kBarrier };
    Kind kind = Kind::kSend;
    Peers peers{};
    std::size_t num_bytes = 0;
  };

  int tag(Channel channel) const { return tag_of(context_, channel); }
  void post_receive(const ProcessReceive& message, Channel channel);
  void post_send(const ProcessSend& message, Channel channel);
  void wait_all(Patience& patience);
  bool test_all();
  void check_completed();
  void cancel_all() noexcept;

  std::shared_ptr<MpiHandles> handles_;
  std::vector<int> members_;  // MPI ranks of this transport's processes
  std::uint32_t context_;
  Barrier barrier_;
  int process_ = 0;
  std::vector<MPI_Request> requests_;  // reused by every call
  std::vector<MPI_Status> statuses_;
  std::vector<Pending> pending_;
};

MpiTransport::MpiTransport(std::shared_ptr<MpiHandles> handles, std::vector<int> members,
                           std::uint32_t context, Barrier barrier)
    : handles_(std::move(handles)),
      members_(std::move(members)),
      context_(context),
      barrier_(barrier) {
  SUPERSTEP_CHECK(context_ <= handles_->max_context, "more worlds than MPI has tags", context_);
  const auto mine = std::find(members_.begin(), members_.end(), handles_->process);
  SUPERSTEP_CHECK(mine != members_.end(), "this process is no member of the world");
  process_ = static_cast<int>(mine - members_.begin());
}

void MpiTransport::post_receive(const ProcessReceive& message, Channel channel) {
  const int peer = members_[static_cast<std::size_t>(message.process)];
  for (std::size_t begin = 0; begin < message.bytes.size(); begin += kChunkBytes) {
    const std::size_t count = std::min(kChunkBytes, message.bytes.size() - begin);
    const Peers peers{message.to_rank, message.from_rank};
    check_mpi(MPI_Irecv(message.bytes.data() + begin, checked_cast<int>(count, "message bytes"),
                        MPI_BYTE, peer, tag(channel), handles_->communicator,
                        &requests_.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Irecv", peers);
    pending_.push_back({Pending::Kind::kReceive, peers, count});
  }
}

void MpiTransport::post_send(const ProcessSend& message, Channel channel) {
  const int peer = members_[static_cast<std::size_t>(message.process)];
  for (std::size_t begin = 0; begin < message.bytes.size(); begin += kChunkBytes) {
    const std::size_t count = std::min(kChunkBytes, message.bytes.size() - begin);
    const Peers peers{message.from_rank, message.to_rank};
    check_mpi(MPI_Isend(message.bytes.data() + begin, checked_cast<int>(count, "message bytes"),
                        MPI_BYTE, peer, tag(channel), handles_->communicator,
                        &requests_.emplace_back(MPI_REQUEST_NULL)),
              "MPI_Isend", peers);
    pending_.push_back({Pending::Kind::kSend, peers, count});
  }
}

void MpiTransport::check_completed() {
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    const Pending& pending = pending_[i];
    if (pending.kind != Pending::Kind::kReceive) {
      continue;
    }
    int count = 0;
    check_mpi(MPI_Get_count(&statuses_[i], MPI_BYTE, &count), "MPI_Get_count", pending.peers);
    if (std::cmp_not_equal(count, pending.num_bytes)) {
      throw CommunicationError(
          "MPI_Irecv",
          fmt::format("rank {} and rank {} disagree about a message: got {} bytes, expected {}",
                      pending.peers.rank, pending.peers.peer, count, pending.num_bytes));
    }
  }
}

bool MpiTransport::test_all() {
  int done = 0;
  const std::lock_guard lock(handles_->mutex);
  const int code =
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data());
  if (code == MPI_ERR_IN_STATUS) {
    for (std::size_t i = 0; i < pending_.size(); ++i) {
      if (statuses_[i].MPI_ERROR != MPI_ERR_PENDING) {
        check_mpi(statuses_[i].MPI_ERROR,
                  pending_[i].kind == Pending::Kind::kReceive ? "MPI_Irecv" : "MPI_Isend",
                  pending_[i].peers);
      }
    }
  }
  check_mpi(code, "MPI_Testall");
  return done != 0;
}

void MpiTransport::wait_all(Patience& patience) {
  statuses_.resize(requests_.size());
  try {
    while (!test_all()) {
      if (patience.pause() == Pause::kSleep) {
        const timespec nap{0, std::chrono::nanoseconds(Patience::kNap).count()};
        nanosleep(&nap, nullptr);
      }
    }
    check_completed();
  } catch (...) {
    cancel_all();  // nothing may arrive in memory that the caller is about to release
    throw;
  }
  requests_.clear();
  pending_.clear();
}

void MpiTransport::cancel_all() noexcept {
  const std::lock_guard lock(handles_->mutex);
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    MPI_Request& request = requests_[i];
    if (request != MPI_REQUEST_NULL && pending_[i].kind != Pending::Kind::kBarrier) {
      // On the way out of a failed operation: there is nothing left to do about a further error.
      static_cast<void>(MPI_Cancel(&request));
      static_cast<void>(MPI_Request_free(&request));
    }
  }
  requests_.clear();
  pending_.clear();
}

void MpiTransport::exchange(std::span<const ProcessSend> sends,
                            std::span<const ProcessReceive> receives, Patience& patience) {
  {
    const std::lock_guard lock(handles_->mutex);
    for (const ProcessReceive& message : receives) {
      post_receive(message, Channel::kData);
    }
    for (const ProcessSend& message : sends) {
      post_send(message, Channel::kData);
    }
  }
  if (!requests_.empty()) {
    wait_all(patience);
  }
}

// The words travel by dissemination (Hensgen, Finkel, Manber 1988): after round k a process knows
// the maxima of the 2^(k+1) processes before it. When the world has all processes the barrier
// itself is MPI_Ibarrier, under way at the same time.
void MpiTransport::synchronise(std::span<std::uint64_t> words, Patience& patience) {
  const int num_processes = this->num_processes();
  if (num_processes == 1) {
    return;
  }
  std::vector<std::uint64_t> theirs(words.size());
  std::vector<std::uint64_t> ours(words.begin(), words.end());
  for (int distance = 1; distance < num_processes; distance *= 2) {
    const int to = (process_ + distance) % num_processes;
    const int from = (process_ + num_processes - distance) % num_processes;
    {
      const std::lock_guard lock(handles_->mutex);
      post_receive({from, std::as_writable_bytes(std::span(theirs)), -1, -1},
                   Channel::kSynchronise);
      post_send({to, std::as_bytes(std::span(ours)), -1, -1}, Channel::kSynchronise);
      if (distance == 1 && barrier_ == Barrier::kMessagesAndMpi) {
        check_mpi(MPI_Ibarrier(handles_->communicator, &requests_.emplace_back(MPI_REQUEST_NULL)),
                  "MPI_Ibarrier");
        pending_.push_back({.kind = Pending::Kind::kBarrier});
      }
    }
    wait_all(patience);
    for (std::size_t i = 0; i < words.size(); ++i) {
      ours[i] = std::max(ours[i], theirs[i]);
    }
  }
  std::copy(ours.begin(), ours.end(), words.begin());
}

void MpiTransport::post_control(ControlMessage message) {
  const std::lock_guard lock(handles_->mutex);
  auto& [request, text] = handles_->posted.emplace_back(MPI_REQUEST_NULL, std::move(message.text));
  check_mpi(MPI_Isend(text.data(), checked_cast<int>(text.size(), "message bytes"), MPI_CHAR,
                      message.process, tag_of(kJobContext, Channel::kControl),
                      handles_->communicator, &request),
            "MPI_Isend");
}

std::optional<ControlMessage> MpiTransport::poll_control() {
  const std::lock_guard lock(handles_->mutex);
  std::erase_if(handles_->posted, [](auto& posted) {
    int done = 0;
    check_mpi(MPI_Test(&posted.first, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
  int found = 0;
  MPI_Status status;
  const int control_tag = tag_of(kJobContext, Channel::kControl);
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, control_tag, handles_->communicator, &found, &status),
            "MPI_Iprobe");
  if (found == 0) {
    return std::nullopt;
  }
  int count = 0;
  check_mpi(MPI_Get_count(&status, MPI_CHAR, &count), "MPI_Get_count");
  ControlMessage message{status.MPI_SOURCE, std::string(static_cast<std::size_t>(count), ' ')};
  check_mpi(MPI_Recv(message.text.data(), count, MPI_CHAR, status.MPI_SOURCE, control_tag,
                     handles_->communicator, MPI_STATUS_IGNORE),
            "MPI_Recv");
  return message;
}

std::uint32_t MpiTransport::reserve_context() {
  const std::uint32_t number = handles_->reservations.fetch_add(1);
  const std::uint64_t context =
      std::uint64_t{number} * static_cast<std::uint64_t>(handles_->num_processes) +
      static_cast<std::uint64_t>(handles_->process) + 1;
  if (context > handles_->max_context) {
    throw CommunicationError("World::split",
                             fmt::format("too many worlds: got {}, MPI has tags for {}", context,
                                         handles_->max_context));
  }
  return static_cast<std::uint32_t>(context);
}

std::unique_ptr<Transport> MpiTransport::subset(std::span<const int> processes,
                                                std::uint32_t context) {
  std::vector<int> members;
  for (const int process : processes) {
    members.push_back(members_[static_cast<std::size_t>(process)]);
  }
  return std::make_unique<MpiTransport>(handles_, std::move(members), context, Barrier::kMessages);
}

// The communicator that errors return on before ours exists.
MPI_Comm start_mpi() {
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_SERIALIZED) {
    throw CommunicationError(
        "MPI_Init_thread",
        fmt::format("MPI's thread level is too low: got {}, expected at least {} "
                    "(MPI_THREAD_SERIALIZED)",
                    provided, MPI_THREAD_SERIALIZED));
  }
  return MPI_COMM_WORLD;
}

// By process of `world`: the lowest process that shares memory with it.
std::vector<int> first_on_machine(MPI_Comm world, int process, int num_processes) {
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, process, MPI_INFO_NULL, &machine),
            "MPI_Comm_split_type");
  int first = process;
  check_mpi(MPI_Bcast(&first, 1, MPI_INT, 0, machine), "MPI_Bcast");
  check_mpi(MPI_Comm_free(&machine), "MPI_Comm_free");
  std::vector<int> all(static_cast<std::size_t>(num_processes));
  check_mpi(MPI_Allgather(&first, 1, MPI_INT, all.data(), 1, MPI_INT, world), "MPI_Allgather");
  return all;
}

// A duplicate of `world` with processes of one machine consecutive, machines by their lowest
// process.
MPI_Comm node_major(MPI_Comm world, int process, const std::vector<int>& first) {
  std::vector<int> order(first.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return first[static_cast<std::size_t>(a)] < first[static_cast<std::size_t>(b)];
  });
  const auto position =
      static_cast<int>(std::find(order.begin(), order.end(), process) - order.begin());
  MPI_Comm communicator = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(world, 0, position, &communicator), "MPI_Comm_split");
  check_mpi(MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return communicator;
}

std::vector<std::string> gather_hosts(MPI_Comm communicator, int num_processes) {
  std::string mine(MPI_MAX_PROCESSOR_NAME, '\0');
  int length = 0;
  check_mpi(MPI_Get_processor_name(mine.data(), &length), "MPI_Get_processor_name");
  std::string all(mine.size() * static_cast<std::size_t>(num_processes), '\0');
  const auto width = static_cast<int>(mine.size());
  check_mpi(MPI_Allgather(mine.data(), width, MPI_CHAR, all.data(), width, MPI_CHAR, communicator),
            "MPI_Allgather");
  std::vector<std::string> hosts;
  for (std::size_t begin = 0; begin < all.size(); begin += mine.size()) {
    hosts.emplace_back(all.data() + begin);  // up to its terminating zero
  }
  return hosts;
}

std::uint32_t largest_context(MPI_Comm communicator) {
  void* attribute = nullptr;
  int found = 0;
  check_mpi(MPI_Comm_get_attr(communicator, MPI_TAG_UB, &attribute, &found), "MPI_Comm_get_attr");
  const int largest_tag =
      found != 0 ? *static_cast<int*>(attribute) : 32767;  // what the standard promises
  return static_cast<std::uint32_t>(largest_tag / kChannels - 1);
}

// Machines numbered from 0 in process order of the reordered communicator.
std::vector<int> number_machines(MPI_Comm communicator, int process, int num_processes) {
  const std::vector<int> first = first_on_machine(communicator, process, num_processes);
  std::vector<int> machines(first.size(), 0);
  for (std::size_t i = 1; i < first.size(); ++i) {
    machines[i] = machines[i - 1] + (first[i] != first[i - 1] ? 1 : 0);
  }
  return machines;
}

}  // namespace

bool MpiSession::launched() {
  return environment_variable("OMPI_COMM_WORLD_SIZE").has_value() ||
         environment_variable("PMIX_RANK").has_value();
}

MpiSession::MpiSession() : handles_(std::make_shared<MpiHandles>()) {
  MPI_Comm world = start_mpi();
  int process = 0;
  int num_processes = 0;
  check_mpi(MPI_Comm_rank(world, &process), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(world, &num_processes), "MPI_Comm_size");
  handles_->communicator =
      node_major(world, process, first_on_machine(world, process, num_processes));
  check_mpi(MPI_Comm_rank(handles_->communicator, &handles_->process), "MPI_Comm_rank");
  handles_->num_processes = num_processes;
  handles_->max_context = largest_context(handles_->communicator);
  machine_of_ = number_machines(handles_->communicator, handles_->process, num_processes);
  host_of_ = gather_hosts(handles_->communicator, num_processes);
}

MpiSession::~MpiSession() {
  // The process ends after this: errors have nobody to go to.
  const std::lock_guard lock(handles_->mutex);
  static_cast<void>(MPI_Comm_free(&handles_->communicator));
  static_cast<void>(MPI_Finalize());
}

int MpiSession::process() const {
  return handles_->process;
}
int MpiSession::num_processes() const {
  return handles_->num_processes;
}
const std::vector<int>& MpiSession::machine_of() const {
  return machine_of_;
}
const std::vector<std::string>& MpiSession::host_of() const {
  return host_of_;
}

std::unique_ptr<Transport> MpiSession::transport(std::uint32_t context) {
  std::vector<int> all(static_cast<std::size_t>(num_processes()));
  std::iota(all.begin(), all.end(), 0);
  return std::make_unique<MpiTransport>(
      handles_, std::move(all), context,
      context == kJobContext ? Barrier::kMessages : Barrier::kMessagesAndMpi);
}

void MpiSession::abort(ExitCode exit_code) {
  const std::lock_guard lock(handles_->mutex);
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(exit_code));
  std::abort();
}

}  // namespace superstep::bsp::internal
