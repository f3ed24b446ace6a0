// Every field that differs on some rank is named with the rank and both values.
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "bsp/agreement.h"
#include "tests/support/spmd_fixture.h"

namespace superstep::bsp {
namespace {

constexpr int kFields = 40;

Agreement fields_with(int changed, const std::string& value) {
  Agreement fields;
  for (int i = 0; i < kFields; ++i) {
    fields.add(fmt::format("field {}", i), i == changed ? value : fmt::format("value {}", i));
  }
  return fields;
}

std::string complaint(World& world, const Agreement& fields) {
  try {
    fields.require(world);
  } catch (const CommunicationError& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kRanksDisagree);
    return error.what();
  }
  return "";
}

SUPERSTEP_WORLD_TEST_ON_NODES(Agreement, EqualFieldsPass) {
  EXPECT_EQ(complaint(world, fields_with(-1, "")), "");
  EXPECT_EQ(complaint(world, Agreement()), "");
}

SUPERSTEP_WORLD_TEST_ON_NODES(Agreement, NamesEveryFieldThatDiffersWithRankAndBothValues) {
  if (world.size() == 1) {
    return;
  }
  const int odd = world.size() - 1;
  for (int field = 0; field < kFields; ++field) {
    const std::string text =
        complaint(world, fields_with(world.rank() == odd ? field : -1, "other"));
    EXPECT_NE(text.find(fmt::format("field {} is not the same on all ranks: got \"other\" on ranks "
                                    "{{{}}}, expected \"value {}\" as on rank 0",
                                    field, odd, field)),
              std::string::npos)
        << text;
  }
}

SUPERSTEP_WORLD_TEST(Agreement, ShowsWhereLongValuesDiffer) {
  if (world.size() == 1) {
    return;
  }
  std::string value(5000, 'x');
  value.replace(3000, 9, world.rank() == 0 ? "here-it-i" : "there-it-");
  const std::string text = complaint(world, fields_with(7, value));
  EXPECT_NE(text.find("here-it-i"), std::string::npos) << text;
  EXPECT_NE(text.find("there-it-"), std::string::npos) << text;
  EXPECT_LT(text.size(), 1500U);
}

SUPERSTEP_WORLD_TEST(Agreement, DifferentFieldsAreADifferenceToo) {
  if (world.size() == 1) {
    return;
  }
  Agreement fields = fields_with(-1, "");
  if (world.rank() == 0) {
    fields.add("one more", "value");
  }
  EXPECT_NE(complaint(world, fields).find("ranks compare different things"), std::string::npos);
}

SUPERSTEP_WORLD_TEST(Agreement, RefusesWhatIsNoListOfFields) {
  (void)world;
  const AgreementFields fields{{"commit", "abc"}, {"model", "dense (3, 4)"}};
  EXPECT_EQ(internal::decode_fields(internal::encode_fields(fields), 1), fields);
  for (const char* text : {"", "[", "3", "[[\"a\"]]", "[[1,2]]", "[\"a\"]"}) {
    try {
      internal::decode_fields(text, 1);
      ADD_FAILURE() << text;
    } catch (const CommunicationError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kRanksDisagree);
      EXPECT_NE(std::string(error.what()).find("rank 1 sent"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace superstep::bsp
