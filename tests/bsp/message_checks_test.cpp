// What MessageChecks finds, with ranks and call sites, and what it lets pass.
#include "bsp/message_checks.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "bsp/aggregator.h"
#include "bsp/coarray.h"
#include "bsp/queue.h"
#include "bsp/var.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string complaint(const std::function<void()>& call) {
  try {
    call();
  } catch (const CommunicationError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kRanksDisagree);
    return error.what();
  }
  return "";
}

std::string here(int line) {
  return "tests/bsp/message_checks_test.cpp:" + std::to_string(line);
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, NamesConflictingPutsWithRanksAndCallSites) {
  Coarray<int> array(world, 4);
  const int made = __LINE__ - 1;
  const MessageChecks checks(world);
  const int last = world.size() - 1;
  int put = 0;
  if (world.rank() == 0 || world.rank() == last) {
    const std::vector<int> two = {1, 2};
    array(0)[{world.rank() == 0 ? 0 : 1, world.rank() == 0 ? 2 : 3}] = std::span<const int>(two);
    put = __LINE__ - 1;
  }
  const std::string what = complaint([&] { world.sync(); });
  if (world.rank() == 0 && world.size() > 1) {
    EXPECT_THAT(what, AllOf(HasSubstr("rank 0: conflicting puts: elements [1, 2) of the Coarray "
                                      "made at " +
                                      here(made)),
                            HasSubstr("by rank 0 (put at " + here(put) + ") and by rank " +
                                      std::to_string(last) + " (put at " + here(put) + ")")));
    EXPECT_EQ(array.local()[1], 1);  // the superstep was completed: the highest rank wins
  } else {
    EXPECT_EQ(what, "");
  }
  array(0)[world.rank() % 4] = 1;  // and the next one starts anew
  EXPECT_EQ(complaint([&] { world.sync(); }) == "", world.rank() != 0 || world.size() <= 4);
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, FindsConflictsOfVarsAndOfUnbufferedPuts) {
  Var<double> var(world);
  Coarray<int> array(world, 3);
  const MessageChecks checks(world);
  var(0) = world.rank();
  const std::string what = complaint([&] { world.sync(); });
  EXPECT_EQ(what.find("of the Var made at") != std::string::npos,
            world.rank() == 0 && world.size() > 1);
  // An unbuffered put conflicts even with one of its own rank.
  const std::vector<int> two = {5, 6};
  if (world.rank() == 0) {
    array(world.size() - 1)[{0, 2}].put_unbuffered(two);
    array(world.size() - 1)[1] = 9;
  }
  EXPECT_EQ(complaint([&] { world.sync(); }).find("conflicting puts") != std::string::npos,
            world.rank() == world.size() - 1);
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, LetsPassWhatIsWellDefined) {
  Coarray<int> array(world, 2 * world.size());
  Queue<int> queue(world);
  Aggregator<int> sum(world);
  const MessageChecks checks(world);
  const std::vector<int> mine = {world.rank()};
  for (int to = 0; to < world.size(); ++to) {
    array(to)[world.rank()] = 1;
    array(to)[world.rank()] = 2;  // in the order made
    const int place = world.size() + world.rank();
    array(to)[{place, place + 1}].put_unbuffered(mine);
    queue.send(to, 3);
  }
  const auto read = array(0)[0].get();
  sum.add(1);
  EXPECT_EQ(complaint([&] { world.sync(); }), "");
  EXPECT_EQ(array.local()[0], 2);
  EXPECT_EQ(array.local()[static_cast<std::size_t>(2 * world.size()) - 1], world.size() - 1);
  EXPECT_EQ(queue.size(), world.size());
  EXPECT_EQ(read.value(), 0);
  EXPECT_EQ(sum.value(), world.size());
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, NamesASourceThatChangedBeforeTheSync) {
  Coarray<int> array(world, 4);
  const MessageChecks checks(world);
  std::vector<int> source = {1, 2, 3, 4};
  array(world.next_rank())[{0, 4}].put_unbuffered(source);
  const int line = __LINE__ - 1;
  if (world.rank() == 0) {
    source[3] = 5;
  }
  const std::string what = complaint([&] { world.sync(); });
  if (world.rank() == 0) {
    EXPECT_THAT(what, AllOf(HasSubstr("rank 0: the source of an unbuffered put changed before the "
                                      "sync: 16 bytes put to rank " +
                                      std::to_string(world.next_rank())),
                            HasSubstr(here(line))));
  } else {
    EXPECT_EQ(what, "");
  }
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, NamesMismatchedCountsOnEveryRank) {
  const MessageChecks checks(world);
  const int p = world.size();
  const std::vector<std::int64_t> sends(static_cast<std::size_t>(p), 2);
  std::vector<std::int64_t> receives(static_cast<std::size_t>(p), 2);
  const std::vector<float> in(static_cast<std::size_t>(2 * p), 1.0F);
  std::vector<float> out(in.size());
  EXPECT_EQ(complaint([&] {
              world.alltoallv(std::span<const float>(in), sends, std::span(out), receives);
            }),
            "");
  if (world.rank() == p - 1) {  // expects three from rank 0
    receives[0] = 3;
    out.resize(out.size() + 1);
  }
  const int line = __LINE__ + 2;
  const std::string what = complaint(
      [&] { world.alltoallv(std::span<const float>(in), sends, std::span(out), receives); });
  const std::string last = std::to_string(p - 1);
  EXPECT_THAT(what,
              AllOf(HasSubstr("mismatched counts: got 8 bytes sent by rank 0 at " + here(line)),
                    HasSubstr("rank " + last + " expected 12 bytes at " + here(line))));
}

SUPERSTEP_WORLD_TEST_ON_NODES(MessageChecks, NamesMessagesThatNobodySends) {
  const MessageChecks checks(world);
  std::byte byte{};
  const Incoming incoming{0, {&byte, 1}};
  const bool expects = world.rank() == world.size() - 1;
  const std::string what =
      complaint([&] { world.exchange({}, std::span<const Incoming>(&incoming, expects ? 1 : 0)); });
  EXPECT_THAT(what, HasSubstr("got nothing sent by rank 0"));
}

SUPERSTEP_WORLD_TEST(MessageChecks, EndWithTheirObject) {
  Var<int> var(world);
  std::optional<MessageChecks> checks(std::in_place, world);
  checks.reset();
  var(0) = world.rank();
  EXPECT_EQ(complaint([&] { world.sync(); }), "");
  EXPECT_EQ(*var, world.rank() == 0 ? world.size() - 1 : 0);
}

}  // namespace
}  // namespace superstep::bsp
