// Configuration files: defaults, overrides, every kind of mistake, and the way back to text.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cluster/bounded_toml.h"
#include "cluster/config_keys.h"
#include "cluster/config_reader.h"

namespace superstep::cluster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kMinimal =
    "[model]\n"
    "preset = \"mlp_2nn\"\n"
    "[data]\n"
    "directory = \"/data\"\n";

ParsedConfig parse(const std::string& text, std::vector<std::string> overrides = {}) {
  return parse_config(text, "run.toml", overrides);
}

// The problems of kMinimal with more text behind it.
std::vector<std::string> problems_with(const std::string& more,
                                       std::vector<std::string> overrides = {}) {
  return parse(kMinimal + more, std::move(overrides)).problems;
}

TEST(Config, FillsInDefaults) {
  const ParsedConfig parsed = parse(kMinimal);
  EXPECT_THAT(parsed.problems, IsEmpty());
  RunConfig expected;
  expected.model.preset = "mlp_2nn";
  expected.data.directory = "/data";
  EXPECT_EQ(parsed.config, expected);
}

TEST(Config, ReadsEveryType) {
  const ParsedConfig parsed = parse(
      "[model]\npreset = 'resnet20'\n"
      "[data]\nformat = 'synthetic'\nsample_shape = [3, 16, 16]\nshuffle = false\n"
      "[optimizer]\nlearning_rate = 1\n"
      "schedule = { kind = 'step', boundaries_epochs = [0.5, 1] }\n");
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_THAT(parsed.config.data.sample_shape, ElementsAre(3, 16, 16));
  EXPECT_FALSE(parsed.config.data.shuffle);
  EXPECT_EQ(parsed.config.optimizer.learning_rate, 1.0);  // an integer is a fine number
  EXPECT_THAT(parsed.config.optimizer.schedule.boundaries_epochs, ElementsAre(0.5, 1.0));
}

struct Mistake {
  const char* name;
  const char* text;  // after kMinimal: its first line is line 5
  const char* problem;
};

class MistakeTest : public ::testing::TestWithParam<Mistake> {};

TEST_P(MistakeTest, IsNamedWithItsPlace) {
  EXPECT_THAT(problems_with(GetParam().text), ElementsAre(HasSubstr(GetParam().problem)));
}

