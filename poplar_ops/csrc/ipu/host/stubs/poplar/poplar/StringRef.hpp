// Our own declaration of Poplar's non-owning string argument.
#pragma once
#include <string>

namespace poplar {

class StringRef {
 public:
  StringRef(const char* text) : text_(text) {}
  StringRef(const std::string& text) : text_(text) {}
  operator std::string() const { return text_; }

 private:
  std::string text_;
};

}  // namespace poplar
