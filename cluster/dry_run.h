// What a training would do and need, computed without doing it: `superstep train --dry-run`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/setup.h"
#include "cluster/world_shape.h"
#include "paramserver/collocated_server.h"
#include "paramserver/layout.h"

namespace superstep::cluster {

// Bytes as the server will allocate them for contiguous placement (the largest node counts).
paramserver::MemoryUse predicted_memory(const paramserver::ParameterLayout& layout,
                                        const paramserver::CollocatedOptions& options,
                                        const WorldShape& shape);

std::string dry_run_text(const RunSetup& setup, const WorldShape& shape);

}  // namespace superstep::cluster
