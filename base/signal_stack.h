// A stack of its own for the signal handlers of a thread.
//
//   ensure_signal_stack();                     // in the thread that computes
//   action.sa_flags = SA_RESTART | SA_ONSTACK; // in the handler's sigaction
//
// Why: some generated code keeps its stack pointer in a heap block while it runs (oneDNN's sgemm on
// AVX and AVX2). A signal that arrives then pushes its frame below that pointer, over whatever the
// heap holds in front of the block. On a stack of its own the frame harms nobody. Every handler
// that may run in a thread that calls kernels needs SA_ONSTACK.
#pragma once

namespace superstep {

// Gives the calling thread a signal stack unless it has one (a sanitizer sets its own); freed with
// the thread. Costs nothing after the first call in a thread. Throws std::system_error when the
// system refuses.
void ensure_signal_stack();

}  // namespace superstep
