// One epoll set over a worker's descriptors, and the arena they receive into and send from.
//
//   breathe:  execute (transmit.cc)  ->  wait (io.cc)  ->  read what is ready (receive.cc)
//
// Io runs the plan that the dataplane wrote into the arena. It does not know what the bytes mean,
// beyond the two checksum services that layout.ts describes. It owns the epoll set; descriptors of
// ports belong to the caller. One thread at a time; any number of Ios in a process.

#pragma once

#include <node_api.h>

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include <cstdint>

#include "checksum.h"
#include "errors.h"
#include "kernel.h"
#include "layout.h"

namespace podwire {

struct Port {
  int fd = -1;
  int32_t kind = 0;  // 0: no such port
  bool polled = false;
};

// Whether a port is a UDP socket.
inline bool carriesDatagrams(int32_t kind) { return kind == PORT_UDP || kind == PORT_BFD; }

// The dataplane's clock.
inline uint64_t monotonicNs() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// Where datagrams go. `length` 0: not set.
struct Peer {
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } address;
  uint32_t length;
};

// The pieces of one message, gathered from its chain.
struct Chain {
  int32_t count;
  bool requested;  // some piece asks for its checksum
  struct iovec pieces[MAX_IOV];
  int32_t requests[MAX_IOV];  // IOV_CSUM
};

class Io {
 public:
  Io(uint8_t* arena, int wakeFd);
  ~Io();
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;

  Failure open();
  void close();
  bool isOpen() const { return epoll_ >= 0; }

  Failure addPort(int32_t number, int32_t kind, int fd, bool receive);
  void removePort(int32_t number);
  void setPeer(int32_t number, uint32_t address, uint16_t port);
  int32_t execute(int32_t messages);
  int32_t breathe(int32_t messages, int32_t timeoutMs, int32_t spinUs);

  // JavaScript functions that still point here, and what keeps the arena alive for them.
  int references = 0;
  napi_ref arenaReference = nullptr;

 private:
  // io.cc
  int poll(int32_t timeoutMs);

  // transmit.cc
  int send(int32_t* message);
  int gather(const int32_t* message);
  int finishChecksums();
  int sendDatagrams(const Port& port, const int32_t* message);
  int writeFrame(int fd, const struct iovec* pieces, int count);
  int segmentsAreCorrect(const int32_t* message, bool* correct) const;
  int writeUnmerged(int fd, const int32_t* message);

  // receive.cc
  int32_t receive(int ready);
  void drainWake();
  void readUdp(int32_t number, uint32_t events, int32_t most);
  void readTap(int32_t number);
  void readLink(int32_t number, int32_t headroom);
  bool hasFrameRoom() const { return tapUsed_ < TAP_BUDGET && received_ < RX_CAPACITY; }
  void takeFrame(int32_t number, int32_t start, int32_t length);
  int32_t* describe(int32_t number, int32_t offset, int32_t length);
  void fail(int32_t number, int error);

  uint8_t* const arena_;
  int32_t* const rx_;
  int32_t* const msg_;
  const int32_t* const iov_;
  double* const status_;
  uint64_t (*const sum_)(const uint8_t* bytes, size_t length);
  const int wake_;
  int epoll_ = -1;

  bool sendBufferFull_ = false;  // in this execution a wait for room was in vain
  Chain chain_;

  uint32_t breath_ = 0;
  int32_t received_ = 0;  // descriptors written in this breath
  int32_t tapUsed_ = 0;   // bytes of rxTap in use
  int32_t slotsUsed_ = 0;

  static constexpr int READY = 256;
  struct epoll_event ready_[READY];

  // recvmmsg's arrays, one entry a slot; only what the kernel overwrites is reset.
  struct mmsghdr headers_[UDP_SLOTS];
  struct iovec slots_[UDP_SLOTS];
  struct sockaddr_in senders_[UDP_SLOTS];
  alignas(struct cmsghdr) char controls_[UDP_SLOTS][CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(int))];

  Port ports_[MAX_PORTS];
  Peer peers_[IO_PEERS];
};

// createIo(arena, wakeFd): an object with NativeIo's functions.
napi_value CreateIo(napi_env env, napi_callback_info info);

}  // namespace podwire
