// The epoll set, waiting, and Io's face towards JavaScript. Sending: transmit.cc, receiving: receive.cc.

#include "io.h"

#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "value.h"

namespace podwire {
namespace {

constexpr uint32_t WAKE = UINT32_MAX;  // the event descriptor's number in the epoll set

}  // namespace

Io::Io(uint8_t* arena, int wakeFd)
    : arena_(arena),
      rx_(reinterpret_cast<int32_t*>(arena + ARENA_rx)),
      msg_(reinterpret_cast<int32_t*>(arena + ARENA_msg)),
      iov_(reinterpret_cast<const int32_t*>(arena + ARENA_iov)),
      status_(reinterpret_cast<double*>(arena + ARENA_status)),
      sum_(checksumKernels().kernels[0].sum),
      wake_(wakeFd) {
  memset(headers_, 0, sizeof headers_);
  memset(peers_, 0, sizeof peers_);
  for (int32_t slot = 0; slot < UDP_SLOTS; slot++) {
    slots_[slot].iov_base = arena_ + ARENA_rxUdp + slot * UDP_SLOT_BYTES + UDP_SLOT_START;
    slots_[slot].iov_len = UDP_SLOT_BYTES - UDP_SLOT_START;
    struct msghdr* header = &headers_[slot].msg_hdr;
    header->msg_name = &senders_[slot];
    header->msg_namelen = sizeof senders_[slot];
    header->msg_iov = &slots_[slot];
    header->msg_iovlen = 1;
    header->msg_control = controls_[slot];
    header->msg_controllen = sizeof controls_[slot];
  }
}

Io::~Io() { close(); }

Failure Io::open() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) return Failure::last("epoll_create1");
  struct epoll_event event;
  event.events = EPOLLIN;
  event.data.u64 = WAKE;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) != 0) return Failure::last("epoll_ctl");
  return Failure{};
}

void Io::close() {
  if (epoll_ >= 0) ::close(epoll_);
  epoll_ = -1;
}

Failure Io::addPort(int32_t number, int32_t kind, int fd, bool receive) {
  Port& port = ports_[number];
  if (port.kind != 0) return Failure{EEXIST, "epoll_ctl"};
  if (receive) {
    struct epoll_event event;
    event.events = EPOLLIN;
    event.data.u64 = static_cast<uint32_t>(number);
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return Failure::last("epoll_ctl");
  }
  port.fd = fd;
  port.kind = kind;
  port.polled = receive;
  return Failure{};
}

void Io::removePort(int32_t number) {
  Port& port = ports_[number];
  if (port.polled) epoll_ctl(epoll_, EPOLL_CTL_DEL, port.fd, nullptr);  // fails where it was closed before
  port = Port{};
}

void Io::setPeer(int32_t number, uint32_t address, uint16_t l4Port) {
  Peer& peer = peers_[number];
  memset(&peer, 0, sizeof peer);
  peer.address.v4.sin_family = AF_INET;
  peer.address.v4.sin_addr.s_addr = htonl(address);
  peer.address.v4.sin_port = htons(l4Port);
  peer.length = sizeof peer.address.v4;
}

// epoll_wait(2). A signal counts as nothing ready: the breath is over and the caller looks around.
int Io::poll(int32_t timeoutMs) {
  const int ready = epoll_wait(epoll_, ready_, READY, timeoutMs);
  return ready > 0 ? ready : 0;
}

int32_t Io::breathe(int32_t messages, int32_t timeoutMs, int32_t spinUs) {
  if (messages > 0) execute(messages);
  int ready = poll(0);
  if (ready == 0 && spinUs > 0) {
    const uint64_t end = monotonicNs() + static_cast<uint64_t>(spinUs) * 1000u;
    do {
      sched_yield();
      ready = poll(0);
    } while (ready == 0 && monotonicNs() < end);
    if (ready > 0) status_[STATUS_SPIN_HITS]++;
  }
  if (ready == 0 && timeoutMs != 0) {
    status_[STATUS_SLEEPS]++;
    ready = poll(timeoutMs);
  }
  status_[STATUS_NOW_US] = static_cast<double>(monotonicNs() / 1000u);
  return receive(ready);
}

// ---- the face towards JavaScript --------------------------------------------------------------
// Each function carries its Io as callback data, which costs less per call than unwrapping `this`.

