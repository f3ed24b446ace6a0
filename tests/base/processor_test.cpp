#include "base/processor.h"

#include <cfenv>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep {
namespace {

TEST(Processor, NamesWhatThisBuildNeeds) {
#ifdef __AVX2__
  EXPECT_THAT(processor_features(), ::testing::HasSubstr("avx2"));
#endif
#ifdef __AVX512F__
  EXPECT_THAT(processor_features(), ::testing::HasSubstr("avx512f"));
#endif
  EXPECT_EQ(processor_features(), processor_features());
}

TEST(Processor, SeesAnotherRoundingMode) {
  const std::string usual = floating_point_mode();
  std::fesetround(FE_UPWARD);
  const std::string upward = floating_point_mode();
  std::fesetround(FE_TONEAREST);
  EXPECT_NE(usual, upward);
  EXPECT_EQ(usual, floating_point_mode());
}

}  // namespace
}  // namespace superstep
