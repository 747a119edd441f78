// Implements netns.h.

#include "netns.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "value.h"

namespace podwire {

NetnsScope::NetnsScope(const char* path) {
  if (path[0] == '\0') return;
  int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) {
    failure_ = Failure::last("open");
    return;
  }
  int target = open(path, O_RDONLY | O_CLOEXEC);
  if (target < 0) {
    failure_ = Failure::last("open");
    close(home);
    return;
  }
  if (setns(target, CLONE_NEWNET) != 0) {
    failure_ = Failure::last("setns");
    close(home);
  } else {
    home_ = home;
  }
  close(target);
}

NetnsScope::~NetnsScope() {
  if (home_ < 0) return;
  if (setns(home_, CLONE_NEWNET) != 0) {
    perror("podwire: cannot return to the former network namespace");
    abort();
  }
  close(home_);
}

napi_value WithNetns(napi_env env, napi_callback_info info) {
  Arguments<2> args(env, info);
  char path[PATH_BYTES];
  if (!readString(env, args[0], "path", path, sizeof path)) return nullptr;
  napi_valuetype type = napi_undefined;
  napi_typeof(env, args[1], &type);
  if (type != napi_function) return throwType(env, "fn must be a function");

  napi_value result = nullptr;
  {
    NetnsScope scope(path);
    if (scope.failure()) return throwFailure(env, scope.failure());
    // An exception of `fn` stays pending, and is thrown on when we return.
    if (napi_call_function(env, makeUndefined(env), args[1], 0, nullptr, &result) != napi_ok) return nullptr;
  }
  bool promise = false;
  napi_is_promise(env, result, &promise);
  if (promise) return throwType(env, "fn must be synchronous: what runs later is in another namespace");
  return result;
}

}  // namespace podwire
