// How a failed system call travels from the call to JavaScript: a Failure value inside native/, an
// Error with `code`, `errno` and `syscall` outside. Nothing here throws C++ exceptions.

#pragma once

#include <cerrno>

namespace podwire {

// A system call that failed, or nothing (error 0). Names are string literals.
struct Failure {
  int error = 0;
  const char* syscall = "";

  explicit operator bool() const { return error != 0; }
  // The call that has just failed; reads errno.
  static Failure last(const char* syscall) { return Failure{errno, syscall}; }
};

// "EADDRINUSE" for EADDRINUSE; "EUNKNOWN" for numbers that no call of ours gives.
const char* errorCode(int error);

}  // namespace podwire
