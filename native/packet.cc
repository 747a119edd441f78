// Opens AF_PACKET sockets on a LAN interface (packet(7)), for ARP and neighbour discovery.

#include <net/if.h>
#include <sys/socket.h>

#include <cstring>

#include "descriptors.h"
#include "filter.h"
#include "kernel.h"
#include "netns.h"
#include "socket.h"
#include "value.h"

namespace podwire {
namespace {

struct PacketOptions {
  char netns[PATH_BYTES];
  char ifname[IFNAMSIZ];
  int32_t protocol;
  std::vector<uint32_t> filter;  // [code, jt, jf, k] quadruples
};

Failure openPacket(const PacketOptions& options, int* result) {
  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  const unsigned ifindex = if_nametoindex(options.ifname);
  if (ifindex == 0) return Failure::last("if_nametoindex");

  struct sockaddr_ll local;
  memset(&local, 0, sizeof local);
  local.sll_family = AF_PACKET;
  local.sll_protocol = htons(static_cast<uint16_t>(options.protocol));
  local.sll_ifindex = static_cast<int>(ifindex);
  const auto prepare = [&options](int fd) {
    if (const Failure failure = attachFilter(fd, options.filter)) return failure;
    const int on = 1;
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) {
      return Failure::last("PACKET_IGNORE_OUTGOING");
    }
    return Failure{};
  };
  // Protocol 0 receives nothing: the filter is in place before the first frame.
  return openBound(SOCK_RAW, 0, local, prepare, result);
}

}  // namespace

napi_value OpenPacket(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  PacketOptions options;
  if (!readStringOf(env, args[0], "netns", options.netns, sizeof options.netns) ||
      !readStringOf(env, args[0], "ifname", options.ifname, sizeof options.ifname) ||
      !readInt32Of(env, args[0], "protocol", &options.protocol) ||
      !readUint32sOf(env, args[0], "filter", &options.filter)) {
    return nullptr;
  }
  if (options.protocol < 0 || options.protocol > 65535) return throwRange(env, "protocol must be 0 to 65535");
  if (!isFilter(options.filter)) return throwRange(env, "filter must be quadruples, at most 4096");
  int fd = -1;
  if (Failure failure = openPacket(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

napi_value SetFilter(napi_env env, napi_callback_info info) {
  Arguments<2> args(env, info);
  int32_t fd;
  std::vector<uint32_t> filter;
  if (!readInt32(env, args[0], "fd", &fd) || !readUint32s(env, args[1], "filter", &filter)) return nullptr;
  if (filter.empty() || !isFilter(filter)) return throwRange(env, "filter must be quadruples, 1 to 4096");
  if (const Failure failure = attachFilter(fd, filter)) return throwFailure(env, failure);
  return makeUndefined(env);
}

}  // namespace podwire
