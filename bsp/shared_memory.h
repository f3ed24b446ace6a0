// Mappings that ranks share: anonymous within a process, POSIX shared memory between the processes
// of a machine.
//
// The space of a POSIX mapping is reserved when it is created: too little is an InvalidArgument
// that names /dev/shm, the bytes needed and the bytes free, where an unreserved page would be a bus
// error at first use. Every mapping is zero-filled and page-aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace superstep::bsp::internal {

class SharedMapping {
 public:
  // Of zero bytes: data() is null.
  SharedMapping() = default;
  SharedMapping(SharedMapping&& other) noexcept;
  SharedMapping& operator=(SharedMapping&& other) noexcept;
  ~SharedMapping();

  // Visible to the threads of this process. Throws InvalidArgument when there is no such memory.
  static SharedMapping anonymous(std::int64_t num_bytes);
  // A new object under unique_shared_name(); other processes open it before it is unlinked.
  static SharedMapping create(const std::string& name, std::int64_t num_bytes);
  static SharedMapping open(const std::string& name, std::int64_t num_bytes);

  std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }

 private:
  SharedMapping(std::byte* data, std::int64_t size) : data_(data), size_(size) {}

  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
};

// Names the job, this process and a number that this process did not use before.
std::string unique_shared_name();

// The process of a file in /dev/shm under a name of unique_shared_name(); nullopt for every other.
std::optional<pid_t> owner_of_shared(std::string_view name);

// Removes what killed processes of this user left under such names on this machine: the process is
// gone and the object is older than a minute (names live only from creation until all ranks have
// mapped them). Returns how many. Throws nothing.
int remove_stale_shared() noexcept;

// Removes the name; mappings stay. Does nothing when it is gone already.
void unlink_shared(const std::string& name) noexcept;

}  // namespace superstep::bsp::internal
