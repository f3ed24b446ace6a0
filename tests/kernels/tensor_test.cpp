#include "kernels/tensor.h"

#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/attributes.h"
#include "kernels/strided_loop.h"
#include "tests/support/error_text.h"

namespace superstep::kernels {
namespace {

using ::testing::ElementsAre;
using testing::error_text;
using ::testing::HasSubstr;

bool is_aligned(const Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.bytes()) % 64 == 0;
}

TEST(DType, KnowsItsSizeAndName) {
  for (const DType dtype : kAllDTypes) {
    EXPECT_EQ(dtype_named(name_of(dtype)), dtype);
  }
  EXPECT_EQ(size_of(DType::kFloat32), 4);
  EXPECT_EQ(size_of(DType::kInt64), 8);
  EXPECT_EQ(size_of(DType::kBool), 1);
  EXPECT_THAT(error_text<InvalidArgument>([] { dtype_named("float16"); }),
              HasSubstr("got \"float16\""));
}

TEST(Shape, KnowsElementsStridesAndAxes) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.num_elements(), 24);
  EXPECT_THAT(shape.strides(), ElementsAre(12, 4, 1));
  EXPECT_EQ(shape[-1], 4);
  EXPECT_EQ(shape.axis(-3), 0);
  EXPECT_EQ(shape.to_string(), "(2, 3, 4)");
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_EQ((Shape{0, 3}).num_elements(), 0);
}

TEST(Shape, RefusesNegativeSizesTooManyDimensionsAndOverflow) {
  EXPECT_THAT(error_text<InvalidArgument>([] {
                Shape{2, -1};
              }),
              HasSubstr("negative size: got (2, -1)"));
  EXPECT_THAT(error_text<InvalidArgument>([] { Shape(std::vector<std::int64_t>(9, 1)); }),
              HasSubstr("got 9, expected at most 8"));
  const Shape huge{std::int64_t{1} << 32, std::int64_t{1} << 32};
  EXPECT_THAT(error_text<InvalidArgument>([&] { huge.num_elements(); }),
              HasSubstr("too many elements"));
  EXPECT_THAT(error_text<InvalidArgument>([] {
                (Shape{2, 3})[2];
              }),
              HasSubstr("axis out of range: got 2"));
}

TEST(Shape, BroadcastsAsNumPyDoes) {
  EXPECT_EQ(broadcast_shapes("here", {2, 1, 4}, {3, 1}), (Shape{2, 3, 4}));
  EXPECT_EQ(broadcast_shapes("here", {}, {0, 2}), (Shape{0, 2}));
  EXPECT_EQ(broadcast_shapes("here", {1}, {0}), (Shape{0}));
  EXPECT_THAT(error_text<InvalidArgument>([] {
                broadcast_shapes("here", {2, 3}, {2});
              }),
              HasSubstr("[here] shapes do not broadcast: got (2, 3) and (2)"));
}

TEST(Tensor, StartsOn64BytesWhateverItsSize) {
  for (std::int64_t n = 0; n < 70; n += 3) {
    EXPECT_TRUE(is_aligned(Tensor::uninitialized({n}, DType::kUint8)));
    EXPECT_TRUE(is_aligned(Tensor::zeros({n}, DType::kFloat64)));
  }
}

TEST(Tensor, IsAHandleWhoseCopiesShareStorage) {
  const Tensor a = Tensor::from<float>({3}, std::vector<float>{1, 2, 3});
  Tensor b = a;
  b.mutable_data<float>()[0] = 9.0F;
  EXPECT_EQ(a.data<float>()[0], 9.0F);
  EXPECT_TRUE(a.shares_storage_with(b));
  EXPECT_FALSE(Tensor().defined());
}

TEST(Tensor, FillsEveryDtype) {
  EXPECT_THAT(Tensor::full({2}, DType::kInt64, 7).data<std::int64_t>(), ElementsAre(7, 7));
  EXPECT_THAT(Tensor::full({2}, DType::kBool, 1).data<bool>(), ElementsAre(true, true));
  EXPECT_THAT(Tensor::full({1}, DType::kFloat32, 0.5).data<float>(), ElementsAre(0.5F));
  EXPECT_EQ(Tensor::scalar<std::int32_t>(5).item<std::int32_t>(), 5);
}

