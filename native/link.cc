// Opens netlink sockets that report what becomes of one interface (rtnetlink(7), RTMGRP_LINK): its
// flags, of which IFF_LOWER_UP is the carrier. The first message is the state as the socket was opened.

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>

#include "descriptor.h"
#include "descriptors.h"
#include "filter.h"
#include "netns.h"
#include "socket.h"
#include "value.h"

namespace podwire {
namespace {

struct LinkOptions {
  char netns[PATH_BYTES];
  int32_t ifindex;
};

struct LinkRequest {
  struct nlmsghdr header;
  struct ifinfomsg link;
};

// Messages of this interface and no other: a node that makes a thousand pods must not overrun the
// queue. Loads are big-endian, the message is not.
Failure filterInterface(int fd, int32_t ifindex) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offsetof(LinkRequest, link.ifi_index))),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(static_cast<uint32_t>(ifindex)), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  return attachFilter(fd, code);
}

Failure openLinkEvents(const LinkOptions& options, int* result) {
  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();
  struct sockaddr_nl local;
  memset(&local, 0, sizeof local);
  local.nl_family = AF_NETLINK;
  local.nl_groups = RTMGRP_LINK;
  const auto prepare = [&options](int fd) { return filterInterface(fd, options.ifindex); };
  int fd = -1;
  if (const Failure failure = openBound(SOCK_RAW, NETLINK_ROUTE, local, prepare, &fd)) return failure;
  Descriptor events(fd);
  LinkRequest request;
  memset(&request, 0, sizeof request);
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.link.ifi_family = AF_UNSPEC;
  request.link.ifi_index = options.ifindex;
  if (send(events.get(), &request, sizeof request, 0) < 0) return Failure::last("RTM_GETLINK");
  *result = events.release();
  return Failure{};
}

}  // namespace

napi_value OpenLinkEvents(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  LinkOptions options;
  if (!readStringOf(env, args[0], "netns", options.netns, sizeof options.netns) ||
      !readInt32Of(env, args[0], "ifindex", &options.ifindex)) {
    return nullptr;
  }
  if (options.ifindex < 1) return throwRange(env, "ifindex must be 1 or more");
  int fd = -1;
  if (Failure failure = openLinkEvents(options, &fd)) return throwFailure(env, failure);
  return makeInt32(env, fd);
}

}  // namespace podwire
