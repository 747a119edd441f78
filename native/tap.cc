// Opens TAP devices (Linux Documentation/networking/tuntap.rst). Addresses, routes and link state
// are not its business.
//
// Facts of the kernel that shape the order of the steps:
// - TUNSETIFF on an unknown name silently makes a device, and on a known one silently attaches: the
//   interface index is looked at before and after.
// - A device without TUNSETPERSIST goes with its descriptor: persistence is set last, so that a
//   failure before it undoes the creation by closing.
// - The descriptor holds on to the namespace in which /dev/net/tun was opened.

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstring>

#include "descriptor.h"
#include "descriptors.h"
#include "netns.h"
#include "value.h"

namespace podwire {
namespace {

enum class Mode { kCreate, kAttach, kEither };

struct TapOptions {
  char netns[PATH_BYTES];
  char name[IFNAMSIZ];
  bool multiQueue;
  int32_t vnetHeader;
  uint32_t offloads;
  std::vector<uint32_t> optionalOffloads;
  bool persist;
  Mode mode;
};

struct TapResult {
  int fd;
  unsigned ifindex;
  bool created;
  uint32_t offloads;
};

bool readOptions(napi_env env, napi_value object, TapOptions* options) {
  char mode[16];
  int32_t offloads;
  if (!readStringOf(env, object, "netns", options->netns, sizeof options->netns) ||
      !readStringOf(env, object, "name", options->name, sizeof options->name) ||
      !readBoolOf(env, object, "multiQueue", &options->multiQueue) ||
      !readInt32Of(env, object, "vnetHeader", &options->vnetHeader) ||
      !readInt32Of(env, object, "offloads", &offloads) ||
      !readUint32sOf(env, object, "optionalOffloads", &options->optionalOffloads) ||
      !readBoolOf(env, object, "persist", &options->persist) ||
      !readStringOf(env, object, "mode", mode, sizeof mode)) {
    return false;
  }
  options->offloads = static_cast<uint32_t>(offloads);
  if (strcmp(mode, "create") == 0) {
    options->mode = Mode::kCreate;
  } else if (strcmp(mode, "attach") == 0) {
    options->mode = Mode::kAttach;
  } else if (strcmp(mode, "either") == 0) {
    options->mode = Mode::kEither;
  } else {
    throwType(env, "mode must be create, attach or either");
    return false;
  }
  return true;
}

// What dev_valid_name() refuses, and '%', which would make the kernel choose a number.
bool validName(const char* name) {
  if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return false;
  return strpbrk(name, "/:% \t\n\v\f\r") == nullptr;
}

Failure openTap(const TapOptions& options, TapResult* result) {
  if (!validName(options.name)) return Failure{EINVAL, "TUNSETIFF"};
  NetnsScope scope(options.netns);
  if (scope.failure()) return scope.failure();

  const unsigned before = if_nametoindex(options.name);
  if (before != 0 && options.mode == Mode::kCreate) return Failure{EEXIST, "TUNSETIFF"};
  if (before == 0 && options.mode == Mode::kAttach) return Failure{ENODEV, "TUNSETIFF"};

  Descriptor tap(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tap.valid()) return Failure::last("open");
  const int wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (options.multiQueue ? IFF_MULTI_QUEUE : 0);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, options.name, sizeof request.ifr_name);
  request.ifr_flags = static_cast<short>(wanted);
  if (ioctl(tap.get(), TUNSETIFF, &request) != 0) return Failure::last("TUNSETIFF");

  memset(&request, 0, sizeof request);
  if (ioctl(tap.get(), TUNGETIFF, &request) != 0) return Failure::last("TUNGETIFF");
  const int mask = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
  if ((request.ifr_flags & mask) != wanted) return Failure{EINVAL, "TUNGETIFF"};
  const unsigned after = if_nametoindex(options.name);
  if (after == 0) return Failure::last("if_nametoindex");
  // Somebody removed the device, or made one, between our look and TUNSETIFF.
  if (options.mode == Mode::kAttach && after != before) return Failure{ENODEV, "TUNSETIFF"};

  int size = options.vnetHeader;
  if (ioctl(tap.get(), TUNSETVNETHDRSZ, &size) != 0) return Failure::last("TUNSETVNETHDRSZ");
  uint32_t offloads = options.offloads;
  if (ioctl(tap.get(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) != 0) {
    return Failure::last("TUNSETOFFLOAD");
  }
  for (uint32_t more : options.optionalOffloads) {
    if (ioctl(tap.get(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads | more)) == 0) offloads |= more;
  }
  if (ioctl(tap.get(), TUNSETPERSIST, options.persist ? 1ul : 0ul) != 0)
    return Failure::last("TUNSETPERSIST");

  *result = TapResult{tap.release(), after, after != before, offloads};
  return Failure{};
}

}  // namespace

napi_value OpenTap(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  TapOptions options;
  if (!readOptions(env, args[0], &options)) return nullptr;
  TapResult result = {};
  if (Failure failure = openTap(options, &result)) return throwFailure(env, failure);

  napi_value handle;
  if (napi_create_object(env, &handle) != napi_ok || !setInt32(env, handle, "fd", result.fd) ||
      !setInt32(env, handle, "ifindex", static_cast<int32_t>(result.ifindex)) ||
      !setBool(env, handle, "created", result.created) ||
      !setInt32(env, handle, "offloads", static_cast<int32_t>(result.offloads))) {
    close(result.fd);
    return nullptr;
  }
  return handle;
}

napi_value SetTapPersist(napi_env env, napi_callback_info info) {
  Arguments<2> args(env, info);
  int32_t fd;
  bool persist;
  if (!readInt32(env, args[0], "fd", &fd) || !readBool(env, args[1], "persist", &persist)) return nullptr;
  if (ioctl(fd, TUNSETPERSIST, persist ? 1ul : 0ul) != 0)
    return throwFailure(env, Failure::last("TUNSETPERSIST"));
  return nullptr;
}

}  // namespace podwire
