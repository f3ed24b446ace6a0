// What killed processes leave in /dev/shm is removed, and nothing else is.
#include "bsp/shared_memory.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace superstep::bsp::internal {
namespace {

pid_t dead_process() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
  return pid;
}

// An object in shared memory with a name of our choice.
class Object {
 public:
  Object(const std::string& name, int age_seconds) : path_("/dev/shm/" + name) {
    std::ofstream(path_) << "x";
    const timespec time{.tv_sec = std::time(nullptr) - age_seconds, .tv_nsec = 0};
    const timespec times[] = {time, time};
    ::utimensat(AT_FDCWD, path_.c_str(), times, 0);
  }
  ~Object() { ::unlink(path_.c_str()); }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  bool exists() const { return std::filesystem::exists(path_); }

 private:
  std::string path_;
};

TEST(SharedMemory, RemovesWhatDeadProcessesLeft) {
  const pid_t dead = dead_process();
  const Object stale(fmt::format("superstep-714473473-{}-0", dead), 3600);
  const Object dashed(fmt::format("superstep-a-b-c-{}-17", dead), 61 + 60);
  EXPECT_GE(remove_stale_shared(), 2);
  EXPECT_FALSE(stale.exists());
  EXPECT_FALSE(dashed.exists());
}

TEST(SharedMemory, LeavesEverythingElse) {
  const pid_t dead = dead_process();
  const Object young(fmt::format("superstep-714473473-{}-1", dead), 5);
  const Object alive(fmt::format("superstep-714473473-{}-2", ::getpid()), 3600);
  const Object nobody("superstep-714473473-0-2", 3600);
  const Object no_number(fmt::format("superstep-714473473-{}x-2", dead), 3600);
  const Object short_name(fmt::format("superstep-{}", dead), 3600);
  const Object stranger(fmt::format("other-714473473-{}-1", dead), 3600);
  remove_stale_shared();
  for (const Object* object : {&young, &alive, &nobody, &no_number, &short_name, &stranger}) {
    EXPECT_TRUE(object->exists());
  }
}

TEST(SharedMemory, UniqueNamesAreThoseThatAreRecognised) {
  const std::string name = unique_shared_name();
  ASSERT_EQ(name.front(), '/');
  EXPECT_EQ(owner_of_shared(name.substr(1)), ::getpid());
}

}  // namespace
}  // namespace superstep::bsp::internal