const Mistake kMistakes[] = {
    {"UnknownKey", "[train]\nepoch = 2\n",
     "run.toml:6:1: key 'train.epoch' is unknown; did you mean 'train.epochs'?"},
    {"UnknownKeyFarFromAll", "[train]\nqwertyuiop = 2\n",
     "run.toml:6:1: key 'train.qwertyuiop' is unknown"},
    {"KeyOfAnotherSection", "[train]\nlearning_rate = 0.1\n",
     "key 'train.learning_rate' is unknown; did you mean 'optimizer.learning_rate'?"},
    {"UnknownSection", "[trian]\nepochs = 2\n",
     "run.toml:5:2: section 'trian' is unknown; did you mean 'train'?"},
    {"UnknownNestedKey", "[optimizer.schedule]\nkindd = 'cosine'\n",
     "key 'optimizer.schedule.kindd' is unknown; did you mean 'optimizer.schedule.kind'?"},
    {"SectionThatIsNone", "train = 3\n", "is unknown"},
    {"TextForInteger", "[train]\nepochs = 'ten'\n",
     "run.toml:6:10: key 'train.epochs' has the wrong type: got 'ten' (a string), expected an "
     "integer"},
    {"FractionForInteger", "[train]\nepochs = 1.5\n", "got 1.5 (a number), expected an integer"},
    {"BooleanForNumber", "[optimizer]\nlearning_rate = true\n", "got true (a boolean)"},
    {"NumberForBoolean", "[data]\n", "redefin"},
    {"ListForText", "[server]\npolicy = ['bsp']\n", "(a list), expected one of \"bsp\""},
    {"TextInList", "[optimizer]\nschedule = { kind = 'step', boundaries_epochs = ['a'] }\n",
     "expected a list of numbers"},
    {"DateForInteger", "[train]\nseed = 2026-01-01\n", "(a date or time)"},
    {"Zero", "[train]\nglobal_batch = 0\n",
     "run.toml:6:16: key 'train.global_batch' is out of range: got 0 (an integer), expected an "
     "integer, in [1, "},
    {"Negative", "[train]\nepochs = -1\n", "out of range: got -1"},
    {"NegativeSeed", "[train]\nseed = -1\n", "at least 0"},
    {"NotANumber", "[optimizer]\nlearning_rate = nan\n", "out of range: got nan"},
    {"Infinite", "[optimizer]\nlearning_rate = inf\n", "out of range: got inf"},
    {"MomentumOfOne", "[optimizer]\nmomentum = 1.0\n", "a number, in [0, 1)"},
    {"EpsilonOfZero", "[optimizer]\nkind = 'adam'\nepsilon = 0.0\n", "greater than 0"},
    {"ElementOutOfRange", "[optimizer]\nschedule = {kind='step', boundaries_epochs = [-1.0]}\n",
     "'optimizer.schedule.boundaries_epochs' is out of range"},
    {"UnknownChoice", "[optimizer]\nkind = 'adma'\n",
     "key 'optimizer.kind' has an impossible value: got \"adma\", expected one of \"sgd\", "
     "\"momentum\", \"nesterov\", \"adagrad\", \"adam\", \"adamw\"; did you mean \"adam\"?"},
    {"UnknownPrecision", "[train]\nprecision = 'fp16'\n",
     "key 'train.precision' has an impossible value: got \"fp16\", expected one of \"float32\", "
     "\"bf16\""},
    {"MoreSlotsThanSamples", "[train]\nglobal_batch = 4\nmicrobatches = 8\n",
     "run.toml:7:16: 'train.microbatches' = 8 exceeds 'train.global_batch' = 4"},
    {"KeyOfAnotherOptimizer", "[optimizer]\nkind = 'sgd'\nmomentum = 0.5\n",
     "run.toml:7:12: 'optimizer.momentum' = 0.5 has no effect with optimizer.kind = \"sgd\""},
    {"KeyOfAnotherSchedule", "[optimizer]\nschedule = { gamma = 0.5 }\n",
     "'optimizer.schedule.gamma' = 0.5 has no effect with optimizer.schedule.kind = \"constant\""},
    {"StepWithoutBoundaries", "[optimizer]\nschedule = { kind = 'step' }\n",
     "'optimizer.schedule.boundaries_epochs' is missing"},
    {"BoundariesThatFall", "[optimizer]\nschedule = {kind='step', boundaries_epochs = [2, 1]}\n",
     "must be positive and ascending"},
    {"WarmupLongerThanTheRun", "[optimizer]\nschedule = { warmup_epochs = 3 }\n",
     "'optimizer.schedule.warmup_epochs' = 3 exceeds 'train.epochs' = 1"},
    {"PatienceWithoutValidation", "[train]\nearly_stopping_patience = 2\n",
     "needs validation data"},
    {"NegativeStaleness", "[server]\npolicy = 'ssp'\nstaleness = -1\n",
     "run.toml:7:13: key 'server.staleness' is out of range: got -1"},
    {"StalenessOfBsp", "[server]\nstaleness = 1\n",
     "'server.staleness' = 1 has no effect with server.policy = \"bsp\""},
    {"StalenessOfAsync", "[server]\npolicy = 'async'\nstaleness = 1\n",
     "'server.staleness' = 1 has no effect with server.policy = \"async\""},
    {"LocalStepsOfSsp", "[server]\npolicy = 'ssp'\nlocal_steps = 4\n",
     "'server.local_steps' = 4 has no effect with server.policy = \"ssp\""},
    {"BackupsOfLocal", "[server]\npolicy = 'local'\nbackup_workers = 2\n",
     "'server.backup_workers' = 2 has no effect with server.policy = \"local\""},
    {"OuterMomentumOfPlainAverages", "[server]\npolicy = 'local'\nouter_momentum = 0.5\n",
     "'server.outer_momentum' = 0.5 has no effect with server.outer_kind = \"sgd\""},
    {"DelayWithoutAClock", "[server.delay]\njitter_deviation = 0.5\n",
     "'server.delay.jitter_deviation' = 0.5 has no effect with server.policy = \"bsp\" without "
     "'server.workers'"},
    {"MoreWorkersThanSlots", "[server]\npolicy = 'ssp'\nworkers = 9\n",
     "'server.workers' = 9 exceeds 'train.microbatches' = 8"},
    {"OnlyBackups", "[server]\npolicy = 'backup'\nbackup_workers = 8\n",
     "'server.backup_workers' = 8 of 8 workers leaves none whose gradients count"},
    {"ServersAndStolenSlots", "[train]\nslot_placement = 'stealing'\n[server]\nservers = 1\n",
     "'train.slot_placement': dedicated servers"},
    {"RecomputedStaleGradients", "[check]\nrecompute_gradients = 0.5\n[server]\npolicy = 'async'\n",
     "'check.recompute_gradients': another rank does not have the parameters"},
    {"GlobalNormOfLocalWorkers",
     "[optimizer]\nclip_global_norm = 1.0\n[server]\npolicy = 'local'\n",
     "'optimizer.clip_global_norm': local workers"},
    {"SkippedStepsOfLocalWorkers", "[check]\nbad_numbers = 'skip'\n[server]\npolicy = 'local'\n",
     "'check.bad_numbers': a local worker has used its gradient"},
    {"DuplicateKey", "[train]\nepochs = 1\nepochs = 2\n", "run.toml:7:"},
    {"Syntax", "[train\nepochs = 1\n", "run.toml:5:7: this is not TOML"},
    {"ValueMissing", "[train]\nepochs =\n", "this is not TOML"},
    {"LayersBesidePreset", "[[model.layers]]\nkind = 'relu'\n", "run.toml"},
};

