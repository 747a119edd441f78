// Opens raw IPv4 sockets (raw(7)): they hear what the kernel delivers to the node itself, whole
// packets, their headers included, put together where they came in fragments.

#include <netinet/in.h>
#include <sys/socket.h>

#include "descriptor.h"
#include "descriptors.h"
#include "filter.h"
#include "kernel.h"
#include "netns.h"
#include "socket.h"
#include "value.h"

namespace podwire {
namespace {

struct RawOptions {
  char netns[PATH_BYTES];
  int32_t protocol;
  std::vector<uint32_t> filter;
  int32_t receiveBuffer;
};

Failure openRaw(const RawOptions& options, int* result) {
  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  Descriptor raw(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, options.protocol));
  if (!raw.valid()) return Failure::last("socket");
  if (const Failure failure = attachFilter(raw.get(), options.filter)) return failure;
  // What came in between the two calls is heard unfiltered; whoever reads judges every packet anyway.
  setBuffer(raw.get(), SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer);
  *result = raw.release();
  return Failure{};
}

}  // namespace

napi_value OpenRaw(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  RawOptions options;
  if (!readStringOf(env, args[0], "netns", options.netns, sizeof options.netns) ||
      !readInt32Of(env, args[0], "protocol", &options.protocol) ||
      !readUint32sOf(env, args[0], "filter", &options.filter) ||
      !readInt32Of(env, args[0], "receiveBuffer", &options.receiveBuffer)) {
    return nullptr;
  }
  if (options.protocol < 1 || options.protocol > 254) return throwRange(env, "protocol must be 1 to 254");
  if (!isFilter(options.filter)) return throwRange(env, "filter must be quadruples, at most 4096");
  int fd = -1;
  if (Failure failure = openRaw(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
