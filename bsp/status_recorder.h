// Writes what the ranks of this process are doing to a file, once a second, for whoever watches the
// job from outside (superstep launch).
//
// A thread of its own that makes no MPI call: the file goes on being written when every lane hangs,
// and stops when the process is stopped, which its time tells. The file appears whole or not at
// all; while its directory does not exist nothing is written. Nothing here ever fails the job.
//
//   {"time_ms":...,"host":"b","process":12345,"ranks":[
//     {"rank":3,"superstep":12,"calls":345,"state":"computing","phase":"compute","site":"..."}]}
#pragma once

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bsp/status_board.h"

namespace superstep::bsp::internal {

class StatusRecorder {
 public:
  // `board` must outlive this object. An empty path: no thread, nothing is written.
  StatusRecorder(const StatusBoard& board, std::vector<int> ranks, std::string host,
                 std::filesystem::path file);
  StatusRecorder(const StatusRecorder&) = delete;
  StatusRecorder& operator=(const StatusRecorder&) = delete;
  ~StatusRecorder();

 private:
  void run();
  bool write() const;

  const StatusBoard& board_;
  std::vector<int> ranks_;
  std::string host_;
  std::filesystem::path file_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace superstep::bsp::internal
