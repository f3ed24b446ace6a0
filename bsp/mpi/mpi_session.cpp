#include "bsp/mpi/mpi_session.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <mpi.h>

#include "base/env.h"
#include "bsp/mpi/mpi_handles.h"

namespace superstep::bsp::internal {

void check_mpi(int code, const char* routine, Peers peers) {
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

namespace {

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

int largest_tag(MPI_Comm communicator) {
  constexpr int kPromisedByTheStandard = 32'767;
  void* attribute = nullptr;
  int found = 0;
  check_mpi(MPI_Comm_get_attr(communicator, MPI_TAG_UB, &attribute, &found), "MPI_Comm_get_attr");
  return found != 0 ? *static_cast<int*>(attribute) : kPromisedByTheStandard;
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
  auto communicator = std::make_shared<MPI_Comm>(MPI_COMM_NULL);
  handles_->communicator = communicator;
  int process = 0;
  int num_processes = 0;
  check_mpi(MPI_Comm_rank(world, &process), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(world, &num_processes), "MPI_Comm_size");
  *communicator = node_major(world, process, first_on_machine(world, process, num_processes));
  check_mpi(MPI_Comm_rank(*communicator, &handles_->process), "MPI_Comm_rank");
  handles_->num_processes = num_processes;
  handles_->largest_tag = largest_tag(*communicator);
  machine_of_ = number_machines(*communicator, handles_->process, num_processes);
  host_of_ = gather_hosts(*communicator, num_processes);
}

MpiSession::~MpiSession() {
  // The process ends after this: errors have nobody to go to.
  const std::lock_guard lock(handles_->mutex);
  static_cast<void>(MPI_Comm_free(static_cast<MPI_Comm*>(handles_->communicator.get())));
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

std::string MpiSession::library() {
  std::string text(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
  int length = 0;
  check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
  // Not by `length`: Open MPI counts the NUL, which would cut a message that quotes the text.
  return text.substr(0, text.find_first_of(std::string_view("\n\0", 2)));
}

std::unique_ptr<Transport> MpiSession::transport(std::uint32_t context) {
  std::vector<int> all(static_cast<std::size_t>(num_processes()));
  std::iota(all.begin(), all.end(), 0);
  return mpi_transport(handles_, std::move(all), context,
                       context == kJobContext ? Barrier::kMessages : Barrier::kMessagesAndMpi);
}

void MpiSession::abort(ExitCode exit_code) {
  const std::lock_guard lock(handles_->mutex);
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(exit_code));
  std::abort();
}

}  // namespace superstep::bsp::internal
