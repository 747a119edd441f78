// Opens the UDP sockets of BFD (RFC 5881): what is sent has TTL 255, and what did not come with it is
// dropped by a filter before it reaches the socket's queue.

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include <cstddef>

#include "descriptors.h"
#include "filter.h"
#include "socket.h"
#include "value.h"

namespace podwire {
namespace {

constexpr int BFD_TTL = 255;
constexpr uint32_t WHOLE_DATAGRAM = 0xffffffff;

Failure prepareBfd(int fd) {
  const int ttl = BFD_TTL;
  if (setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) != 0) return Failure::last("IP_TTL");
  // Network control (RFC 4594 §3.1): a full link must not look like a dead one.
  const int tos = IPTOS_PREC_INTERNETCONTROL;
  if (setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos) != 0) return Failure::last("IP_TOS");
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, static_cast<uint32_t>(SKF_NET_OFF) + offsetof(struct iphdr, ttl)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BFD_TTL, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, WHOLE_DATAGRAM),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  return attachFilter(fd, code);
}

}  // namespace

napi_value OpenBfd(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  UdpOptions options;
  if (!readUdpOptions(env, args[0], &options)) return nullptr;
  int fd = -1;
  if (Failure failure = openBoundUdp(options, prepareBfd, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
