#include "base/memory.h"

#include <unistd.h>

namespace superstep {

std::int64_t physical_memory_bytes() {
  return std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
}

}  // namespace superstep