INSTANTIATE_TEST_SUITE_P(Config, MistakeTest, ::testing::ValuesIn(kMistakes),
                         [](const auto& mistake) { return std::string(mistake.param.name); });

TEST(Config, NamesAllProblemsAtOnce) {
  const std::vector<std::string> problems =
      problems_with("[train]\nepoch = 2\nglobal_batch = 0\n[optimizer]\nkind = 7\n",
                    {"train.sede=3", "bsp.lanes=0"});
  EXPECT_THAT(problems, SizeIs(5));
  EXPECT_THAT(problems, Contains(HasSubstr("'train.epoch'")));
  EXPECT_THAT(problems, Contains(HasSubstr("'train.global_batch'")));
  EXPECT_THAT(problems, Contains(HasSubstr("'optimizer.kind'")));
  EXPECT_THAT(problems, Contains(HasSubstr("--set train.sede=3: key 'train.sede' is unknown; did "
                                           "you mean 'train.seed'?")));
  EXPECT_THAT(problems, Contains(HasSubstr("--set bsp.lanes=0: key 'bsp.lanes' is out of range")));
}

TEST(Config, NeedsAModelAndADirectory) {
  EXPECT_THAT(parse("").problems, ElementsAre(HasSubstr("run.toml: no model"),
                                              HasSubstr("'data.directory' is missing")));
}

TEST(Config, RefusesPresetsItDoesNotKnow) {
  EXPECT_THAT(problems_with("", {"model.preset=resnet21"}),
              ElementsAre(HasSubstr("--set model.preset=resnet21: key 'model.preset' has an "
                                    "impossible value: got \"resnet21\"")));
}

TEST(Config, RefusesKeysOfTheOtherDataFormat) {
  EXPECT_THAT(problems_with("num_train = 5\n"), ElementsAre(HasSubstr("has no effect")));
  EXPECT_THAT(problems_with("format = 'synthetic'\n"),
              ElementsAre(HasSubstr("'data.directory' = \"/data\" has no effect with data.format = "
                                    "\"synthetic\"")));
}

TEST(ConfigOverrides, WinOverTheFile) {
  const ParsedConfig parsed =
      parse(std::string(kMinimal) + "[train]\nepochs = 3\n",
            {"train.epochs=7", "optimizer.learning_rate=0.5", "checkpoint.keep_best=false",
             "optimizer.schedule.kind=cosine"});
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.train.epochs, 7);
  EXPECT_EQ(parsed.config.optimizer.learning_rate, 0.5);
  EXPECT_FALSE(parsed.config.checkpoint.keep_best);
  EXPECT_EQ(parsed.config.optimizer.schedule.kind, "cosine");
}

TEST(ConfigOverrides, TakeBareWordsAndPathsAsText) {
  const ParsedConfig parsed =
      parse(kMinimal, {"data.directory=/usr/share/x-1.0", "optimizer.kind=adam"});
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.data.directory, "/usr/share/x-1.0");
  EXPECT_EQ(parsed.config.optimizer.kind, "adam");
}

TEST(ConfigOverrides, TakeInlineTables) {
  const ParsedConfig parsed = parse(
      kMinimal, {"optimizer.schedule={kind = \"step\", boundaries_epochs = [0.5], gamma = 0.2}"});
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config.optimizer.schedule.gamma, 0.2);
}

