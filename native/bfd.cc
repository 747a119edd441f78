// Opens the UDP sockets of BFD (RFC 5881): what is sent has TTL 255, and what did not come with it is
// dropped by a filter before it reaches the socket's queue.

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/socket.h>

#include <cstring>

#include "descriptor.h"
#include "descriptors.h"
#include "netns.h"
#include "value.h"

namespace podwire {
namespace {

constexpr int BFD_TTL = 255;
constexpr uint32_t WHOLE_DATAGRAM = 0xffffffff;

struct BfdOptions {
  char netns[PATH_BYTES];
  char address[64];
  int32_t port;
};

Failure openBfd(const BfdOptions& options, int* result) {
  struct sockaddr_in local;
  memset(&local, 0, sizeof local);
  local.sin_family = AF_INET;
  local.sin_port = htons(static_cast<uint16_t>(options.port));
  if (inet_pton(AF_INET, options.address, &local.sin_addr) != 1) return Failure{EINVAL, "inet_pton"};

  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  Descriptor udp(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!udp.valid()) return Failure::last("socket");
  int ttl = BFD_TTL;
  if (setsockopt(udp.get(), IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) != 0) return Failure::last("IP_TTL");
  // Network control (RFC 4594 §3.1): a full link must not look like a dead one.
  int tos = IPTOS_PREC_INTERNETCONTROL;
  if (setsockopt(udp.get(), IPPROTO_IP, IP_TOS, &tos, sizeof tos) != 0) return Failure::last("IP_TOS");
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, static_cast<uint32_t>(SKF_NET_OFF) + offsetof(struct iphdr, ttl)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BFD_TTL, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, WHOLE_DATAGRAM),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {sizeof code / sizeof code[0], code};
  if (setsockopt(udp.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
    return Failure::last("SO_ATTACH_FILTER");
  if (bind(udp.get(), reinterpret_cast<struct sockaddr*>(&local), sizeof local) != 0)
    return Failure::last("bind");
  *result = udp.release();
  return Failure{};
}

}  // namespace

napi_value OpenBfd(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  BfdOptions options;
  if (!readStringOf(env, args[0], "netns", options.netns, sizeof options.netns) ||
      !readStringOf(env, args[0], "address", options.address, sizeof options.address) ||
      !readInt32Of(env, args[0], "port", &options.port)) {
    return nullptr;
  }
  if (options.port < 0 || options.port > 65535) return throwRange(env, "port must be 0 to 65535");
  int fd = -1;
  if (Failure failure = openBfd(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
