// States of clients on the disk: names and contents that are damaged or foreign.
#include "worker/federated/client_store.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "tests/base/temporary_directory.h"

namespace superstep::worker {
namespace {

using State = std::array<float, 3>;

class ClientStoreTest : public ::testing::Test {
 protected:
  ClientStore store() const { return {directory_.path(), 3, 100}; }

  testing::TemporaryDirectory directory_;
};

TEST_F(ClientStoreTest, ReadsTheNewestVersionUpToItsRound) {
  ClientStore writer = store();
  writer.write(1234, 5, State{1, 2, 3});
  writer.write(1234, 42, State{4, 5, 6});
  writer.write(1234, 101, State{7, 8, 9});
  State state{};
  store().read(1234, state);
  EXPECT_EQ(state, (State{4, 5, 6}));
  store().read(77, state);
  EXPECT_EQ(state, State{});
}

TEST_F(ClientStoreTest, KeepsOnlyWhatACheckpointMayAskFor) {
  ClientStore writer(directory_.path(), 3, 0);
  ClientStore other(directory_.path(), 3, 0);  // another rank: knows all, writes nothing
  const auto train = [&](std::int64_t version) {
    writer.write(7, version, State{static_cast<float>(version), 0, 0});
    writer.note(7, version);
    other.note(7, version);
  };
  const auto files = [&] {
    std::vector<std::string> names;
    for (const auto& file : std::filesystem::directory_iterator(directory_.path() / "000000")) {
      names.push_back(file.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  train(1);
  train(2);
  EXPECT_EQ(files(), std::vector<std::string>{"7.00000002"});
  writer.take_unflushed()();
  other.take_unflushed()();
  train(3);
  train(4);
  EXPECT_EQ(files(), (std::vector<std::string>{"7.00000002", "7.00000004"}));
  State state{};
  other.read(7, state);
  EXPECT_EQ(state[0], 4.0F);
  EXPECT_EQ(other.describe(), writer.describe());
  writer.take_unflushed()();  // of what is still there
}

TEST_F(ClientStoreTest, ForeignNamesAreNoStates) {
  ClientStore writer = store();
  writer.write(1234, 5, State{1, 2, 3});
  const std::filesystem::path group = directory_.path() / "000001";
  for (const char* name : {"1234.6", "01234.00000007", "1234.00000008.tmp", "1234", ".", "x.y"}) {
    EXPECT_FALSE(parse_client_state_name(name)) << name;
    std::error_code ignored;
    std::filesystem::copy_file(group / "1234.00000005", group / name, ignored);
  }
  State state{};
  store().read(1234, state);
  EXPECT_EQ(state, (State{1, 2, 3}));
  const std::optional<ClientStateName> name = parse_client_state_name("1234.00000005");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->client, 1234);
  EXPECT_EQ(name->version, 5);
}

TEST_F(ClientStoreTest, RefusesEveryTruncationAndEveryFlippedBit) {
  ClientStore writer = store();
  writer.write(0, 5, State{1, 2, 3});
  const std::filesystem::path file = directory_.path() / "000000" / "0.00000005";
  const std::vector<std::byte> good = read_file(file, 1000);
  State state{};
  decode_client_state(good, file, state);
  EXPECT_EQ(state, (State{1, 2, 3}));
  State untouched{};
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(decode_client_state(std::span(good).first(size), file, untouched), DataError);
  }
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::vector<std::byte> damaged = good;
    damaged[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_THROW(decode_client_state(damaged, file, untouched), DataError) << bit;
  }
  EXPECT_EQ(untouched, State{});
}

}  // namespace
}  // namespace superstep::worker