TEST(ConfigOverrides, RefuseWhatIsNoAssignment) {
  EXPECT_THAT(problems_with("", {"train.epochs"}),
              ElementsAre("--set train.epochs: expected section.key=value"));
  EXPECT_THAT(problems_with("", {"=3"}), ElementsAre(HasSubstr("expected section.key=value")));
  EXPECT_THAT(problems_with("", {"train.epochs=[1"}), ElementsAre(HasSubstr("is not TOML")));
  EXPECT_THAT(problems_with("", {"train.epochs="}), ElementsAre(HasSubstr("is not TOML")));
  EXPECT_THAT(problems_with("", {"train.epochs=1\nx=2"}), ElementsAre(HasSubstr("one line")));
  EXPECT_THAT(problems_with("", {"model.layers=[]"}), ElementsAre(HasSubstr("use a file")));
}

TEST(ConfigOverrides, RefuseAKeyGivenTwice) {
  EXPECT_THAT(problems_with("", {"train.epochs=1", "train.epochs=2"}),
              ElementsAre("--set train.epochs=2: key 'train.epochs' is given twice: also by --set "
                          "train.epochs=1"));
}

TEST(Config, IsAProblemWhenTheFileIsMissing) {
  const ParsedConfig parsed = read_config("/nonexistent/run.toml");
  EXPECT_THAT(parsed.problems, ElementsAre(HasSubstr("/nonexistent/run.toml")));
  EXPECT_THROW(require_valid(parsed), InvalidArgument);
}

// A configuration that differs from the defaults in every key that allows it.
RunConfig unusual() {
  RunConfig config;
  config.model.preset = "resnet20";
  config.data.format = "synthetic";
  config.data.normalization = "unit";
  config.data.validation_fraction = 0.1;
  config.data.noise = 1.0 / 3.0;
  config.data.sample_shape = {1, 7, 5};
  config.data.seed = std::numeric_limits<std::int64_t>::max();
  config.train.epochs = 9;
  config.train.early_stopping_patience = 2;
  config.train.early_stopping_min_delta = 1e-300;
  config.train.warm_start = "a \"quoted\"\\path\twith\ncontrol\x01 bytes.npz";
  config.optimizer.kind = "adam";
  config.optimizer.epsilon = 0.1 + 0.2;
  config.optimizer.learning_rate = 1e-5;
  config.optimizer.schedule.kind = "step";
  config.optimizer.schedule.boundaries_epochs = {0.1, 2, 1e5};
  config.server.policy = "ssp";
  config.server.workers = 4;
  config.server.staleness = 3;
  config.server.delay.jitter_deviation = 0.75;
  config.checkpoint.keep_best = false;
  config.bsp.sync_deadline_seconds = 0.25;
  return config;
}

TEST(ConfigText, ReadsBackToTheSameConfiguration) {
  const RunConfig config = unusual();
  const ParsedConfig parsed = parse(to_toml(config));
  EXPECT_THAT(parsed.problems, IsEmpty());
  EXPECT_EQ(parsed.config, config);
  EXPECT_EQ(to_toml(parsed.config), to_toml(config));
}

TEST(ConfigText, NamesEveryKey) {
  const std::string text = to_toml(unusual());
  for (const Key& key : config_keys()) {
    EXPECT_THAT(text, HasSubstr(std::string(key.path.substr(key.path.rfind('.') + 1)) + " = "));
  }
}

TEST(ConfigText, KeepsLayers) {
  const ParsedConfig parsed = parse(
      "[data]\nformat = 'synthetic'\n"
      "[[model.layers]]\nkind = 'residual'\nbody = [{kind = 'conv2d', filters = 3}]\n"
      "[[model.layers]]\nkind = 'flatten'\n"
      "[[model.layers]]\nkind = 'dense'\nunits = 10\n");
  ASSERT_THAT(parsed.problems, IsEmpty());
  const ParsedConfig again = parse(to_toml(parsed.config));
  EXPECT_THAT(again.problems, IsEmpty());
  EXPECT_EQ(again.config, parsed.config);
  EXPECT_THAT(parsed.config.model.layers, HasSubstr("units = 10"));
}

TEST(ConfigText, MakesEqualLayersEqual) {
  const std::string head = "[data]\nformat = 'synthetic'\n";
  const ParsedConfig sparse = parse(head + "[[model.layers]]\nkind = 'dense'\nunits = 10\n");
  const ParsedConfig verbose =
      parse(head + "[model]\nlayers = [{units = 10, bias = true, kind = 'dense'}]\n");
  ASSERT_THAT(sparse.problems, IsEmpty());
  EXPECT_EQ(sparse.config, verbose.config);
}

TEST(ConfigLayers, NameTheLineOfAMistake) {
  const ParsedConfig parsed =
      parse("[data]\nformat = 'synthetic'\n[[model.layers]]\nkind = 'desne'\nunits = 10\n");
  EXPECT_THAT(parsed.problems, ElementsAre(HasSubstr("run.toml:4")));
}

