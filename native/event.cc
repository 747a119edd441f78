// Event descriptors (eventfd(2)), by which the control side wakes a worker, and closing of any descriptor.

#include <sys/eventfd.h>
#include <unistd.h>

#include "descriptors.h"
#include "value.h"

namespace podwire {

napi_value OpenEvent(napi_env env, napi_callback_info) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return throwFailure(env, Failure::last("eventfd"));
  return makeInt32(env, fd);
}

napi_value SignalEvent(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  int32_t fd;
  if (!readInt32(env, args[0], "fd", &fd)) return nullptr;
  // EAGAIN: the counter is full, so a wake-up is pending already.
  if (eventfd_write(fd, 1) != 0 && errno != EAGAIN) return throwFailure(env, Failure::last("write"));
  return nullptr;
}

napi_value Close(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  int32_t fd;
  if (!readInt32(env, args[0], "fd", &fd)) return nullptr;
  // Linux has freed the descriptor even when it says EINTR.
  if (close(fd) != 0 && errno != EINTR) return throwFailure(env, Failure::last("close"));
  return nullptr;
}

}  // namespace podwire
