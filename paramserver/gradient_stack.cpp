#include "paramserver/gradient_stack.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace superstep::paramserver {

namespace {

// Whether a and b (adjacent) are the two children of one node of the tree over [0, num_slots).
bool are_siblings(int num_slots, bsp::SlotRange a, bsp::SlotRange b) {
  bsp::SlotRange node{0, num_slots};
  while (node.length() > 1) {
    const int middle = bsp::split_point(node);
    if (node.begin == a.begin && node.end == b.end) {
      return a.end == middle && b.begin == middle;
    }
    if (b.end <= middle) {
      node.end = middle;
    } else if (a.begin >= middle) {
      node.begin = middle;
    } else {
      return false;
    }
  }
  return false;
}

// Folds the top of the stack; returns how many sums that takes.
std::size_t fold(int num_slots, std::vector<bsp::SlotRange>& stack) {
  std::size_t count = 0;
  while (stack.size() >= 2 && are_siblings(num_slots, stack[stack.size() - 2], stack.back())) {
    stack[stack.size() - 2].end = stack.back().end;
    stack.pop_back();
    ++count;
  }
  return count;
}

void add_in_place(float* __restrict left, const float* __restrict right, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    left[i] = left[i] + right[i];
  }
}

}  // namespace

GradientStack::GradientStack(std::span<float> memory, std::int64_t num_elements,
                             std::span<const ElementRange> buckets, int num_slots,
                             std::vector<int> slots)
    : memory_(memory),
      num_elements_(num_elements),
      buckets_(buckets.begin(), buckets.end()),
      num_slots_(num_slots),
      slots_(std::move(slots)) {
  SUPERSTEP_CHECK(
      static_cast<std::int64_t>(memory.size()) >= capacity(num_slots, slots_) * num_elements,
      "gradient memory");
}

int GradientStack::capacity(int num_slots, std::span<const int> slots) {
  std::vector<bsp::SlotRange> stack;
  std::size_t most = 0;
  for (const int slot : slots) {
    stack.push_back({slot, slot + 1});
    most = std::max(most, stack.size());
    fold(num_slots, stack);
  }
  return static_cast<int>(most);
}

std::span<float> GradientStack::buffer(std::size_t index) const {
  return memory_.subspan(index * static_cast<std::size_t>(num_elements_),
                         static_cast<std::size_t>(num_elements_));
}

std::span<float> GradientStack::reserve(int slot) {
  SUPERSTEP_CHECK(!open_, "slot", slot, "reserved while another one is open");
  SUPERSTEP_CHECK(next_slot_ < slots_.size() && slots_[next_slot_] == slot, "slot", slot,
                  "is not this rank's next");
  if (next_slot_ == 0) {
    stack_.clear();
  }
  const std::size_t index = stack_.size();
  stack_.push_back({slot, slot + 1});
  num_combines_ = fold(num_slots_, stack_);
  buckets_pushed_ = 0;
  open_ = true;
  return buffer(index);
}

void GradientStack::push(int slot, int bucket, std::span<const float> gradient) {
  SUPERSTEP_CHECK(open_ && slots_[next_slot_] == slot, "slot", slot, "is not open");
  SUPERSTEP_CHECK(bucket == static_cast<int>(buckets_pushed_), "bucket", bucket,
                  "pushed out of order");
  const ElementRange range = buckets_[buckets_pushed_];
  SUPERSTEP_CHECK(static_cast<std::int64_t>(gradient.size()) == range.length(), "bucket length",
                  gradient.size());
  const std::size_t top = stack_.size() - 1 + num_combines_;
  const std::span<float> own =
      buffer(top).subspan(static_cast<std::size_t>(range.begin), gradient.size());
  if (own.data() != gradient.data()) {
    std::copy(gradient.begin(), gradient.end(), own.begin());
  }
  combine_bucket(range);
  if (++buckets_pushed_ == buckets_.size()) {
    open_ = false;
    ++next_slot_;
  }
}

void GradientStack::combine_bucket(ElementRange bucket) {
  const std::size_t top = stack_.size() - 1 + num_combines_;
  for (std::int64_t begin = bucket.begin; begin < bucket.end; begin += kBlockElements) {
    const std::int64_t count = std::min(kBlockElements, bucket.end - begin);
    for (std::size_t index = top; index + num_combines_ > top; --index) {
      add_in_place(buffer(index - 1).data() + begin, buffer(index).data() + begin, count);
    }
  }
}

void GradientStack::finish_step() {
  SUPERSTEP_CHECK(!open_ && next_slot_ == slots_.size(),
                  "gradients of some slots were not pushed: got", next_slot_, "of", slots_.size());
  next_slot_ = 0;
}

}  // namespace superstep::paramserver
