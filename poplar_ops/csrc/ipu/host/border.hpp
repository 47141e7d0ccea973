// The C border of this library: an exception becomes a return code and, for Python, its words.
#pragma once

#include <exception>
#include <string>

namespace poplar {
namespace host {

// What `poplar_host_error` returns: the words of this thread's last failure.
inline thread_local std::string last_error;

template <class Action>
int guarded(Action action) {
  try {
    action();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace host
}  // namespace poplar
