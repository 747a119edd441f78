// Reads what epoll found ready into the arena, and describes it. BFD sockets first: what they say must
// not wait for slots that VXLAN has taken. Then the other UDP sockets; then TAP, LINK and further ports,
// which share rxTap, beginning each breath with another port, so that a busy one cannot starve the rest.
// What is left over is still ready in the next breath.

#include <linux/if_packet.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "io.h"

namespace podwire {
namespace {

// Pending errors that are read away from a socket in one breath before it is given up.
constexpr int ERROR_TRIES = 16;
// Slots that a BFD socket takes in one breath: a flood of it leaves some for VXLAN.
constexpr int32_t BFD_SLOTS = UDP_SLOTS / 2;

// The interface of a packet socket is gone for good (NETDEV_UNREGISTER sets its index to -1).
bool isUnbound(int fd) {
  struct sockaddr_ll local;
  socklen_t length = sizeof local;
  if (getsockname(fd, reinterpret_cast<struct sockaddr*>(&local), &length) != 0) return true;
  return local.sll_ifindex <= 0;
}

// UDP_GRO's control message (udp(7)): the size of one datagram of the train, or `length`.
int32_t segmentSize(struct msghdr* header, int32_t length) {
  for (struct cmsghdr* c = CMSG_FIRSTHDR(header); c != nullptr; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO) continue;
    int size;
    memcpy(&size, CMSG_DATA(c), sizeof size);
    if (size > 0 && size < length) return size;
  }
  return length;
}

// Empties the error queue (IP_RECVERR) and SO_ERROR, which would keep the socket ready for ever.
void clearErrors(int fd) {
  int error;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  char byte;
  struct iovec piece = {&byte, sizeof byte};
  struct msghdr header;
  memset(&header, 0, sizeof header);
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  for (int i = 0; i < ERROR_TRIES && recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; i++) {
  }
}

}  // namespace

// Returns the number of receive descriptors.
int32_t Io::receive(int ready) {
  received_ = 0;
  tapUsed_ = 0;
  slotsUsed_ = 0;
  if (ready == 0) return 0;
  const int first = static_cast<int>(breath_++ % static_cast<uint32_t>(ready));
  bool frames = false;
  for (int i = 0; i < ready; i++) {
    const struct epoll_event& event = ready_[i];
    if (event.data.u64 < MAX_PORTS && ports_[event.data.u64].kind == PORT_BFD)
      readUdp(static_cast<int32_t>(event.data.u64), event.events, BFD_SLOTS);
  }
  for (int i = 0; i < ready; i++) {
    const struct epoll_event& event = ready_[(first + i) % ready];
    if (event.data.u64 >= MAX_PORTS) {
      drainWake();
    } else if (ports_[event.data.u64].kind == PORT_UDP) {
      readUdp(static_cast<int32_t>(event.data.u64), event.events, UDP_SLOTS);
    } else {
      frames = true;
    }
  }
  for (int i = 0; frames && i < ready; i++) {
    const struct epoll_event& event = ready_[(first + i) % ready];
    if (event.data.u64 >= MAX_PORTS) continue;
    const int32_t number = static_cast<int32_t>(event.data.u64);
    if (ports_[number].kind == PORT_TAP) readTap(number);
    if (ports_[number].kind == PORT_LINK) readLink(number, LINK_START);
    if (ports_[number].kind == PORT_RAW || ports_[number].kind == PORT_NETLINK) readLink(number, RAW_START);
  }
  return received_;
}

// read(2) of an eventfd: its count returns to zero.
void Io::drainWake() {
  eventfd_t count;
  if (eventfd_read(wake_, &count) == 0) status_[STATUS_WAKES]++;
}

