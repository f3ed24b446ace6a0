// Buffers travel between the two threads under one mutex: free -> (thread) filling -> ready ->
// (next) held -> free. Outside the mutex a buffer is touched only by the side that has it.
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "worker/data/batches.h"
#include "worker/data/slot_reader.h"

namespace superstep::worker {

namespace {

constexpr std::string_view kPrefetcher = "Prefetcher";
constexpr int kHeldByCaller = 2;

enum class Stage : std::uint8_t { kFree, kFilling, kReady, kHeld };

struct Buffer {
  Stage stage = Stage::kFree;
  // The step whose samples the slots hold; nullopt while they hold a mixture.
  std::optional<BatchPosition> filled;
  StepBatch batch;
};

void check_slots(std::span<const int> slots, int microbatches) {
  if (std::adjacent_find(slots.begin(), slots.end(), std::greater_equal<>()) != slots.end()) {
    throw InvalidArgument(kPrefetcher, fmt::format("slots: got {}, expected ascending and distinct",
                                                   fmt::join(slots, ", ")));
  }
  if (!slots.empty() && (slots.front() < 0 || slots.back() >= microbatches)) {
    throw InvalidArgument(kPrefetcher, fmt::format("slot out of range: got {}, expected 0 to {}",
                                                   slots.front() < 0 ? slots.front() : slots.back(),
                                                   microbatches - 1));
  }
}

}  // namespace

struct Prefetcher::State {
  State(std::shared_ptr<const Dataset> source, Normalization normalize, BatchPlan batch_plan,
        std::vector<int> my_slots, BatchPosition first, int depth, std::int64_t steps)
      : plan(batch_plan),
        reader(std::move(source), normalize, plan),
        slots(std::move(my_slots)),
        next_wanted(first),
        next_filled(first),
        steps_wanted(steps),
        steps_to_fill(steps),
        buffers(static_cast<std::size_t>(depth + kHeldByCaller)) {
    for (Buffer& buffer : buffers) {
      buffer.batch.random_key = kernels::Tensor::zeros({2}, kernels::DType::kInt64);
    }
  }

  // ---- the background thread

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      Buffer* buffer = nullptr;
      work_there.wait(lock, [&] { return stopping || (buffer = take_free()) != nullptr; });
      if (stopping) {
        return;
      }
      const std::int64_t started_in = generation;
      const BatchPosition position = next_filled;
      work_slots = slots;
      lock.unlock();
      std::exception_ptr failure;
      try {
        fill(*buffer, position);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      finish(*buffer, started_in, failure);
    }
  }

  // A free buffer, preferably one that already holds slots of the position; null when nothing is to
  // do.
  Buffer* take_free() {
    if (error != nullptr || steps_to_fill == 0) {
      return nullptr;
    }
    Buffer* found = nullptr;
    for (Buffer& buffer : buffers) {
      if (buffer.stage != Stage::kFree) {
        continue;
      }
      if (buffer.filled == next_filled) {
        found = &buffer;
        break;
      }
      // Else the one whose content lies furthest back.
      if (found == nullptr || buffer.filled < found->filled) {
        found = &buffer;
      }
    }
    if (found != nullptr) {
      found->stage = Stage::kFilling;
    }
    return found;
  }

  void finish(Buffer& buffer, std::int64_t started_in, const std::exception_ptr& failure) {
    if (generation != started_in) {
      buffer.stage = Stage::kFree;  // other slots by now; what fits is used again
      return;
    }
    if (failure != nullptr) {
      buffer.stage = Stage::kFree;
      error = failure;
    } else {
      buffer.stage = Stage::kReady;
      next_filled = plan.next(next_filled);
      steps_to_fill -= steps_to_fill > 0 ? 1 : 0;
    }
    batch_there.notify_one();
  }

  void fill(Buffer& buffer, BatchPosition position) {
    const bool reuse = buffer.filled == position;
    buffer.filled.reset();
    StepBatch& batch = buffer.batch;
    const std::size_t kept = arrange_slots(batch.slots, reuse);
    batch.epoch = position.epoch;
    batch.step_in_epoch = position.step_in_epoch;
    batch.global_samples = plan.samples_in_step(position.step_in_epoch);
    const std::span<std::int64_t> key = batch.random_key.mutable_data<std::int64_t>();
    key[0] = static_cast<std::int64_t>(plan.options().seed);
    key[1] = position.epoch;
    for (std::size_t i = kept; i < batch.slots.size(); ++i) {
      if (reader.read(position, batch.slots[i], [this] { return keep_reading(); }) ==
          KeepReading::kNo) {
        return;  // stopping
      }
    }
    std::sort(batch.slots.begin(), batch.slots.end(),
              [](const SlotBatch& a, const SlotBatch& b) { return a.slot < b.slot; });
    buffer.filled = position;
  }

