#include <algorithm>
#include <chrono>
#include <list>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <mpi.h>
#include <time.h>

#include "base/check.h"
#include "base/checked_cast.h"
#include "bsp/mpi/mpi_handles.h"

namespace superstep::bsp::internal {

namespace {

// Messages of different kinds or worlds never match each other.
enum class Channel : int { kData = 0, kSynchronise = 1, kControl = 2 };
constexpr int kChannels = 3;

// Up to this many processes tell each other everything in one round.
constexpr int kFanOut = 8;

// Far below INT_MAX and a multiple of every element size.
constexpr std::size_t kChunkBytes = std::size_t{1} << 30;

int tag_of(std::uint32_t context, Channel channel) {
  return static_cast<int>(context) * kChannels + static_cast<int>(channel);
}

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
    int process = -1;
  };

  MPI_Comm communicator() const { return *static_cast<MPI_Comm*>(handles_->communicator.get()); }
  std::uint32_t max_context() const {
    return static_cast<std::uint32_t>(handles_->largest_tag / kChannels - 1);
  }
  int tag(Channel channel) const { return tag_of(context_, channel); }
  void spread_words(std::span<const std::uint64_t> ours, std::span<std::uint64_t> maxima,
                    int distance, MPI_Request* barrier, Patience& patience);
  void post_receive(const ProcessReceive& message, Channel channel);
  void post_send(const ProcessSend& message, Channel channel);
  void wait_all(Patience& patience);
  bool test_all();
  std::vector<int> silent_processes();
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
  std::list<std::pair<MPI_Request, std::string>> posted_;  // control messages under way
};

MpiTransport::MpiTransport(std::shared_ptr<MpiHandles> handles, std::vector<int> members,
                           std::uint32_t context, Barrier barrier)
    : handles_(std::move(handles)),
      members_(std::move(members)),
      context_(context),
      barrier_(barrier) {
  SUPERSTEP_CHECK(context_ <= max_context(), "more worlds than MPI has tags", context_);
  const auto mine = std::find(members_.begin(), members_.end(), handles_->process);
  SUPERSTEP_CHECK(mine != members_.end(), "this process is no member of the world");
  process_ = static_cast<int>(mine - members_.begin());
}

void MpiTransport::post_receive(const ProcessReceive& message, Channel channel) {
  const int peer = members_[static_cast<std::size_t>(message.process)];
  for (std::size_t begin = 0; begin < message.bytes.size(); begin += kChunkBytes) {
    const std::size_t count = std::min(kChunkBytes, message.bytes.size() - begin);
    const Peers peers{message.to_rank, message.from_rank};
    check_mpi(
        MPI_Irecv(message.bytes.data() + begin, checked_cast<int>(count, "message bytes"), MPI_BYTE,
                  peer, tag(channel), communicator(), &requests_.emplace_back(MPI_REQUEST_NULL)),
        "MPI_Irecv", peers);
    pending_.push_back({Pending::Kind::kReceive, peers, count, message.process});
  }
}

void MpiTransport::post_send(const ProcessSend& message, Channel channel) {
  const int peer = members_[static_cast<std::size_t>(message.process)];
  for (std::size_t begin = 0; begin < message.bytes.size(); begin += kChunkBytes) {
    const std::size_t count = std::min(kChunkBytes, message.bytes.size() - begin);
    const Peers peers{message.from_rank, message.to_rank};
    check_mpi(
        MPI_Isend(message.bytes.data() + begin, checked_cast<int>(count, "message bytes"), MPI_BYTE,
                  peer, tag(channel), communicator(), &requests_.emplace_back(MPI_REQUEST_NULL)),
        "MPI_Isend", peers);
    pending_.push_back({Pending::Kind::kSend, peers, count, message.process});
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
      throw MessageMismatch("MPI_Irecv", pending.peers.rank, pending.peers.peer,
                            checked_cast<std::size_t>(count), pending.num_bytes);
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
      if (statuses_[i].MPI_ERROR == MPI_ERR_TRUNCATE) {
        throw MessageMismatch("MPI_Irecv", pending_[i].peers.rank, pending_[i].peers.peer, {},
                              pending_[i].num_bytes);
      }
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
  } catch (DeadlinePassed& passed) {
    passed.silent_processes = silent_processes();
    cancel_all();
    throw;
  } catch (...) {
    cancel_all();
    throw;
  }
  requests_.clear();
  pending_.clear();
}

// Ascending, each once: those that a message to or from is still under way with.
std::vector<int> MpiTransport::silent_processes() {
  std::set<int> silent;
  const std::lock_guard lock(handles_->mutex);
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    int done = 0;
    check_mpi(MPI_Test(&requests_[i], &done, MPI_STATUS_IGNORE), "MPI_Test", pending_[i].peers);
    if (done == 0 && pending_[i].kind != Pending::Kind::kBarrier) {
      silent.insert(pending_[i].process);
    }
  }
  return {silent.begin(), silent.end()};
}

// So that as little as possible arrives in memory that the caller is about to release. MPI need not
// cancel what has begun to move: the job ends after a failed operation, and nobody may use the
// buffers again.
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

