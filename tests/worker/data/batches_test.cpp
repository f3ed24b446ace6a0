#include "worker/data/batches.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/error_text.h"

namespace superstep::worker {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

std::vector<int> all_slots(int microbatches) {
  std::vector<int> slots(static_cast<std::size_t>(microbatches));
  std::iota(slots.begin(), slots.end(), 0);
  return slots;
}

// ---- the plan

TEST(BatchPlan, UsesEverySampleExactlyOncePerEpochForOddSizes) {
  for (const std::int64_t samples : {1, 2, 7, 64, 97, 130}) {
    for (const std::int64_t batch : {1, 5, 64, 200}) {
      for (const int slots : {1, 3, 8, 13}) {
        const BatchPlan plan(samples, {.global_batch = batch, .microbatches = slots, .seed = 3});
        const std::vector<std::int64_t> order = plan.order(2);
        std::vector<std::int64_t> seen;
        for (std::int64_t step = 0; step < plan.steps_per_epoch(); ++step) {
          std::int64_t in_step = 0;
          for (int slot = 0; slot < slots; ++slot) {
            const auto indices = plan.slot_indices(order, step, slot);
            seen.insert(seen.end(), indices.begin(), indices.end());
            in_step += static_cast<std::int64_t>(indices.size());
            ASSERT_LE(static_cast<std::int64_t>(indices.size()), plan.max_slot_samples());
          }
          ASSERT_EQ(in_step, plan.samples_in_step(step));
          ASSERT_GE(in_step, 1);
        }
        ASSERT_EQ(seen, order);
        std::sort(seen.begin(), seen.end());
        std::vector<std::int64_t> expected(static_cast<std::size_t>(samples));
        std::iota(expected.begin(), expected.end(), std::int64_t{0});
        ASSERT_EQ(seen, expected) << samples << " " << batch << " " << slots;
      }
    }
  }
}

TEST(BatchPlan, CutsTheActualBatchOfTheLastStep) {
  const BatchPlan plan(10, {.global_batch = 7, .microbatches = 4, .shuffled = false});
  const std::vector<std::int64_t> order = plan.order(0);
  EXPECT_EQ(plan.steps_per_epoch(), 2);
  EXPECT_EQ(plan.samples_in_step(1), 3);
  // floor(3 i / 4): 0, 0, 1, 2, 3.
  EXPECT_THAT(plan.slot_indices(order, 1, 0), ElementsAre());
  EXPECT_THAT(plan.slot_indices(order, 1, 1), ElementsAre(7));
  EXPECT_THAT(plan.slot_indices(order, 1, 3), ElementsAre(9));
  EXPECT_EQ(plan.max_slot_samples(), 2);
}

TEST(BatchPlan, ShufflesEachEpochAnewAndOnlyBySeedAndEpoch) {
  const BatchPlan plan(100, {.global_batch = 10, .microbatches = 2, .seed = 1});
  const BatchPlan other_cut(100, {.global_batch = 33, .microbatches = 5, .seed = 1});
  const BatchPlan other_seed(100, {.global_batch = 10, .microbatches = 2, .seed = 2});
  EXPECT_NE(plan.order(0), plan.order(1));
  EXPECT_EQ(plan.order(4), other_cut.order(4));
  EXPECT_NE(plan.order(4), other_seed.order(4));
}

TEST(BatchPlan, KeepsTheOrderOfTheDatasetWhenNotShuffled) {
  const BatchPlan plan(5, {.shuffled = false});
  EXPECT_THAT(plan.order(9), ElementsAre(0, 1, 2, 3, 4));
}

TEST(BatchPlan, CountsPositionsBackAndForth) {
  const BatchPlan plan(10, {.global_batch = 4});
  BatchPosition position;
  for (std::int64_t steps = 0; steps < 10; ++steps) {
    EXPECT_EQ(plan.position_after(steps), position);
    EXPECT_EQ(plan.steps_before(position), steps);
    EXPECT_EQ(plan.samples_before(position), steps / 3 * 10 + steps % 3 * 4);
    position = plan.next(position);
  }
  EXPECT_EQ(position, (BatchPosition{.epoch = 3, .step_in_epoch = 1}));
}

TEST(BatchPlan, RefusesImpossibleArguments) {
  EXPECT_THAT(error_text<InvalidArgument>([] { BatchPlan(0, {}); }),
              HasSubstr("number of samples: got 0, expected at least 1"));
  EXPECT_THAT(error_text<InvalidArgument>([] { BatchPlan(1, {.global_batch = 0}); }),
              HasSubstr("global_batch: got 0"));
  EXPECT_THAT(error_text<InvalidArgument>([] { BatchPlan(1, {.microbatches = -1}); }),
              HasSubstr("microbatches: got -1"));
  const BatchPlan plan(10, {.global_batch = 4});
  EXPECT_THAT(error_text<InvalidArgument>([&] { plan.steps_before({.step_in_epoch = 3}); }),
              HasSubstr("step of the epoch: got 3, expected 0 to 2"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { plan.steps_before({.epoch = -1}); }),
              HasSubstr("epoch out of range: got -1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { plan.order(-1); }), HasSubstr("epoch: got -1"));
}

// ---- the prefetcher

constexpr std::int64_t kSamples = 97;

std::shared_ptr<const Dataset> small_dataset() {
  return synthetic_dataset({.num_samples = kSamples, .sample_shape = {2, 3}, .num_classes = 5});
}

// A batch, copied out of the prefetcher's memory.
struct SlotCopy {
  std::vector<float> images;
  std::vector<std::int64_t> labels;
  std::vector<std::int64_t> sample_ids;
  friend bool operator==(const SlotCopy&, const SlotCopy&) = default;
};
struct StepCopy {
  BatchPosition position;
  std::int64_t global_samples = 0;
  std::vector<std::int64_t> random_key;
  std::map<int, SlotCopy> slots;
  friend bool operator==(const StepCopy&, const StepCopy&) = default;
};

template <typename T>
std::vector<T> copy_of(const kernels::Tensor& tensor) {
  return {tensor.data<T>().begin(), tensor.data<T>().end()};
}

StepCopy copy_of(const StepBatch& batch) {
  StepCopy copy{.position = batch.position(),
                .global_samples = batch.global_samples,
                .random_key = copy_of<std::int64_t>(batch.random_key),
                .slots = {}};
  for (const SlotBatch& slot : batch.slots) {
    copy.slots[slot.slot] = {.images = copy_of<float>(slot.images),
                             .labels = copy_of<std::int64_t>(slot.labels),
                             .sample_ids = copy_of<std::int64_t>(slot.sample_ids)};
  }
  return copy;
}

// What a step must hold, read straight from the dataset.
StepCopy expected_step(const Dataset& dataset, const BatchPlan& plan, BatchPosition position,
                       const std::vector<int>& slots) {
  StepCopy step{.position = position,
                .global_samples = plan.samples_in_step(position.step_in_epoch),
                .random_key = {static_cast<std::int64_t>(plan.options().seed), position.epoch},
                .slots = {}};
  const std::vector<std::int64_t> order = plan.order(position.epoch);
  for (const int slot : slots) {
    const auto indices = plan.slot_indices(order, position.step_in_epoch, slot);
    SlotCopy copy{.images = std::vector<float>(indices.size() * 6),
                  .labels = std::vector<std::int64_t>(indices.size()),
                  .sample_ids = {indices.begin(), indices.end()}};
    dataset.read(indices, Normalization::unit(), copy.images, copy.labels);
    step.slots[slot] = copy;
  }
  return step;
}

class PrefetcherTest : public ::testing::Test {
 protected:
  void expect_steps(Prefetcher& prefetcher, BatchPosition& position, int count,
                    const std::vector<int>& slots) const {
    for (int i = 0; i < count; ++i) {
      const StepBatch& batch = prefetcher.next();
      ASSERT_EQ(copy_of(batch), expected_step(*dataset_, plan_, position, slots))
          << "epoch " << position.epoch << " step " << position.step_in_epoch;
      ASSERT_TRUE(std::is_sorted(batch.slots.begin(), batch.slots.end(),
                                 [](const auto& a, const auto& b) { return a.slot < b.slot; }));
      position = plan_.next(position);
    }
  }
  Prefetcher make(std::vector<int> slots, BatchPosition first = {}, int depth = 2,
                  std::int64_t num_steps = Prefetcher::kEndless) const {
    return Prefetcher(dataset_, Normalization::unit(), plan_, std::move(slots), first.epoch,
                      first.step_in_epoch, depth, num_steps);
  }

  std::shared_ptr<const Dataset> dataset_ = small_dataset();
  // 97 = 4 x 20 + 17: uneven slots and an uneven last step, some slots of which differ in size.
  BatchPlan plan_{kSamples, {.global_batch = 20, .microbatches = 6, .seed = 11}};
};

TEST_F(PrefetcherTest, HandsOutThePlanWhateverTheDepthAndTheStart) {
  for (const int depth : {1, 2, 7}) {
    for (const BatchPosition start :
         {BatchPosition{}, BatchPosition{.epoch = 1, .step_in_epoch = 4}}) {
      Prefetcher prefetcher = make(all_slots(6), start, depth);
      BatchPosition position = start;
      expect_steps(prefetcher, position, 13, all_slots(6));
    }
  }
}

TEST_F(PrefetcherTest, SlotsHoldTheSameSamplesHoweverTheyAreDealt) {
  for (const std::vector<std::vector<int>>& deal :
       {std::vector<std::vector<int>>{{0, 1, 2, 3, 4, 5}},
        {{0, 1, 2}, {3, 4, 5}},
        {{1, 5}, {0, 2, 3, 4}, {}}}) {
    for (const std::vector<int>& slots : deal) {
      Prefetcher prefetcher = make(slots);
      BatchPosition position;
      expect_steps(prefetcher, position, 7, slots);
    }
  }
}

TEST_F(PrefetcherTest, IncludesEmptySlots) {
  plan_ = BatchPlan(kSamples, {.global_batch = 48, .microbatches = 32, .seed = 1});
  Prefetcher prefetcher = make(all_slots(32));
  BatchPosition position;
  expect_steps(prefetcher, position, 6, all_slots(32));
  prefetcher.next();
  prefetcher.next();
  const StepBatch& last = prefetcher.next();  // one sample for 32 slots
  ASSERT_EQ(last.global_samples, 1);
  EXPECT_EQ(last.slots.size(), 32U);
  EXPECT_EQ(last.slots[0].num_samples(), 0);
  EXPECT_EQ(last.slots[0].images.shape(), (kernels::Shape{0, 2, 3}));
  EXPECT_EQ(last.slots[31].images.shape(), (kernels::Shape{1, 2, 3}));
}

TEST_F(PrefetcherTest, ABatchStaysValidUntilTheSecondNext) {
  Prefetcher prefetcher = make(all_slots(6), {}, 1);
  const StepBatch* older = &prefetcher.next();
  for (int i = 0; i < 12; ++i) {
    const StepCopy before = copy_of(*older);
    const StepBatch* newer = &prefetcher.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_EQ(copy_of(*older), before);
    older = newer;
  }
}

TEST_F(PrefetcherTest, UsesItsMemoryAgain) {
  Prefetcher prefetcher = make(all_slots(6), {}, 2);
  std::set<const std::byte*> addresses;
  for (int i = 0; i < 40; ++i) {
    const StepBatch& batch = prefetcher.next();
    if (batch.step_in_epoch < 4 && i >= 20) {
      addresses.insert(batch.slots[0].images.bytes());
    }
  }
  // Four buffers, each made anew once an epoch for the shorter last step at most.
  EXPECT_LE(addresses.size(), 4U * 4U);
}

TEST_F(PrefetcherTest, SetSlotsTakesEffectAtTheNextStep) {
  for (const int depth : {1, 2, 5}) {
    Prefetcher prefetcher = make({0, 1, 2}, {}, depth);
    BatchPosition position;
    std::vector<int> slots{0, 1, 2};
    const std::vector<std::vector<int>> deals = {
        {0, 1, 2, 3}, {5}, {}, {0, 5}, {1, 2, 3, 4}, {1, 2, 3, 4}, {0, 1, 2, 3, 4, 5}, {2, 4}};
    for (std::size_t i = 0; i < 5 * deals.size(); ++i) {
      expect_steps(prefetcher, position, static_cast<int>(i % 3), slots);
      slots = deals[i % deals.size()];
      prefetcher.set_slots(slots);
      if (i % 4 == 3) {  // let the thread run ahead
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    }
    expect_steps(prefetcher, position, 7, slots);
  }
}

// Counts the samples that are read; can be told to fail or to block.
class ProbeDataset final : public Dataset {
 public:
  explicit ProbeDataset(std::shared_ptr<const Dataset> dataset) : dataset_(std::move(dataset)) {}
  std::int64_t size() const override { return dataset_->size(); }
  kernels::Shape sample_shape() const override { return dataset_->sample_shape(); }
  int num_classes() const override { return dataset_->num_classes(); }
  std::string fingerprint() const override { return "probe"; }
  void read(std::span<const std::int64_t> indices, const Normalization& normalization,
            std::span<float> out, std::span<std::int64_t> labels) const override {
    if (std::find(indices.begin(), indices.end(), poisoned.load()) != indices.end()) {
      throw DataError("ProbeDataset", "file", 7, "poisoned sample");
    }
    std::this_thread::sleep_for(std::chrono::microseconds(delay_us.load()));
    samples_read += static_cast<std::int64_t>(indices.size());
    dataset_->read(indices, normalization, out, labels);
  }

  mutable std::atomic<std::int64_t> samples_read{0};
  std::atomic<std::int64_t> poisoned{-1};
  std::atomic<std::int64_t> delay_us{0};

 private:
  std::shared_ptr<const Dataset> dataset_;
};

TEST_F(PrefetcherTest, ReadsOnlyItsOwnSlots) {
  const auto probe = std::make_shared<ProbeDataset>(dataset_);
  Prefetcher prefetcher(probe, Normalization::unit(), plan_, {2}, 0, 0, 2, 5);
  std::int64_t samples = 0;
  for (int i = 0; i < 5; ++i) {
    samples += prefetcher.next().slots[0].num_samples();
  }
  EXPECT_EQ(probe->samples_read, samples);
}

TEST_F(PrefetcherTest, SetSlotsKeepsWhatWasAssembledAhead) {
  const auto probe = std::make_shared<ProbeDataset>(dataset_);
  Prefetcher prefetcher(probe, Normalization::unit(), plan_, {0, 1, 2, 3}, 0, 0, 2, 3);
  const auto wait_for_samples = [&](std::int64_t samples) {
    while (probe->samples_read < samples) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  };
  prefetcher.next();
  const auto samples_of = [&](const std::vector<int>& slots, std::int64_t step) {
    std::int64_t samples = 0;
    const std::vector<std::int64_t> order = plan_.order(0);
    for (const int slot : slots) {
      samples += static_cast<std::int64_t>(plan_.slot_indices(order, step, slot).size());
    }
    return samples;
  };
  const std::int64_t ahead = 3 * samples_of({0, 1, 2, 3}, 0);
  wait_for_samples(ahead);
  prefetcher.set_slots({1, 2, 3, 5});
  for (int i = 0; i < 2; ++i) {
    prefetcher.next();
  }
  // Steps 1 and 2 needed slot 5 only.
  EXPECT_EQ(probe->samples_read, ahead + 2 * samples_of({5}, 1));
}

TEST_F(PrefetcherTest, RethrowsErrorsAfterTheStepsBeforeThem) {
  const auto probe = std::make_shared<ProbeDataset>(dataset_);
  const std::vector<std::int64_t> order = plan_.order(0);
  probe->poisoned = order[45];  // step 2
  Prefetcher prefetcher(probe, Normalization::unit(), plan_, all_slots(6), 0, 0, 4);
  BatchPosition position;
  expect_steps(prefetcher, position, 2, all_slots(6));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(error_text<DataError>([&] { prefetcher.next(); }),
              "[ProbeDataset] file, byte 7: poisoned sample");
  }
  // Other slots: the thread tries again.
  probe->poisoned = -1;
  prefetcher.set_slots({0, 4});
  expect_steps(prefetcher, position, 3, {0, 4});
}

TEST_F(PrefetcherTest, EndsAfterTheGivenNumberOfSteps) {
  Prefetcher prefetcher = make(all_slots(6), {.epoch = 0, .step_in_epoch = 3}, 2, 4);
  BatchPosition position{.epoch = 0, .step_in_epoch = 3};
  expect_steps(prefetcher, position, 4, all_slots(6));
  EXPECT_EQ(error_text<InvalidArgument>([&] { prefetcher.next(); }),
            "[Prefetcher::next] no more steps: the last one was already returned");
}

TEST_F(PrefetcherTest, StopsAtOnce) {
  const auto large = synthetic_dataset({.num_samples = 20'000, .sample_shape = {1}});
  const auto probe = std::make_shared<ProbeDataset>(large);
  probe->delay_us = 50'000;  // per piece of 256 samples: the whole step would take 4 s
  const BatchPlan plan(20'000, {.global_batch = 20'000, .microbatches = 1});
  {
    const Prefetcher prefetcher(probe, Normalization::unit(), plan, {0}, 0, 0);
    while (probe->samples_read == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  EXPECT_LT(probe->samples_read, 10'000);
}

TEST_F(PrefetcherTest, MeasuresTheWaitForInput) {
  const auto probe = std::make_shared<ProbeDataset>(dataset_);
  probe->delay_us = 3'000;
  Prefetcher prefetcher(probe, Normalization::unit(), plan_, {0}, 0, 0, 1);
  for (int i = 0; i < 4; ++i) {
    prefetcher.next();
  }
  const double waited = prefetcher.input_wait_seconds();
  EXPECT_GT(waited, 4 * 0.002);
  // The time of the caller itself does not count.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  prefetcher.next();
  EXPECT_LT(prefetcher.input_wait_seconds() - waited, 0.05);
}

TEST_F(PrefetcherTest, RefusesImpossibleArguments) {
  EXPECT_THAT(error_text<InvalidArgument>([&] {
                make({1, 1});
              }),
              HasSubstr("slots: got 1, 1, expected ascending and distinct"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({6}); }),
              HasSubstr("slot out of range: got 6, expected 0 to 5"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({-1, 2}); }), HasSubstr("got -1"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({0}, {.step_in_epoch = 5}); }),
              HasSubstr("step of the epoch: got 5, expected 0 to 4"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({0}, {}, 0); }), HasSubstr("depth: got 0"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({0}, {}, 1, -2); }),
              HasSubstr("number of steps: got -2"));
  plan_ = BatchPlan(96, {});
  EXPECT_THAT(error_text<InvalidArgument>([&] { make({0}); }),
              HasSubstr("samples of the plan: got 96, expected 97"));
  plan_ = BatchPlan(kSamples, {.microbatches = 2});
  Prefetcher prefetcher = make({0});
  EXPECT_THAT(error_text<InvalidArgument>([&] { prefetcher.set_slots({2}); }),
              HasSubstr("slot out of range: got 2, expected 0 to 1"));
}

}  // namespace
}  // namespace superstep::worker
