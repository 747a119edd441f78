// Opens the UDP sockets that carry VXLAN (udp(7), ip(7)). Sending and receiving: transmit.cc,
// receive.cc.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "descriptor.h"
#include "descriptors.h"
#include "kernel.h"
#include "netns.h"
#include "value.h"

namespace podwire {
namespace {

struct UdpOptions {
  char netns[PATH_BYTES];
  char address[64];
  int32_t port;
  bool gro;
  int32_t receiveBuffer;
  int32_t sendBuffer;
};

// SO_RCVBUFFORCE and SO_SNDBUFFORCE go beyond net.core.[rw]mem_max but want CAP_NET_ADMIN in the
// first user namespace; without it the limit is what we get.
void setBuffer(int fd, int force, int plain, int bytes) {
  if (bytes <= 0) return;
  if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) == 0) return;
  setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

Failure openUdp(const UdpOptions& options, int* result) {
  struct sockaddr_in local;
  memset(&local, 0, sizeof local);
  local.sin_family = AF_INET;
  local.sin_port = htons(static_cast<uint16_t>(options.port));
  if (inet_pton(AF_INET, options.address, &local.sin_addr) != 1) return Failure{EINVAL, "inet_pton"};

  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  Descriptor udp(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!udp.valid()) return Failure::last("socket");

  // No DF bit, and the device's MTU whatever ICMP claims: an underlay that needs fragments gets them,
  // and a forged "fragmentation needed" cannot shrink the path.
  int omit = IP_PMTUDISC_OMIT;
  if (setsockopt(udp.get(), IPPROTO_IP, IP_MTU_DISCOVER, &omit, sizeof omit) != 0) {
    return Failure::last("IP_MTU_DISCOVER");
  }
  int on = 1;
  if (options.gro && setsockopt(udp.get(), IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0) {
    return Failure::last("UDP_GRO");
  }
  setBuffer(udp.get(), SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer);
  setBuffer(udp.get(), SO_SNDBUFFORCE, SO_SNDBUF, options.sendBuffer);
  // No SO_REUSEADDR: two owners of one VXLAN port would share its datagrams unnoticed.
  if (bind(udp.get(), reinterpret_cast<struct sockaddr*>(&local), sizeof local) != 0)
    return Failure::last("bind");
  *result = udp.release();
  return Failure{};
}

}  // namespace

napi_value OpenUdp(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  UdpOptions options;
  if (!readStringOf(env, args[0], "netns", options.netns, sizeof options.netns) ||
      !readStringOf(env, args[0], "address", options.address, sizeof options.address) ||
      !readInt32Of(env, args[0], "port", &options.port) || !readBoolOf(env, args[0], "gro", &options.gro) ||
      !readInt32Of(env, args[0], "receiveBuffer", &options.receiveBuffer) ||
      !readInt32Of(env, args[0], "sendBuffer", &options.sendBuffer)) {
    return nullptr;
  }
  if (options.port < 0 || options.port > 65535) return throwRange(env, "port must be 0 to 65535");
  int fd = -1;
  if (Failure failure = openUdp(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
