// Opens the UDP sockets that carry VXLAN (udp(7), ip(7)). Sending and receiving: transmit.cc,
// receive.cc.

#include <netinet/in.h>
#include <sys/socket.h>

#include "descriptors.h"
#include "kernel.h"
#include "socket.h"
#include "value.h"

namespace podwire {
namespace {

struct VxlanOptions {
  UdpOptions udp;
  bool gro;
  int32_t receiveBuffer;
  int32_t sendBuffer;
};

Failure openVxlan(const VxlanOptions& options, int* result) {
  const auto prepare = [&options](int fd) {
    // No DF bit, and the device's MTU whatever ICMP claims: an underlay that needs fragments gets
    // them, and a forged "fragmentation needed" cannot shrink the path.
    const int omit = IP_PMTUDISC_OMIT;
    if (setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &omit, sizeof omit) != 0) {
      return Failure::last("IP_MTU_DISCOVER");
    }
    const int on = 1;
    if (options.gro && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on) != 0) {
      return Failure::last("UDP_GRO");
    }
    setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBuffer);
    setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.sendBuffer);
    return Failure{};
  };
  // No SO_REUSEADDR: two owners of one VXLAN port would share its datagrams unnoticed.
  return openBoundUdp(options.udp, prepare, result);
}

}  // namespace

napi_value OpenUdp(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  VxlanOptions options;
  if (!readUdpOptions(env, args[0], &options.udp) || !readBoolOf(env, args[0], "gro", &options.gro) ||
      !readInt32Of(env, args[0], "receiveBuffer", &options.receiveBuffer) ||
      !readInt32Of(env, args[0], "sendBuffer", &options.sendBuffer)) {
    return nullptr;
  }
  int fd = -1;
  if (Failure failure = openVxlan(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