  // Makes `batches` hold work_slots: first those that are right already (their number is returned),
  // then those to be filled. A slot that was here before gets its own tensors, of its own shape.
  std::size_t arrange_slots(std::vector<SlotBatch>& batches, bool reuse) {
    if (!reuse && batches.size() == work_slots.size() &&
        std::equal(batches.begin(), batches.end(), work_slots.begin(),
                   [](const SlotBatch& batch, int slot) { return batch.slot == slot; })) {
      return 0;
    }
    const auto wanted = [&](const SlotBatch& batch) {
      return std::binary_search(work_slots.begin(), work_slots.end(), batch.slot);
    };
    const auto middle = std::stable_partition(batches.begin(), batches.end(), wanted);
    const auto kept = static_cast<std::size_t>(middle - batches.begin());
    std::vector<int> missing;
    for (const int slot : work_slots) {
      if (std::none_of(batches.begin(), middle,
                       [&](const SlotBatch& b) { return b.slot == slot; })) {
        missing.push_back(slot);
      }
    }
    batches.resize(work_slots.size());
    for (std::size_t i = 0; i < missing.size(); ++i) {
      batches[kept + i].slot = missing[i];
    }
    if (!reuse) {
      std::sort(batches.begin(), batches.end(),
                [](const SlotBatch& a, const SlotBatch& b) { return a.slot < b.slot; });
    }
    return reuse ? kept : 0;
  }

  KeepReading keep_reading() {
    const std::lock_guard lock(mutex);
    return stopping ? KeepReading::kNo : KeepReading::kYes;
  }

  // ---- the caller's thread

  const StepBatch& next() {
    std::unique_lock lock(mutex);
    if (steps_wanted == 0) {
      throw InvalidArgument("Prefetcher::next", "no more steps: the last one was already returned");
    }
    release_oldest();
    const Stopwatch watch;
    Buffer* buffer = nullptr;
    batch_there.wait(lock, [&] { return (buffer = find_ready()) != nullptr || error != nullptr; });
    input_wait_seconds += watch.seconds();
    if (buffer == nullptr) {
      std::rethrow_exception(error);
    }
    buffer->stage = Stage::kHeld;
    older = std::exchange(newer, buffer);
    next_wanted = plan.next(next_wanted);
    steps_wanted -= steps_wanted > 0 ? 1 : 0;
    return buffer->batch;
  }

  // The batch before the last one returned is the caller's no longer.
  void release_oldest() {
    if (older != nullptr) {
      older->stage = Stage::kFree;
      older = nullptr;
      work_there.notify_one();
    }
  }

  Buffer* find_ready() {
    for (Buffer& buffer : buffers) {
      if (buffer.stage == Stage::kReady && buffer.filled == next_wanted) {
        return &buffer;
      }
    }
    return nullptr;
  }

  void set_slots(std::vector<int> my_slots) {
    check_slots(my_slots, plan.options().microbatches);
    const std::lock_guard lock(mutex);
    if (my_slots == slots) {
      return;
    }
    slots = std::move(my_slots);
    ++generation;
    for (Buffer& buffer : buffers) {
      if (buffer.stage == Stage::kReady) {
        buffer.stage = Stage::kFree;
      }
    }
    next_filled = next_wanted;
    steps_to_fill = steps_wanted;
    error = nullptr;
    work_there.notify_one();
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_there.notify_one();
  }

  const BatchPlan plan;

  // Of the background thread only.
  SlotReader reader;
  std::vector<int> work_slots;

  // Of the caller's thread only: what it holds.
  Buffer* newer = nullptr;
  Buffer* older = nullptr;

  std::mutex mutex;  // guards everything below, and the stage of each buffer
  std::condition_variable work_there;
  std::condition_variable batch_there;
  bool stopping = false;
  std::int64_t generation = 0;  // of the slots: what an older one made is not handed out
  std::vector<int> slots;
  BatchPosition next_wanted;
  BatchPosition next_filled;
  std::int64_t steps_wanted;   // left to hand out; kEndless
  std::int64_t steps_to_fill;  // left to assemble; kEndless
  std::exception_ptr error;
  double input_wait_seconds = 0.0;
  std::vector<Buffer> buffers;
  std::thread thread;  // last: starts when all the rest is there
};

Prefetcher::Prefetcher(std::shared_ptr<const Dataset> dataset, Normalization normalization,
                       BatchPlan plan, std::vector<int> my_slots, std::int64_t first_epoch,
                       std::int64_t first_step, int depth, std::int64_t num_steps) {
  check_slots(my_slots, plan.options().microbatches);
  const BatchPosition first{.epoch = first_epoch, .step_in_epoch = first_step};
  plan.steps_before(first);  // checks the position
  if (depth < 1) {
    throw InvalidArgument(kPrefetcher, fmt::format("depth: got {}, expected at least 1", depth));
  }
  if (num_steps < 0 && num_steps != kEndless) {
    throw InvalidArgument(kPrefetcher,
                          fmt::format("number of steps: got {}, expected at least 0", num_steps));
  }
  if (plan.num_samples() != dataset->size()) {
    throw InvalidArgument(kPrefetcher,
                          fmt::format("samples of the plan: got {}, expected {} as in the dataset",
                                      plan.num_samples(), dataset->size()));
  }
  state_ = std::make_unique<State>(std::move(dataset), normalization, plan, std::move(my_slots),
                                   first, depth, num_steps);
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Prefetcher::~Prefetcher() {
  state_->stop();
  state_->thread.join();
}

const StepBatch& Prefetcher::next() {
  return state_->next();
}

void Prefetcher::set_slots(std::vector<int> my_slots) {
  state_->set_slots(std::move(my_slots));
}

double Prefetcher::input_wait_seconds() const {
  const std::lock_guard lock(state_->mutex);
  return state_->input_wait_seconds;
}

}  // namespace superstep::worker