namespace {

// The Io of a call, or null with an exception pending where it is closed.
Io* openIo(napi_env env, void* data) {
  Io* io = static_cast<Io*>(data);
  if (io->isOpen()) return io;
  throwFailure(env, Failure{EBADF, "epoll_wait"});
  return nullptr;
}

bool readPort(napi_env env, napi_value value, int32_t* port) {
  if (!readInt32(env, value, "port", port)) return false;
  if (*port >= 0 && *port < MAX_PORTS) return true;
  throwRange(env, "port must be 0 to MAX_PORTS - 1");
  return false;
}

bool readMessages(napi_env env, napi_value value, int32_t* messages) {
  if (!readInt32(env, value, "messages", messages)) return false;
  if (*messages >= 0 && *messages <= MSG_CAPACITY) return true;
  throwRange(env, "messages must be 0 to MSG_CAPACITY");
  return false;
}

napi_value AddPort(napi_env env, napi_callback_info info) {
  Arguments<4> args(env, info);
  Io* io = openIo(env, args.data);
  int32_t port, kind, fd;
  bool receive;
  if (io == nullptr || !readPort(env, args[0], &port) || !readInt32(env, args[1], "kind", &kind) ||
      !readInt32(env, args[2], "fd", &fd) || !readBool(env, args[3], "receive", &receive)) {
    return nullptr;
  }
  if (kind < PORT_TAP || kind > PORT_NETLINK)
    return throwRange(env, "kind must be a PORT_ kind");
  if (Failure failure = io->addPort(port, kind, fd, receive)) return throwFailure(env, failure);
  return nullptr;
}

napi_value RemovePort(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  Io* io = openIo(env, args.data);
  int32_t port;
  if (io == nullptr || !readInt32(env, args[0], "port", &port)) return nullptr;
  if (port >= 0 && port < MAX_PORTS) io->removePort(port);
  return nullptr;
}

napi_value SetPeer(napi_env env, napi_callback_info info) {
  Arguments<3> args(env, info);
  Io* io = openIo(env, args.data);
  int32_t peer, l4Port;
  uint32_t address;
  if (io == nullptr || !readInt32(env, args[0], "peer", &peer) ||
      !readUint32(env, args[1], "address", &address) || !readInt32(env, args[2], "port", &l4Port)) {
    return nullptr;
  }
  if (peer < 0 || peer >= IO_PEERS) return throwRange(env, "peer must be 0 to IO_PEERS - 1");
  if (l4Port < 0 || l4Port > 65535) return throwRange(env, "port must be 0 to 65535");
  io->setPeer(peer, address, static_cast<uint16_t>(l4Port));
  return nullptr;
}

napi_value Execute(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  Io* io = openIo(env, args.data);
  int32_t messages;
  if (io == nullptr || !readMessages(env, args[0], &messages)) return nullptr;
  return makeInt32(env, io->execute(messages));
}

napi_value Breathe(napi_env env, napi_callback_info info) {
  Arguments<3> args(env, info);
  Io* io = openIo(env, args.data);
  int32_t messages, timeoutMs, spinUs;
  if (io == nullptr || !readMessages(env, args[0], &messages) ||
      !readInt32(env, args[1], "timeoutMs", &timeoutMs) || !readInt32(env, args[2], "spinUs", &spinUs)) {
    return nullptr;
  }
  return makeInt32(env, io->breathe(messages, timeoutMs, spinUs));
}

napi_value CloseIo(napi_env env, napi_callback_info info) {
  Arguments<1> args(env, info);
  static_cast<Io*>(args.data)->close();
  return nullptr;
}

// Runs as each of an Io's functions is collected, or when the environment ends; the last one frees it.
void release(napi_env env, void* data, void*) {
  Io* io = static_cast<Io*>(data);
  if (--io->references > 0) return;
  napi_delete_reference(env, io->arenaReference);
  delete io;
}

}  // namespace

napi_value CreateIo(napi_env env, napi_callback_info info) {
  Arguments<2> args(env, info);
  void* memory;
  size_t length;
  int32_t wakeFd;
  if (napi_get_arraybuffer_info(env, args[0], &memory, &length) != napi_ok) {
    return throwType(env, "arena must be an ArrayBuffer");
  }
  if (!readInt32(env, args[1], "wakeFd", &wakeFd)) return nullptr;
  if (length < static_cast<size_t>(ARENA_bytes)) return throwRange(env, "arena must have ARENA.bytes bytes");

  Io* io = new (std::nothrow) Io(static_cast<uint8_t*>(memory), wakeFd);
  if (io == nullptr) return throwFailure(env, Failure{ENOMEM, "malloc"});
  if (Failure failure = io->open()) {
    delete io;
    return throwFailure(env, failure);
  }
  io->references = 1;  // ours, until all functions have theirs
  napi_value object = nullptr;
  bool made = napi_create_object(env, &object) == napi_ok &&
              napi_create_reference(env, args[0], 1, &io->arenaReference) == napi_ok;
  constexpr struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"addPort", AddPort}, {"removePort", RemovePort}, {"setPeer", SetPeer},
      {"execute", Execute}, {"breathe", Breathe},       {"close", CloseIo},
  };
  for (const auto& entry : functions) {
    napi_value function;
    made =
        made &&
        napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.callback, io, &function) == napi_ok &&
        napi_add_finalizer(env, function, io, release, nullptr, nullptr) == napi_ok;
    if (!made) break;
    io->references++;
    made = napi_set_named_property(env, object, entry.name, function) == napi_ok;
  }
  release(env, io, nullptr);
  return made ? object : nullptr;
}

}  // namespace podwire
