#include "bsp/world_object.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/source_path.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

namespace {

// Messages start on multiples of this, which suits every fundamental type.
constexpr std::size_t kMessageAlignment = alignof(std::max_align_t);

CallKind call_kind(ObjectKind kind) {
  constexpr std::array kKinds = {CallKind::kVar, CallKind::kCoarray, CallKind::kQueue,
                                 CallKind::kAggregator, CallKind::kCombiningQueue};
  return kKinds[static_cast<std::size_t>(kind)];
}

}  // namespace

class WorldObject::Part final : public MessageTarget {
 public:
  Part(World::State& state, const CallRecord& made_by, std::span<std::byte> memory,
       std::size_t element_bytes, SyncHooks hooks)
      : state_(state),
        made_by_(made_by),
        memory_(memory),
        element_bytes_(element_bytes),
        hooks_(std::move(hooks)),
        sizes_(state.allgather_raw(memory.size() / element_bytes)),
        id_(state.messages.add(*this)) {}
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  virtual ~Part() { state_.messages.remove(id_); }

  std::span<std::byte> memory() override { return memory_; }
  void clear_messages() override {
    messages_.clear();
    storage_.clear();
    views_.clear();
  }
  void receive(int source, std::span<const std::byte> bytes) override {
    const std::size_t begin =
        (storage_.size() + kMessageAlignment - 1) / kMessageAlignment * kMessageAlignment;
    storage_.resize(begin);
    storage_.insert(storage_.end(), bytes.begin(), bytes.end());
    messages_.push_back({source, begin, bytes.size()});
  }
  void end_delivery() override {
    for (const Message& message : messages_) {
      views_.push_back(
          {message.source, std::span(storage_).subspan(message.begin, message.num_bytes)});
    }
  }

  void before_sync() override {
    if (hooks_.before) {
      hooks_.before();
    }
  }
  void after_sync() override {
    if (hooks_.after) {
      hooks_.after();
    }
  }
  std::string describe() const override {
    return fmt::format("{} made at {}", name_of(made_by_.kind), describe_site(made_by_.site));
  }
  std::int64_t element_bytes() const override { return static_cast<std::int64_t>(element_bytes_); }

  MessageStore& store() { return state_.messages; }
  std::uint32_t id() const { return id_; }
  std::int64_t bytes_of(std::int64_t count) const {
    return count * static_cast<std::int64_t>(element_bytes_);
  }
  int num_ranks() const { return static_cast<int>(sizes_.size()); }
  std::int64_t size_of(int rank) const {
    return static_cast<std::int64_t>(sizes_[static_cast<std::size_t>(rank)]);
  }
  std::span<const ReceivedMessage> received() const { return views_; }

 private:
  struct Message {
    int source = 0;
    std::size_t begin = 0;
    std::size_t num_bytes = 0;
  };

  World::State& state_;
  CallRecord made_by_;
  std::span<std::byte> memory_;
  std::size_t element_bytes_;
  SyncHooks hooks_;
  std::vector<std::uint64_t> sizes_;  // elements, by rank
  std::uint32_t id_;
  std::vector<Message> messages_;
  std::vector<std::byte> storage_;
  std::vector<ReceivedMessage> views_;
};

WorldObject::WorldObject(World& world, ObjectKind kind, std::span<std::byte> memory,
                         std::size_t element_bytes, CallSite site, SyncHooks hooks) {
  World::State& state = WorldAccess::state(world);
  const CallRecord record{.kind = call_kind(kind), .detail = element_bytes << 48, .site = site};
  const CollectiveCall call(state, record);
  part_ = std::make_unique<Part>(state, record, memory, element_bytes, std::move(hooks));
}

WorldObject::~WorldObject() = default;

void WorldObject::put(int rank, std::int64_t offset, std::span<const std::byte> bytes,
                      CallSite site) {
  part_->store().put(rank, part_->id(), part_->bytes_of(offset), bytes, site);
}

void WorldObject::put_direct(int rank, std::int64_t offset, std::span<const std::byte> bytes,
                             CallSite site) {
  part_->store().put_direct(rank, part_->id(), part_->bytes_of(offset), bytes, site);
}

std::shared_ptr<const GetAnswer> WorldObject::get(int rank, std::int64_t offset,
                                                  std::int64_t count) {
  return part_->store().get(rank, part_->id(), part_->bytes_of(offset), part_->bytes_of(count));
}

void WorldObject::get_direct(int rank, std::int64_t offset, std::span<std::byte> into) {
  part_->store().get_direct(rank, part_->id(), part_->bytes_of(offset), into);
}

void WorldObject::send(int rank, std::span<const std::byte> bytes) {
  part_->store().send(rank, part_->id(), bytes, Activity::kActive);
}

void WorldObject::send_in_background(int rank, std::span<const std::byte> bytes) {
  part_->store().send(rank, part_->id(), bytes, Activity::kBackground);
}

int WorldObject::num_ranks() const {
  return part_->num_ranks();
}

std::span<const ReceivedMessage> WorldObject::received() const {
  return part_->received();
}

std::int64_t WorldObject::num_elements(int rank) const {
  require_range("WorldObject::num_elements", rank, 0, 0);
  return part_->size_of(rank);
}

void WorldObject::require_range(std::string_view where, int rank, std::int64_t begin,
                                std::int64_t end) const {
  if (rank < 0 || rank >= part_->num_ranks()) {
    throw InvalidArgument(where, fmt::format("rank out of range: got {}, expected 0 to {}", rank,
                                             part_->num_ranks() - 1));
  }
  if (begin < 0 || end < begin || end > part_->size_of(rank)) {
    throw InvalidArgument(
        where, fmt::format("elements out of range: got [{}, {}), rank {} has {} elements", begin,
                           end, rank, part_->size_of(rank)));
  }
}

}  // namespace superstep::bsp::internal
