// Our own declaration of Poplar's option list, which PopART's headers name.
#pragma once
#include <initializer_list>
#include <map>
#include <string>
#include <utility>

namespace poplar {

class OptionFlags {
 public:
  OptionFlags() = default;
  OptionFlags(std::initializer_list<std::pair<const std::string, std::string>> flags)
      : flags_(flags) {}

 private:
  std::map<std::string, std::string> flags_;
};

}  // namespace poplar
