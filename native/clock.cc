// How far the wall clock is from the clock that the dataplane goes by.

#include <time.h>

#include "descriptors.h"
#include "value.h"

namespace podwire {
namespace {

int64_t nanoseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

}  // namespace

napi_value ClockOffset(napi_env env, napi_callback_info) {
  // Between two readings of the one, whose middle is the other's moment.
  const int64_t before = nanoseconds(CLOCK_MONOTONIC);
  const int64_t realtime = nanoseconds(CLOCK_REALTIME);
  const int64_t after = nanoseconds(CLOCK_MONOTONIC);
  napi_value offset = nullptr;
  napi_create_bigint_int64(env, realtime - (before + (after - before) / 2), &offset);
  return offset;
}

}  // namespace podwire
