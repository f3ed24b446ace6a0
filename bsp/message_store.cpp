#include "bsp/message_store.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

std::uint32_t MessageStore::add(MessageTarget& target) {
  targets_[next_id_] = &target;
  return next_id_++;
}

void MessageStore::append(int rank, const MessageRecord& record, std::span<const std::byte> bytes) {
  append_message(outgoing_[rank], record, bytes);
}

void MessageStore::put(int to, std::uint32_t id, std::int64_t offset_bytes,
                       std::span<const std::byte> bytes) {
  pending_.puts_or_sends = true;
  append(to, {MessageKind::kPut, id, offset_bytes, static_cast<std::int64_t>(bytes.size())}, bytes);
}

void MessageStore::send(int to, std::uint32_t id, std::span<const std::byte> bytes) {
  pending_.puts_or_sends = true;
  append(to, {MessageKind::kSend, id, 0, static_cast<std::int64_t>(bytes.size())}, bytes);
}

std::shared_ptr<GetAnswer> MessageStore::get(int from, std::uint32_t id, std::int64_t offset_bytes,
                                             std::int64_t num_bytes) {
  pending_.gets = true;
  append(from, {MessageKind::kGet, id, offset_bytes, num_bytes}, {});
  auto answer = std::make_shared<GetAnswer>();
  answer->bytes.resize(static_cast<std::size_t>(num_bytes));
  return awaited_[from].emplace_back(std::move(answer));
}

MessageTarget& MessageStore::target(std::uint32_t id) const {
  const auto found = targets_.find(id);
  if (found == targets_.end()) {
    throw CommunicationError(
        "World::sync",
        fmt::format("a message came for an object that this rank has destroyed: got number {}, "
                    "expected one of {} living objects",
                    id, targets_.size()));
  }
  return *found->second;
}

std::vector<MessageStore::Stream> MessageStore::exchange_streams(World::State& state) {
  const auto num_ranks = static_cast<std::size_t>(state.size());
  std::vector<std::uint64_t> sizes(num_ranks);
  std::vector<std::uint64_t> their_sizes(num_ranks);
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (std::size_t i = 0; i < num_ranks; ++i) {
    const auto rank = static_cast<int>(i);
    const auto mine = outgoing_.find(rank);
    sizes[i] = mine == outgoing_.end() ? 0 : mine->second.size();
    outgoing.push_back({rank, std::as_bytes(std::span(&sizes[i], 1))});
    incoming.push_back({rank, std::as_writable_bytes(std::span(&their_sizes[i], 1))});
  }
  state.exchange(outgoing, incoming);

  std::vector<Stream> received(num_ranks);
  outgoing.clear();
  incoming.clear();
  for (const auto& [rank, stream] : outgoing_) {
    outgoing.push_back({rank, stream});
  }
  for (std::size_t i = 0; i < num_ranks; ++i) {
    if (their_sizes[i] > 0) {
      received[i].resize(their_sizes[i]);
      incoming.push_back({static_cast<int>(i), received[i]});
    }
  }
  state.exchange(outgoing, incoming);
  return received;
}

void MessageStore::answer_gets(World::State& state, std::span<const Stream> received) {
  std::vector<Stream> answers(received.size());
  std::vector<Outgoing> outgoing;
  for (std::size_t i = 0; i < received.size(); ++i) {
    const auto source = static_cast<int>(i);
    for (MessageReader reader(received[i], source); reader.next();) {
      const MessageRecord& record = reader.record();
      if (record.kind == MessageKind::kGet) {
        const auto memory = memory_of(record, target(record.id).memory(), source);
        answers[i].insert(answers[i].end(), memory.begin(), memory.end());
      }
    }
    if (!answers[i].empty()) {
      outgoing.push_back({source, answers[i]});
    }
  }
  std::map<int, Stream> replies;
  std::vector<Incoming> incoming;
  for (const auto& [owner, awaited] : awaited_) {
    std::size_t total = 0;
    for (const auto& answer : awaited) {
      total += answer->bytes.size();
    }
    if (total > 0) {
      replies[owner].resize(total);
      incoming.push_back({owner, replies[owner]});
    }
  }
  state.exchange(outgoing, incoming);
  for (auto& [owner, awaited] : awaited_) {
    std::span<const std::byte> reply = replies[owner];
    for (const auto& answer : awaited) {
      std::copy_n(reply.begin(), answer->bytes.size(), answer->bytes.begin());
      reply = reply.subspan(answer->bytes.size());
      answer->ready = true;
    }
  }
}

void MessageStore::apply(std::span<const Stream> received) {
  for (std::size_t i = 0; i < received.size(); ++i) {
    const auto source = static_cast<int>(i);
    for (MessageReader reader(received[i], source); reader.next();) {
      const MessageRecord& record = reader.record();
      if (record.kind == MessageKind::kPut) {
        const auto memory = memory_of(record, target(record.id).memory(), source);
        std::copy(reader.bytes().begin(), reader.bytes().end(), memory.begin());
      } else if (record.kind == MessageKind::kSend) {
        target(record.id).receive(source, reader.bytes());
      }
    }
  }
}

void MessageStore::deliver(World::State& state, PendingMessages agreed) {
  for (const auto& [id, target] : targets_) {
    target->clear_messages();
  }
  if (!agreed.puts_or_sends && !agreed.gets) {
    return;
  }
  const std::vector<Stream> received = exchange_streams(state);
  if (agreed.gets) {
    answer_gets(state, received);
  }
  apply(received);
  for (const auto& [id, target] : targets_) {
    target->end_delivery();
  }
  pending_ = {};
  outgoing_.clear();
  awaited_.clear();
}

}  // namespace superstep::bsp::internal
