// Entering and leaving network namespaces: the only file that calls setns. A namespace belongs to
// the calling thread; threads of libuv's pool and other workers stay where they are.

#pragma once

#include <node_api.h>

#include "errors.h"

namespace podwire {

// setns(2): the thread is in the namespace at `path` while the object lives. "" stays where it is.
// Where leaving fails the process is aborted: a thread in a wrong namespace must not go on.
class NetnsScope {
 public:
  explicit NetnsScope(const char* path);
  ~NetnsScope();
  NetnsScope(const NetnsScope&) = delete;
  NetnsScope& operator=(const NetnsScope&) = delete;

  // Why the namespace could not be entered; the thread is then where it was.
  const Failure& failure() const { return failure_; }

 private:
  int home_ = -1;
  Failure failure_;
};

// withNetns(path, fn): setns(2) around a synchronous call.
napi_value WithNetns(napi_env env, napi_callback_info info);

}  // namespace podwire
