// Where a rank hangs: its thread writes its own call stack when another rank asks for it.
//
// The asking rank sends SIGUSR2 to the thread, on the same machine, within the job or across
// processes; the handler writes the stack to standard error, one line per frame. A thread that is
// stopped or waits in the kernel cannot answer; what the system says about it is reported instead.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

namespace superstep::bsp::internal {

// Installs the handler for this process, unless somebody handles SIGUSR2 already.
void install_stack_dumps();
// Frames of this thread are shown under this rank from now on; a SIGUSR2 to the process as a whole
// makes all such threads write.
void set_dumped_rank(int rank);

// Asks a thread of this user for its stack; returns at once. False when there is no such thread.
bool request_stack(pid_t process, pid_t thread) noexcept;

// What the system says a thread is doing: "running", "stopped by a signal", "waits in the kernel
// (disk or network)", ...; empty when there is no such thread.
std::string system_state(pid_t process, pid_t thread);

pid_t this_thread();

}  // namespace superstep::bsp::internal
