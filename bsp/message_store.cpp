#include "bsp/message_store.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/message_checker.h"
#include "bsp/source_path.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

MessageStore::MessageStore() = default;
MessageStore::~MessageStore() = default;

std::uint32_t MessageStore::add(MessageTarget& target) {
  targets_[next_id_] = &target;
  return next_id_++;
}

void MessageStore::append(int rank, const MessageRecord& record, std::span<const std::byte> bytes) {
  append_message(outgoing_[rank], record, bytes);
}

void MessageStore::append_origin(int rank, std::uint32_t id, CallSite site) {
  if (checker_ != nullptr) {
    const std::string text = describe_site(site);
    append(rank, {MessageKind::kOrigin, id, 0, static_cast<std::int64_t>(text.size())},
           std::as_bytes(std::span(text)));
  }
}

void MessageStore::put(int to, std::uint32_t id, std::int64_t offset_bytes,
                       std::span<const std::byte> bytes, CallSite site) {
  pending_.puts_or_sends = true;
  pending_.active = true;
  append(to, {MessageKind::kPut, id, offset_bytes, static_cast<std::int64_t>(bytes.size())}, bytes);
  append_origin(to, id, site);
}

void MessageStore::put_direct(int to, std::uint32_t id, std::int64_t offset_bytes,
                              std::span<const std::byte> bytes, CallSite site) {
  pending_.puts_or_sends = true;
  pending_.direct_puts = true;
  pending_.active = true;
  append(to, {MessageKind::kDirectPut, id, offset_bytes, static_cast<std::int64_t>(bytes.size())},
         {});
  append_origin(to, id, site);
  direct_puts_.push_back({to, bytes});
  if (checker_ != nullptr) {
    checker_->remember_source(to, bytes, site);
  }
}

void MessageStore::send(int to, std::uint32_t id, std::span<const std::byte> bytes,
                        Activity activity) {
  pending_.puts_or_sends = true;
  pending_.active |= activity == Activity::kActive;
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

void MessageStore::get_direct(int from, std::uint32_t id, std::int64_t offset_bytes,
                              std::span<std::byte> into) {
  pending_.gets = true;
  append(from, {MessageKind::kDirectGet, id, offset_bytes, static_cast<std::int64_t>(into.size())},
         {});
  direct_gets_[from].push_back(into);
}

void MessageStore::set_checker(std::unique_ptr<MessageChecker> checker) {
  checker_ = std::move(checker);
}

PendingMessages MessageStore::begin_sync() {
  for (const auto& [id, target] : targets_) {
    target->before_sync();
  }
  if (checker_ != nullptr) {
    checker_->check_sources();
  }
  return pending_;
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

// The answers to what every rank asked: one message of copies, then the unbuffered ones in the
// order asked. `answers` must remain valid while the messages do.
std::vector<Outgoing> MessageStore::collect_answers(std::span<const Stream> received,
                                                    std::vector<Stream>& answers) const {
  std::vector<Outgoing> outgoing;
  for (std::size_t i = 0; i < received.size(); ++i) {
    const auto source = static_cast<int>(i);
    std::vector<Outgoing> direct;
    for (MessageReader reader(received[i], source); reader.next();) {
      const MessageRecord& record = reader.record();
      if (record.kind == MessageKind::kGet) {
        const auto memory = memory_of(record, target(record.id).memory(), source);
        answers[i].insert(answers[i].end(), memory.begin(), memory.end());
      } else if (record.kind == MessageKind::kDirectGet) {
        direct.push_back({source, memory_of(record, target(record.id).memory(), source)});
      }
    }
    if (!answers[i].empty()) {
      outgoing.push_back({source, answers[i]});
    }
    outgoing.insert(outgoing.end(), direct.begin(), direct.end());
  }
  return outgoing;
}

void MessageStore::answer_gets(World::State& state, std::span<const Stream> received) {
  std::vector<Stream> answers(received.size());
  const std::vector<Outgoing> outgoing = collect_answers(received, answers);
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
  for (const auto& [owner, spans] : direct_gets_) {
    for (const std::span<std::byte> into : spans) {
      incoming.push_back({owner, into});
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

void MessageStore::write_direct_puts(World::State& state, std::span<const Stream> received) {
  std::vector<Outgoing> outgoing;
  for (const DirectPut& put : direct_puts_) {
    outgoing.push_back({put.to, put.bytes});
  }
  std::vector<Incoming> incoming;
  for (std::size_t i = 0; i < received.size(); ++i) {
    const auto source = static_cast<int>(i);
    for (MessageReader reader(received[i], source); reader.next();) {
      const MessageRecord& record = reader.record();
      if (record.kind == MessageKind::kDirectPut) {
        incoming.push_back({source, memory_of(record, target(record.id).memory(), source)});
      }
    }
  }
  state.exchange(outgoing, incoming);
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

void MessageStore::deliver_messages(World::State& state, PendingMessages agreed) {
  const std::vector<Stream> received = exchange_streams(state);
  if (agreed.gets) {
    answer_gets(state, received);
  }
  if (agreed.direct_puts) {
    write_direct_puts(state, received);
  }
  apply(received);
  if (checker_ != nullptr) {
    for (std::size_t i = 0; i < received.size(); ++i) {
      checker_->note_puts(received[i], static_cast<int>(i));
    }
    checker_->check_conflicts(
        [this](std::uint32_t id) -> const MessageTarget& { return target(id); });
  }
  for (const auto& [id, target] : targets_) {
    target->end_delivery();
  }
  outgoing_.clear();
  direct_puts_.clear();
  awaited_.clear();
  direct_gets_.clear();
}

void MessageStore::deliver(World::State& state, PendingMessages agreed) {
  for (const auto& [id, target] : targets_) {
    target->clear_messages();
  }
  if (agreed.puts_or_sends || agreed.gets) {
    deliver_messages(state, agreed);
  }
  pending_ = {};
  for (const auto& [id, target] : targets_) {
    target->after_sync();
  }
}

}  // namespace superstep::bsp::internal
