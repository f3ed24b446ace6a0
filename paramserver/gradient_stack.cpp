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

// Whether the range is a node of the tree over [0, num_slots).
bool is_subtree(int num_slots, bsp::SlotRange range) {
  bsp::SlotRange node{0, num_slots};
  while (node.length() > range.length()) {
    const int middle = bsp::split_point(node);
    (range.begin < middle ? node.end : node.begin) = middle;
  }
  return node == range;
}

std::size_t at(int index) {
  return static_cast<std::size_t>(index);
}

void add_in_place(float* __restrict left, const float* __restrict right, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    left[i] = left[i] + right[i];
  }
}

}  // namespace

GradientStack::GradientStack(std::span<float> memory, std::int64_t num_elements,
                             std::span<const ElementRange> buckets, int num_slots,
                             std::vector<int> slots, SlotOrder order)
    : memory_(memory),
      num_elements_(num_elements),
      buckets_(buckets.begin(), buckets.end()),
      num_slots_(num_slots),
      slots_(std::move(slots)),
      order_(order),
      num_buffers_(static_cast<int>(static_cast<std::int64_t>(memory.size()) / num_elements)) {
  SUPERSTEP_CHECK(order == SlotOrder::kAny || num_buffers_ >= capacity(num_slots, slots_),
                  "gradient memory");
}

// Adds a piece and joins it with its sibling for as long as that is there; says what to add to
// what.
std::vector<GradientStack::Fold> GradientStack::insert(int num_slots, Piece piece,
                                                       std::vector<Piece>& pieces) {
  const auto begins_before = [](const Piece& a, const Piece& b) {
    return a.range.begin < b.range.begin;
  };
  auto mine =
      pieces.insert(std::upper_bound(pieces.begin(), pieces.end(), piece, begins_before), piece);
  std::vector<Fold> folds;
  while (true) {
    const auto next = mine + 1;
    if (mine != pieces.begin() && are_siblings(num_slots, (mine - 1)->range, mine->range)) {
      --mine;
    } else if (next == pieces.end() || !are_siblings(num_slots, mine->range, next->range)) {
      return folds;
    }
    const auto right = mine + 1;
    folds.push_back({.left = mine->buffer, .right = right->buffer});
    mine->range.end = right->range.end;
    mine = pieces.erase(right) - 1;
  }
}

int GradientStack::capacity(int num_slots, std::span<const int> slots) {
  std::vector<Piece> pieces;
  std::size_t most = 0;
  for (const int slot : slots) {
    most = std::max(most, pieces.size() + 1);
    insert(num_slots, {.range = {slot, slot + 1}}, pieces);
  }
  return static_cast<int>(most);
}

std::span<float> GradientStack::buffer(int index) const {
  return memory_.subspan(static_cast<std::size_t>(index * num_elements_),
                         static_cast<std::size_t>(num_elements_));
}

int GradientStack::free_buffer() const {
  for (int index = 0; index < num_buffers_; ++index) {
    const auto holds = [&](const Piece& piece) { return piece.buffer == index; };
    if (std::none_of(pieces_.begin(), pieces_.end(), holds)) {
      return index;
    }
  }
  return -1;
}

int GradientStack::next_slot() const {
  return num_pushed_ < slots_.size() ? slots_[num_pushed_] : -1;
}

bool GradientStack::has_room() const {
  return num_pushed_ == 0 || std::cmp_less(pieces_.size(), num_buffers_);
}

std::span<float> GradientStack::reserve(int slot) {
  return reserve(bsp::SlotRange{slot, slot + 1});
}

std::span<float> GradientStack::reserve(bsp::SlotRange subtree) {
  const int slot = subtree.begin;
  SUPERSTEP_CHECK(open_slot_ < 0, "slot", slot, "reserved while another one is open");
  SUPERSTEP_CHECK(subtree.length() > 0 && is_subtree(num_slots_, subtree), "slots", slot,
                  subtree.end, "are no subtree");
  SUPERSTEP_CHECK(order_ == SlotOrder::kAny || next_slot() == slot, "slot", slot,
                  "is not this rank's next");
  for (std::size_t i = 1; order_ == SlotOrder::kAscending && i < at(subtree.length()); ++i) {
    SUPERSTEP_CHECK(
        num_pushed_ + i < slots_.size() && slots_[num_pushed_ + i] == slot + static_cast<int>(i),
        "slots", slot, subtree.end, "are not all this rank's");
  }
  if (num_pushed_ == 0) {
    pieces_.clear();
  }
  const auto overlaps = [&](const Piece& piece) {
    return piece.range.begin < subtree.end && subtree.begin < piece.range.end;
  };
  SUPERSTEP_CHECK(std::none_of(pieces_.begin(), pieces_.end(), overlaps), "slot", slot,
                  "was pushed before in this step");
  open_buffer_ = free_buffer();
  SUPERSTEP_CHECK(open_buffer_ >= 0, "no buffer is left for slot", slot);
  folds_ = insert(num_slots_, {.range = subtree, .buffer = open_buffer_}, pieces_);
  buckets_pushed_ = 0;
  open_slot_ = slot;
  open_length_ = subtree.length();
  return buffer(open_buffer_);
}

void GradientStack::push(int slot, int bucket, std::span<const float> gradient) {
  SUPERSTEP_CHECK(open_slot_ == slot, "slot", slot, "is not open");
  SUPERSTEP_CHECK(bucket == static_cast<int>(buckets_pushed_), "bucket", bucket,
                  "pushed out of order");
  const ElementRange range = buckets_[buckets_pushed_];
  SUPERSTEP_CHECK(static_cast<std::int64_t>(gradient.size()) == range.length(), "bucket length",
                  gradient.size());
  const std::span<float> own =
      buffer(open_buffer_).subspan(static_cast<std::size_t>(range.begin), gradient.size());
  if (own.data() != gradient.data()) {
    std::copy(gradient.begin(), gradient.end(), own.begin());
  }
  combine_bucket(range);
  if (++buckets_pushed_ == buckets_.size()) {
    open_slot_ = -1;
    num_pushed_ += at(open_length_);
  }
}

void GradientStack::combine_bucket(ElementRange bucket) {
  for (std::int64_t begin = bucket.begin; begin < bucket.end; begin += kBlockElements) {
    const std::int64_t count = std::min(kBlockElements, bucket.end - begin);
    for (const Fold& fold : folds_) {
      add_in_place(buffer(fold.left).data() + begin, buffer(fold.right).data() + begin, count);
    }
  }
}

void GradientStack::finish_step() {
  const bool complete = order_ == SlotOrder::kAny || num_pushed_ == slots_.size();
  SUPERSTEP_CHECK(open_slot_ < 0 && complete, "gradients of some slots were not pushed: got",
                  num_pushed_, "of", slots_.size());
  if (num_pushed_ == 0) {
    pieces_.clear();
  }
  num_pushed_ = 0;
}

}  // namespace superstep::paramserver
