// The answer to a remote read: there after the next sync().
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/check.h"

namespace superstep::bsp {

namespace internal {

// Where the answer to a get goes; shared by the world, until sync(), and the Future.
struct GetAnswer {
  std::vector<std::byte> bytes;
  bool ready = false;
};

}  // namespace internal

// May be destroyed before the answer is there. Not thread-safe.
template <typename T>
class Future {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit Future(std::shared_ptr<const internal::GetAnswer> answer) : answer_(std::move(answer)) {}

  bool is_ready() const { return answer_->ready; }
  // All elements read; a failed check before the sync().
  std::vector<T> values() const {
    SUPERSTEP_CHECK(answer_->ready, "the value of a get is there after the next sync()");
    std::vector<T> values(answer_->bytes.size() / sizeof(T));
    if (!values.empty()) {
      std::memcpy(values.data(), answer_->bytes.data(), answer_->bytes.size());
    }
    return values;
  }
  // The only element of a read of one.
  T value() const {
    SUPERSTEP_CHECK(answer_->bytes.size() == sizeof(T), "elements read",
                    answer_->bytes.size() / sizeof(T));
    return values().front();
  }

 private:
  std::shared_ptr<const internal::GetAnswer> answer_;
};

}  // namespace superstep::bsp
