#include "base/version.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep {
namespace {

TEST(Version, IsThreeNumbers) {
  EXPECT_THAT(std::string(kVersion), ::testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST(Version, GitIdIsACommitOrUnknown) {
  EXPECT_THAT(std::string(git_id()), ::testing::MatchesRegex("unknown|[0-9a-f]{12,40}(-dirty)?"));
}

TEST(Version, BuildFlagsNameTheOnesThatDecideBits) {
  EXPECT_THAT(
      std::string(kBuildFlags),
      ::testing::AllOf(::testing::HasSubstr("-march="), ::testing::HasSubstr("-ffp-contract=off")));
}

TEST(Version, InstructionSetIsThatOfThisBinary) {
#ifdef __AVX2__
  EXPECT_THAT(std::string(instruction_set()), ::testing::HasSubstr("avx2"));
#endif
  EXPECT_FALSE(instruction_set().empty());
  EXPECT_NE(instruction_set().front(), ' ');
}

TEST(Version, TextNamesEveryPart) {
  const std::string text = version_text();
  for (const std::string_view part :
       {kVersion, git_id(), kCompiler, kBuildType, instruction_set()}) {
    EXPECT_THAT(text, ::testing::HasSubstr(std::string(part)));
  }
}

}  // namespace
}  // namespace superstep