TEST(Tensor, ViewsAndBorrowsWithoutCopying) {
  Tensor a = Tensor::zeros({2, 3}, DType::kFloat32);
  EXPECT_TRUE(a.viewed_as({6}).shares_storage_with(a));
  EXPECT_THAT(error_text<InvalidArgument>([&] { a.viewed_as({5}); }),
              HasSubstr("got (5), expected 6 as in (2, 3)"));
  const Tensor borrowed = Tensor::borrow({6}, DType::kFloat32, a.mutable_bytes());
  EXPECT_EQ(borrowed.bytes(), a.bytes());
  EXPECT_THAT(error_text<InvalidArgument>(
                  [&] { Tensor::borrow({1}, DType::kUint8, a.mutable_bytes() + 4); }),
              HasSubstr("memory is not aligned"));
}

TEST(Tensor, ChecksTheNumberOfItsValues) {
  EXPECT_THROW(Tensor::from<float>({3}, std::vector<float>{1, 2}), CheckFailure);
  EXPECT_THROW(Tensor::zeros({2}, DType::kFloat32).item<float>(), CheckFailure);
  EXPECT_THAT(error_text<InvalidArgument>(
                  [] { Tensor::uninitialized({std::int64_t{1} << 62}, DType::kFloat64); }),
              HasSubstr("too many bytes"));
}

TEST(Attributes, GiveTypedValuesOrSayWhatIsThere) {
  const Attributes attributes{
      {"axes", std::vector<std::int64_t>{0, 2}}, {"keep_dims", true}, {"rate", 0.5}};
  EXPECT_THAT(attributes.integers("axes"), ElementsAre(0, 2));
  EXPECT_TRUE(attributes.boolean("keep_dims"));
  EXPECT_EQ(attributes.to_string(), "axes=[0, 2], keep_dims=true, rate=0.5");
  EXPECT_THAT(error_text<InvalidArgument>([&] { attributes.integer("stride"); }),
              HasSubstr("attribute stride: got none, expected an integer"));
  EXPECT_THAT(error_text<InvalidArgument>([&] { attributes.text("rate"); }),
              HasSubstr("attribute rate: got 0.5, expected a text"));
}

TEST(StridedLoop, MergesDimensionsThatAreWalkedAsOne) {
  StridedLoop<2> loop;
  loop.push(2, {12, 0});
  loop.push(1, {99, 99});
  loop.push(3, {4, 4});
  loop.push(4, {1, 1});
  EXPECT_EQ(loop.row_length(), 12);
  std::vector<std::array<std::int64_t, 2>> rows;
  loop.for_each_row([&](const std::array<std::int64_t, 2>& offsets) { rows.push_back(offsets); });
  EXPECT_THAT(rows,
              ElementsAre(std::array<std::int64_t, 2>{0, 0}, std::array<std::int64_t, 2>{12, 0}));
}

TEST(StridedLoop, VisitsElementsInRowMajorOrder) {
  StridedLoop<1> loop;
  loop.push(2, {1});
  loop.push(3, {2});
  std::vector<std::int64_t> visited;
  loop.for_each_element(
      [&](const std::array<std::int64_t, 1>& offset) { visited.push_back(offset[0]); });
  EXPECT_THAT(visited, ElementsAre(0, 2, 4, 1, 3, 5));
}

TEST(StridedLoop, VisitsOneElementWithoutDimensionsAndNoneOfAnEmptyOne) {
  int count = 0;
  StridedLoop<1> scalar;
  scalar.for_each_element([&](const auto&) { ++count; });
  EXPECT_EQ(count, 1);
  StridedLoop<1> empty;
  empty.push(3, {0});
  empty.push(0, {1});
  empty.for_each_element([&](const auto&) { ++count; });
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace superstep::kernels
