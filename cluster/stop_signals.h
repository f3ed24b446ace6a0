// SIGTERM, SIGUSR1 and, without mpirun, SIGINT end a training at a superstep with a checkpoint.
//
// Schedulers send one of them before they take a machine away. mpirun forwards SIGUSR1 at once; on
// Ctrl-C and SIGTERM it gives its ranks SIGTERM and kills them about a second later. When a
// checkpoint does not fit in that second, the newest one is on disk, and the handler has said where
// at the time of the signal. A second SIGINT ends the program as usual.
#pragma once

#include <cstdint>
#include <string_view>

namespace superstep::cluster {

enum class HandleInterrupt : std::uint8_t { kNo, kYes };

// Installs the handlers: they call worker::request_stop(). Signals that the program inherited as
// ignored stay so.
void install_stop_signals(HandleInterrupt interrupt);

// What the handler writes to standard error, a line of at most 4,000 bytes; empty (as at the
// start): nothing. Only one thread may set it.
void set_stop_notice(std::string_view notice);

}  // namespace superstep::cluster
