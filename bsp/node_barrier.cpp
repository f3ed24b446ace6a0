#include "bsp/node_barrier.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <time.h>

#include "base/check.h"

namespace superstep::bsp::internal {

std::int64_t NodeBarrier::bytes_for(int num_members) {
  return static_cast<std::int64_t>(sizeof(Seat)) * num_members;
}

NodeBarrier::NodeBarrier(SharedMapping mapping, int member, int num_members)
    : mapping_(std::move(mapping)), member_(member), num_members_(num_members) {
  SUPERSTEP_CHECK(mapping_.size() >= bytes_for(num_members), "memory of the node's barrier",
                  mapping_.size());
}

// Zero bytes are the initial state of an atomic integer on every platform this runs on.
NodeBarrier::Seat& NodeBarrier::seat(int member) const {
  return reinterpret_cast<Seat*>(mapping_.data())[member];
}

void NodeBarrier::await(const Seat& seat, Patience& patience) const {
  while (seat.meeting.load(std::memory_order_acquire) != meeting_) {
    if (patience.pause() == Pause::kSleep) {
      const timespec nap{0, std::chrono::nanoseconds(Patience::kNap).count()};
      nanosleep(&nap, nullptr);
    }
  }
}

void NodeBarrier::post(int member, std::span<const std::uint64_t> words) {
  Seat& mine = seat(member);
  for (std::size_t i = 0; i < words.size(); ++i) {
    mine.words[i].store(words[i], std::memory_order_relaxed);
  }
  mine.meeting.store(meeting_, std::memory_order_release);
}

void NodeBarrier::arrive_and_wait(std::span<std::uint64_t> words, Patience& patience) {
  SUPERSTEP_CHECK(words.size() <= kMostWords, "words of a meeting", words.size());
  post(member_, words);
  const Seat& leader = seat(0);
  await(leader, patience);
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = leader.words[i].load(std::memory_order_relaxed);
  }
}

// A follower writes its seat again only after it was released, so the words stand still here.
void NodeBarrier::await_followers(std::span<std::uint64_t> words, Patience& patience) {
  SUPERSTEP_CHECK(words.size() <= kMostWords, "words of a meeting", words.size());
  for (int member = 1; member < num_members_; ++member) {
    const Seat& follower = seat(member);
    await(follower, patience);
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = std::max(words[i], follower.words[i].load(std::memory_order_relaxed));
    }
  }
}

}  // namespace superstep::bsp::internal