// recvmmsg(2) into the slots that are still free, `most` at most.
void Io::readUdp(int32_t number, uint32_t events, int32_t most) {
  const int fd = ports_[number].fd;
  if ((events & EPOLLERR) != 0) clearErrors(fd);
  const int32_t left = UDP_SLOTS - slotsUsed_;
  const int32_t free = left < most ? left : most;
  if (free == 0) return;
  struct mmsghdr* headers = headers_ + slotsUsed_;
  int count = -1;
  int error = 0;
  for (int tries = 0; count < 0; tries++) {
    count = recvmmsg(fd, headers, static_cast<unsigned>(free), MSG_DONTWAIT, nullptr);
    if (count >= 0) break;
    error = errno;
    if (error == EAGAIN) return;
    // An ICMP error that somebody's datagram earned is reported once and is no end of the socket.
    if (error == EBADF || error == ENOTSOCK || tries == ERROR_TRIES) return fail(number, error);
  }
  if (count == 0) return;
  status_[STATUS_RX_CALLS]++;
  for (int k = 0; k < count; k++) {
    const int32_t slot = slotsUsed_ + k;
    struct msghdr* header = &headers[k].msg_hdr;
    const int32_t length = static_cast<int32_t>(headers[k].msg_len);
    int32_t* d = describe(number, ARENA_rxUdp + slot * UDP_SLOT_BYTES + UDP_SLOT_START, length);
    d[RX_SEGMENT] = segmentSize(header, length);
    d[RX_PEER] = static_cast<int32_t>(ntohl(senders_[slot].sin_addr.s_addr));
    d[RX_PEER_PORT] = ntohs(senders_[slot].sin_port);
    d[RX_FLAGS] = (header->msg_flags & MSG_TRUNC) != 0 ? RX_FLAG_TRUNCATED : 0;
    header->msg_namelen = sizeof senders_[slot];
    header->msg_controllen = sizeof controls_[slot];
    header->msg_flags = 0;
  }
  slotsUsed_ += count;
}

// read(2), a frame a call. A TAP that is down is silent; one that is gone says EBADFD.
void Io::readTap(int32_t number) {
  const int fd = ports_[number].fd;
  for (int frames = 0; frames < TAP_FRAMES && hasFrameRoom();) {
    const int32_t start = ARENA_rxTap + tapUsed_ + HEADROOM;
    const ssize_t length = read(fd, arena_ + start, TAP_FRAME_MAX);
    if (length > 0) {
      takeFrame(number, start, static_cast<int32_t>(length));
      frames++;
    } else if (length == 0 || errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      return fail(number, errno);
    }
  }
}

// recv(2), a frame or packet a call; Ethernet or IP begins where it does in a TAP frame.
void Io::readLink(int32_t number, int32_t headroom) {
  const int fd = ports_[number].fd;
  int errors = 0;
  for (int frames = 0; frames < TAP_FRAMES && hasFrameRoom();) {
    const int32_t start = ARENA_rxTap + tapUsed_ + headroom;
    const ssize_t length = recv(fd, arena_ + start, TAP_FRAME_MAX, MSG_DONTWAIT);
    if (length > 0) {
      takeFrame(number, start, static_cast<int32_t>(length));
      frames++;
    } else if (length == 0 || errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      const int error = errno;
      // ENETDOWN comes once when the interface goes down, which it may come back from.
      if (error == ENETDOWN && headroom == LINK_START && isUnbound(fd)) return fail(number, ENODEV);
      if (error == EBADF || error == ENOTSOCK || ++errors == ERROR_TRIES) return fail(number, error);
    }
  }
}

// Describes a frame of rxTap and moves the bump pointer to the next 64-byte line behind it.
void Io::takeFrame(int32_t number, int32_t start, int32_t length) {
  describe(number, start, length);
  tapUsed_ = align64(start + length - ARENA_rxTap);
  status_[STATUS_RX_CALLS]++;
}

int32_t* Io::describe(int32_t number, int32_t offset, int32_t length) {
  int32_t* d = rx_ + received_++ * RX_STRIDE;
  d[RX_OFFSET] = offset;
  d[RX_LENGTH] = length;
  d[RX_PORT] = number;
  d[RX_SEGMENT] = length;
  d[RX_PEER] = 0;
  d[RX_PEER_PORT] = 0;
  d[RX_FLAGS] = 0;
  return d;
}

// Stops polling a port and says so once. Its descriptor and number stay taken until removePort.
void Io::fail(int32_t number, int error) {
  Port& port = ports_[number];
  epoll_ctl(epoll_, EPOLL_CTL_DEL, port.fd, nullptr);
  port.polled = false;
  describe(number, 0, error)[RX_FLAGS] = RX_FLAG_ERROR;
}

}  // namespace podwire