// The words travel by dissemination (Hensgen, Finkel, Manber 1988) to several processes a round
// (Hoefler et al. 2006): after a round a process knows the maxima of kFanOut times as many
// processes before it. For the world of Environment::run the barrier itself is MPI_Ibarrier, under
// way at the same time.
void MpiTransport::synchronise(std::span<std::uint64_t> words, Patience& patience) {
  const int num_processes = this->num_processes();
  if (num_processes == 1) {
    return;
  }
  MPI_Request barrier = MPI_REQUEST_NULL;
  if (barrier_ == Barrier::kMessagesAndMpi) {
    const std::lock_guard lock(handles_->mutex);
    check_mpi(MPI_Ibarrier(communicator(), &barrier), "MPI_Ibarrier");
  }
  std::vector<std::uint64_t> ours(words.begin(), words.end());
  for (int distance = 1; distance < num_processes; distance *= kFanOut) {
    spread_words(ours, words, distance, distance * kFanOut < num_processes ? nullptr : &barrier,
                 patience);
    std::copy(words.begin(), words.end(), ours.begin());
  }
}

// Sends `ours` to the processes 1, 2, ... kFanOut - 1 times `distance` after this one and takes the
// maxima of `ours` and what the processes as far before it sent. Waits for *barrier too, if given.
void MpiTransport::spread_words(std::span<const std::uint64_t> ours,
                                std::span<std::uint64_t> maxima, int distance, MPI_Request* barrier,
                                Patience& patience) {
  const int num_processes = this->num_processes();
  std::vector<std::uint64_t> theirs(ours.size() * kFanOut);
  {
    const std::lock_guard lock(handles_->mutex);
    for (int step = distance, i = 0; i < kFanOut - 1 && step < num_processes;
         step += distance, ++i) {
      const int from = (process_ + num_processes - step) % num_processes;
      const int to = (process_ + step) % num_processes;
      const auto arrival =
          std::span(theirs).subspan(static_cast<std::size_t>(i) * ours.size(), ours.size());
      post_receive({from, std::as_writable_bytes(arrival), -1, -1}, Channel::kSynchronise);
      post_send({to, std::as_bytes(ours), -1, -1}, Channel::kSynchronise);
    }
  }
  if (barrier != nullptr && *barrier != MPI_REQUEST_NULL) {
    requests_.push_back(*barrier);
    pending_.push_back({.kind = Pending::Kind::kBarrier});
  }
  wait_all(patience);
  for (std::size_t i = 0; i < theirs.size(); ++i) {  // zero where nothing came
    maxima[i % ours.size()] = std::max(maxima[i % ours.size()], theirs[i]);
  }
}

void MpiTransport::post_control(ControlMessage message) {
  const std::lock_guard lock(handles_->mutex);
  auto& [request, text] = posted_.emplace_back(MPI_REQUEST_NULL, std::move(message.text));
  check_mpi(
      MPI_Isend(text.data(), checked_cast<int>(text.size(), "message bytes"), MPI_CHAR,
                message.process, tag_of(kJobContext, Channel::kControl), communicator(), &request),
      "MPI_Isend");
}

std::optional<ControlMessage> MpiTransport::poll_control() {
  const std::lock_guard lock(handles_->mutex);
  std::erase_if(posted_, [](auto& posted) {
    int done = 0;
    check_mpi(MPI_Test(&posted.first, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
  int found = 0;
  MPI_Status status;
  const int control_tag = tag_of(kJobContext, Channel::kControl);
  check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, control_tag, communicator(), &found, &status), "MPI_Iprobe");
  if (found == 0) {
    return std::nullopt;
  }
  int count = 0;
  check_mpi(MPI_Get_count(&status, MPI_CHAR, &count), "MPI_Get_count");
  ControlMessage message{status.MPI_SOURCE, std::string(static_cast<std::size_t>(count), ' ')};
  check_mpi(MPI_Recv(message.text.data(), count, MPI_CHAR, status.MPI_SOURCE, control_tag,
                     communicator(), MPI_STATUS_IGNORE),
            "MPI_Recv");
  return message;
}

std::uint32_t MpiTransport::reserve_context() {
  const std::uint32_t number = handles_->reservations.fetch_add(1);
  const std::uint64_t context =
      std::uint64_t{number} * static_cast<std::uint64_t>(handles_->num_processes) +
      static_cast<std::uint64_t>(handles_->process) + 1;
  if (context > max_context()) {
    throw CommunicationError(
        "World::split",
        fmt::format("too many worlds: got {}, MPI has tags for {}", context, max_context()));
  }
  return static_cast<std::uint32_t>(context);
}

std::unique_ptr<Transport> MpiTransport::subset(std::span<const int> processes,
                                                std::uint32_t context) {
  std::vector<int> members;
  for (const int process : processes) {
    members.push_back(members_[static_cast<std::size_t>(process)]);
  }
  return mpi_transport(handles_, std::move(members), context, Barrier::kMessages);
}

}  // namespace

std::unique_ptr<Transport> mpi_transport(std::shared_ptr<MpiHandles> handles,
                                         std::vector<int> members, std::uint32_t context,
                                         Barrier barrier) {
  return std::make_unique<MpiTransport>(std::move(handles), std::move(members), context, barrier);
}

}  // namespace superstep::bsp::internal
