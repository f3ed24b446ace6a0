// The three exceptions of Superstep and the exit codes of its program.
//
// Every message reads `[where] what is wrong: got X, expected Y`, names the rank where it matters
// and the remedy where it is known. Everything that is not one of these three is a failed check: a
// bug (base/check.h).
//
//   throw InvalidArgument("Coarray::put",
//                         fmt::format("offset out of range: got {}, expected less than {}", i, n));
//   // [Coarray::put] offset out of range: got 12, expected less than 10
//   throw DataError("IdxReader", path, 0, "bad magic: got 0x00000000, expected 0x00000803");
//   // [IdxReader] train.idx, byte 0: bad magic: got 0x00000000, expected 0x00000803
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace superstep {

// Process exit codes, documented in the man page. 75 is EX_TEMPFAIL: stopped, but resumable.
enum class ExitCode : int {
  kDone = 0,
  kFailure = 1,
  kUsage = 2,
  kBadData = 3,
  kBadCheckpoint = 4,
  kRanksDisagree = 5,
  kNumbers = 6,
  kCorruption = 7,
  kStoppedResumable = 75,
};

class Error : public std::runtime_error {
 public:
  ExitCode exit_code() const noexcept { return exit_code_; }

 protected:
  Error(std::string_view where, std::string_view what, ExitCode exit_code);

 private:
  ExitCode exit_code_;
};

// The caller (a user's configuration, a program using the library) asked for something impossible.
class InvalidArgument : public Error {
 public:
  InvalidArgument(std::string_view where, std::string_view what);
};

// Ranks could not communicate, or communicated different things.
class CommunicationError : public Error {
 public:
  // exit_code: kFailure (transport), kRanksDisagree (mismatch), kStoppedResumable (deadline
  // passed).
  CommunicationError(std::string_view where, std::string_view what,
                     ExitCode exit_code = ExitCode::kFailure);
};

// A file holds something other than what it must. `offset` is a byte offset (or -1 when none
// applies).
class DataError : public Error {
 public:
  DataError(std::string_view where, std::string_view path, std::int64_t offset,
            std::string_view what, ExitCode exit_code = ExitCode::kBadData);

  const std::string& path() const noexcept { return path_; }
  std::int64_t offset() const noexcept { return offset_; }

 private:
  std::string path_;
  std::int64_t offset_;
};

}  // namespace superstep
