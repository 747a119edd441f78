// What the files that open sockets have in common: udp.cc, bfd.cc, packet.cc, raw.cc, link.cc.

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "descriptor.h"
#include "errors.h"
#include "netns.h"
#include "value.h"

namespace podwire {

// A socket that does not block, prepared and bound: `prepare(fd)` stands between socket(2) and bind(2)
// and returns a Failure. In the namespace that the thread is in.
template <typename Address, typename Prepare>
Failure openBound(int type, int protocol, const Address& local, Prepare prepare, int* result) {
  const auto* address = reinterpret_cast<const struct sockaddr*>(&local);
  Descriptor bound(socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
  if (!bound.valid()) return Failure::last("socket");
  if (const Failure failure = prepare(bound.get())) return failure;
  if (bind(bound.get(), address, sizeof local) != 0) return Failure::last("bind");
  *result = bound.release();
  return Failure{};
}

// Which UDP socket to open: the options that all kinds of them take.
struct UdpOptions {
  char netns[PATH_BYTES];
  char address[64];
  int32_t port;
};

inline bool readUdpOptions(napi_env env, napi_value object, UdpOptions* options) {
  if (!readStringOf(env, object, "netns", options->netns, sizeof options->netns) ||
      !readStringOf(env, object, "address", options->address, sizeof options->address) ||
      !readInt32Of(env, object, "port", &options->port)) {
    return false;
  }
  if (options->port >= 0 && options->port <= 65535) return true;
  throwRange(env, "port must be 0 to 65535");
  return false;
}

// openBound for udp(7), in the namespace of the options.
template <typename Prepare>
Failure openBoundUdp(const UdpOptions& options, Prepare prepare, int* result) {
  struct sockaddr_in local;
  memset(&local, 0, sizeof local);
  local.sin_family = AF_INET;
  local.sin_port = htons(static_cast<uint16_t>(options.port));
  if (inet_pton(AF_INET, options.address, &local.sin_addr) != 1) return Failure{EINVAL, "inet_pton"};

  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  return openBound(SOCK_DGRAM, 0, local, prepare, result);
}

// SO_RCVBUFFORCE and SO_SNDBUFFORCE go beyond net.core.[rw]mem_max but want CAP_NET_ADMIN in the
// first user namespace; without it the limit is what we get. 0 bytes or less: the default stays.
inline void setBuffer(int fd, int force, int plain, int bytes) {
  if (bytes <= 0) return;
  if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) == 0) return;
  setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

}  // namespace podwire
