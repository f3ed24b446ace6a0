#include "cluster/completion.h"

#include <string>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/format.h>

#include "base/check.h"
#include "cluster/config_keys.h"

namespace superstep::cluster {

namespace {

struct OptionText {
  std::string name;  // "--lanes"
  std::string help;
  bool takes_value = false;
};

struct CommandText {
  std::string name;
  std::string help;
  std::vector<OptionText> options;
};

std::vector<OptionText> options_of(const CLI::App& app) {
  std::vector<OptionText> options;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      options.push_back(
          {"--" + name, option->get_description(), option->get_items_expected_max() > 0});
    }
  }
  return options;
}

std::vector<CommandText> commands_of(const CLI::App& program) {
  std::vector<CommandText> commands;
  for (const CLI::App* app : program.get_subcommands({})) {
    commands.push_back({app->get_name(), app->get_description(), options_of(*app)});
  }
  return commands;
}

std::string names_of(const std::vector<OptionText>& options) {
  std::vector<std::string> names;
  names.reserve(options.size());
  for (const OptionText& option : options) {
    names.push_back(option.name);
  }
  return fmt::format("{}", fmt::join(names, " "));
}

std::string names_of(const std::vector<CommandText>& commands) {
  std::vector<std::string> names;
  names.reserve(commands.size());
  for (const CommandText& command : commands) {
    names.push_back(command.name);
  }
  return fmt::format("{}", fmt::join(names, " "));
}

std::string keys_with_equals() {
  std::vector<std::string> keys;
  for (const Key& key : config_keys()) {
    keys.push_back(fmt::format("{}=", key.path));
  }
  return fmt::format("{}", fmt::join(keys, " "));
}

// Within single quotes of a shell.
std::string single_quoted(std::string_view text) {
  std::string result;
  for (const char c : text) {
    result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return result;
}

std::string bash_script(const std::vector<OptionText>& options,
                        const std::vector<CommandText>& commands) {
  std::string cases;
  for (const CommandText& command : commands) {
    cases += fmt::format(
        "    {}) words='{}' ;;\n", command.name,
        command.name == "completion" ? "bash zsh fish --help" : names_of(command.options));
  }
  return fmt::format(R"(# bash completion for superstep
_superstep() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" words=''
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W '{0} {1}' -- "$current"))
    return
  fi
  case "$previous" in
    --set)
      COMPREPLY=($(compgen -W '{2}' -- "$current"))
      compopt -o nospace 2>/dev/null
      return ;;
    --format) COMPREPLY=($(compgen -W 'npz' -- "$current")); return ;;
  esac
  case "${{COMP_WORDS[1]}}" in
{3}  esac
  if [[ "$current" == -* || "${{COMP_WORDS[1]}}" == completion ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
    compopt -o filenames 2>/dev/null
  fi
}}
complete -F _superstep superstep
)",
                     names_of(commands), names_of(options), keys_with_equals(), cases);
}

// zsh reads [...] as the description of an option and : as a separator.
std::string zsh_description(std::string_view text) {
  std::string result;
  for (const char c : single_quoted(text)) {
    result += c == '[' || c == ']' || c == ':' ? std::string("\\") + c : std::string(1, c);
  }
  return result;
}

std::string zsh_options(const CommandText& command) {
  std::string lines;
  for (const OptionText& option : command.options) {
    const std::string value = !option.takes_value ? std::string()
                              : option.name == "--set"
                                  ? fmt::format(":key:({})", keys_with_equals())
                                  : std::string(":value:_files");
    lines += fmt::format("        '{}{}[{}]{}' \\\n", option.name == "--set" ? "*" : "",
                         option.name, zsh_description(option.help), value);
  }
  return lines + (command.name == "completion" ? "        '1:shell:(bash zsh fish)'"
                                               : "        '*:file:_files'");
}

std::string zsh_script(const std::vector<OptionText>& options,
                       const std::vector<CommandText>& commands) {
  std::string list;
  std::string cases;
  for (const CommandText& command : commands) {
    list += fmt::format("    '{}:{}'\n", command.name, zsh_description(command.help));
    cases +=
        fmt::format("    {})\n      _arguments -s \\\n{} ;;\n", command.name, zsh_options(command));
  }
  return fmt::format(R"(#compdef superstep
# zsh completion for superstep
_superstep() {{
  local -a commands
  commands=(
{0}  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    compadd -- {1}
    return
  fi
  local command="${{words[2]}}"
  shift words
  (( CURRENT-- ))
  case "$command" in
{2}  esac
}}
if [[ "${{funcstack[1]}}" == _superstep ]]; then
  _superstep "$@"
else
  compdef _superstep superstep
fi
)",
                     list, names_of(options), cases);
}

std::string fish_option(const std::string& condition, const OptionText& option) {
  std::string line = fmt::format("complete -c superstep -n '{}' -l {} -d '{}'", condition,
                                 option.name.substr(2), single_quoted(option.help));
  if (option.name == "--set") {
    line += fmt::format(" -x -a '{}'", keys_with_equals());
  } else if (option.takes_value) {
    line += " -r";
  }
  return line + '\n';
}

std::string fish_script(const std::vector<OptionText>& options,
                        const std::vector<CommandText>& commands) {
  std::string text = "# fish completion for superstep\n";
  for (const OptionText& option : options) {
    text += fish_option("__fish_use_subcommand", option);
  }
  for (const CommandText& command : commands) {
    text += fmt::format("complete -c superstep -n __fish_use_subcommand -f -a {} -d '{}'\n",
                        command.name, single_quoted(command.help));
    const std::string inside = fmt::format("__fish_seen_subcommand_from {}", command.name);
    for (const OptionText& option : command.options) {
      text += fish_option(inside, option);
    }
    if (command.name == "completion") {
      text += fmt::format("complete -c superstep -n '{}' -f -a 'bash zsh fish'\n", inside);
    }
  }
  return text;
}

}  // namespace

std::string completion_script(const CLI::App& program, std::string_view shell) {
  const std::vector<OptionText> options = options_of(program);
  const std::vector<CommandText> commands = commands_of(program);
  if (shell == "bash") {
    return bash_script(options, commands);
  }
  if (shell == "zsh") {
    return zsh_script(options, commands);
  }
  SUPERSTEP_CHECK(shell == "fish", "unknown shell", shell);
  return fish_script(options, commands);
}

}  // namespace superstep::cluster