std::string key_of_levels(int levels) {
  std::string key = "a";
  for (int level = 1; level < levels; ++level) {
    key += ".a";
  }
  return key;
}

// A table is made for each level, and nothing may run out of stack when they are removed.
TEST(ConfigDepth, RefusesKeysOfManyLevelsWhereverTheyStand) {
  for (const int levels : {kMostKeyLevels + 1, 200'000}) {
    const std::string key = key_of_levels(levels);
    for (const std::string& text :
         {key + " = 1\n", "[" + key + "]\n", "x = {" + key + " = 1}\n",
          "x = [[{" + key + " = 1}]]\n", "x = \"\"\"a\"\"\"\"\n" + key + " = 1\n",
          "x = '\\'\n" + key + " = 1\n", "# \"\n" + key + " = 1\n", "\"=\"." + key + " = 1\n"}) {
      EXPECT_THAT(parse("y = 1\n" + text).problems,
                  ElementsAre(HasSubstr("a key of more than 32 levels")))
          << text.substr(0, 40);
    }
  }
  EXPECT_THAT(parse("y = 1\n" + key_of_levels(200'000) + " = 1\n").problems,
              ElementsAre(HasSubstr("run.toml:2:1: this is not TOML")));
  EXPECT_THAT(problems_with("", {"train={" + key_of_levels(200'000) + "=1}"}),
              ElementsAre(HasSubstr("a key of more than 32 levels")));
}

TEST(ConfigDepth, CountsNoDotsOfValues) {
  const std::string dots(100, '.');
  const auto is_toml = [](const std::string& text) { return !parse_bounded_toml(text).empty(); };
  EXPECT_TRUE(is_toml(key_of_levels(kMostKeyLevels) + " = 1\n"));
  EXPECT_TRUE(is_toml("x = \"" + dots + "\\\"" + dots + "\"\n"));
  EXPECT_TRUE(is_toml("x = '" + dots + "'\n"));
  EXPECT_TRUE(is_toml("x = 1 # " + dots + "\n"));
  EXPECT_TRUE(is_toml("x = \"\"\"\n" + dots + "\\\"\"\"" + dots + "\"\"\"\"\"\n"));
  std::string numbers = "x = [0.5";
  for (int i = 0; i < 100; ++i) {
    numbers += ", 0.5";
  }
  EXPECT_TRUE(is_toml(numbers + "]\n"));
}

TEST(ConfigOnResume, RefusesWhatDecidesTheResult) {
  const RunConfig before = unusual();
  RunConfig now = before;
  EXPECT_THAT(differences_refused_on_resume(before, now), IsEmpty());
  now.train.epochs = 20;
  now.train.wall_time_limit_seconds = 60;
  now.checkpoint.keep = 9;
  now.bsp.lanes = 4;
  now.server.servers = 2;
  EXPECT_THAT(differences_refused_on_resume(before, now), IsEmpty());
  now.optimizer.learning_rate = 0.5;
  now.train.seed = 2;
  EXPECT_THAT(differences_refused_on_resume(before, now),
              ElementsAre("'train.seed' was 1 and is now 2",
                          "'optimizer.learning_rate' was 1e-05 and is now 0.5"));
}

TEST(ConfigOnResume, RefusesOtherLayers) {
  RunConfig before;
  before.model.layers = "[[model.layers]]\nkind = 'relu'\n";
  EXPECT_THAT(differences_refused_on_resume(before, RunConfig{}),
              ElementsAre(HasSubstr("[[model.layers]] differ")));
}

TEST(ConfigKeys, AcceptTheirOwnDefaults) {
  const RunConfig defaults;
  for (const Key& key : config_keys()) {
    const std::string path(key.path);
    const std::vector<std::string> overrides = {path + "=" + value_text(key, defaults)};
    const ParsedConfig parsed = parse_config("", "run.toml", overrides);
    for (const std::string& problem : parsed.problems) {
      EXPECT_THAT(problem, ::testing::AnyOf(HasSubstr("no model"), HasSubstr("is missing")))
          << path;
    }
  }
}

TEST(ConfigKeys, AreDocumented) {
  const std::string text = keys_as_text();
  const std::string markdown = keys_as_markdown();
  for (const Key& key : config_keys()) {
    EXPECT_FALSE(key.help.empty()) << key.path;
    EXPECT_THAT(text, HasSubstr(std::string(key.help)));
    EXPECT_THAT(markdown, HasSubstr(std::string(key.help)));
  }
}

}  // namespace
}  // namespace superstep::cluster
