// Bytes that the processes of a job on one machine make once and all map.
//
//   if (const auto values = bytes_of_node(source, [&](const ByteSink& write) {
//         ... write(chunk); ...                        // in the first process that comes here
//       })) {
//     ... *values ...                                  // in all of them, the same pages
//   }
//
// They lie in a file of the directory for temporary files (TMPDIR, else /tmp) with a name of the
// job and of what they are made from. The first process writes it while it holds a lock, the others
// wait for that. The name goes when the last process of the machine has mapped the file, so that
// nothing is left behind once all have begun; files of jobs that were killed before that are
// removed by later ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>

#include "worker/data/byte_array.h"

namespace superstep::worker {

// Processes of this job on this machine, as mpirun says; 1 without it.
std::int64_t processes_of_node();

// Takes the next bytes.
using ByteSink = std::function<void(std::span<const std::uint8_t>)>;

// What `make` writes is a function of the content of `source`. Passes on what `make` throws; the
// next process then tries for itself. nullopt where such a file cannot be made (no space, no
// permission): then every process needs bytes of its own.
std::optional<ByteArray> bytes_of_node(const std::filesystem::path& source,
                                       const std::function<void(const ByteSink&)>& make);

}  // namespace superstep::worker
