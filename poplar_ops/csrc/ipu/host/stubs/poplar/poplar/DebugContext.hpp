// Our own declarations of Poplar's debug names, which every graph call takes last.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "StringRef.hpp"

namespace poplar {

class SourceLocation {
 public:
  static SourceLocation Current() { return {}; }
};

using DebugId = std::uint64_t;

class DebugNameAndId {
 public:
  DebugNameAndId(std::string name = "", DebugId = {}, std::string = "") : name_(name) {}
  DebugNameAndId(const char* name) : name_(name) {}
  DebugNameAndId(DebugId) {}
  DebugNameAndId(const DebugNameAndId& parent, StringRef name)
      : name_(parent.name_ + "/" + std::string(name)) {}
  std::string getPathName() const { return name_; }

 private:
  std::string name_;
};

class ProfileValue {
 public:
  using Map = std::map<std::string, ProfileValue>;
  using Vector = std::vector<ProfileValue>;
  ProfileValue() = default;
  template <class T>
  ProfileValue(const T&) {}
};

class DebugContext;

class DebugInfo {
 public:
  DebugInfo(const DebugContext&, std::string) {}
  virtual ~DebugInfo() = default;
  DebugId getId() const { return 0; }
  bool setValue(std::string, ProfileValue) { return true; }
};

class DebugContext {
 public:
  DebugContext(SourceLocation = SourceLocation::Current()) {}
  DebugContext(const char* name, SourceLocation = SourceLocation::Current()) : name_(name) {}
  DebugContext(std::string name, SourceLocation = SourceLocation::Current()) : name_(name) {}
  DebugContext(const DebugInfo&, std::string name = "", SourceLocation = SourceLocation::Current())
      : name_(name) {}
  DebugContext(const DebugNameAndId& parent, std::string name = "",
               SourceLocation = SourceLocation::Current())
      : name_(parent.getPathName() + "/" + name) {}
  DebugContext(const DebugContext& parent, StringRef name)
      : name_(parent.name_ + "/" + std::string(name)) {}
  std::string getPathName() const { return name_; }

 private:
  std::string name_;
};

}  // namespace poplar
