// Runs a plan: one system call per message. In order, for each message:
//
//   1. gather its chain of pieces, checking every number against the arena
//   2. finish the checksums its pieces ask for (IOV_CSUM)
//   3. UDP, BFD: sendmsg, with UDP_SEGMENT where MSG_GSO says so
//      TAP, LINK: verify a merged TCP frame (MSG_FLAG_VERIFY), then writev
//
// A message that fails costs only itself: its MSG_ERRNO says why, the next one is tried.

#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "io.h"

namespace podwire {
namespace {

// How long a full UDP send buffer is waited for, once per execution.
constexpr int SEND_WAIT_MS = 1;

}  // namespace

// Returns how many messages failed.
int32_t Io::execute(int32_t messages) {
  int32_t failed = 0;
  sendBufferFull_ = false;
  for (int32_t i = 0; i < messages; i++) {
    int32_t* message = msg_ + i * MSG_STRIDE;
    const int error = send(message);
    message[MSG_ERRNO] = error;
    if (error != 0) failed++;
  }
  status_[STATUS_FAILED] = failed;
  status_[STATUS_SENT_US] = static_cast<double>(monotonicNs() / 1000u);
  return failed;
}

// Sends one message. Returns 0 or an errno, as do all steps below.
int Io::send(int32_t* message) {
  const int32_t number = message[MSG_PORT];
  if (number < 0 || number >= MAX_PORTS || ports_[number].kind == 0) return ENODEV;
  const Port& port = ports_[number];
  if (const int error = gather(message)) return error;
  if (chain_.requested) {
    if (const int error = finishChecksums()) return error;
  }
  if (carriesDatagrams(port.kind)) return sendDatagrams(port, message);
  if (port.kind == PORT_TAP && (message[MSG_FLAGS] & MSG_FLAG_VERIFY) != 0) {
    bool correct;
    if (const int error = segmentsAreCorrect(message, &correct)) return error;
    if (!correct) return writeUnmerged(port.fd, message);
  }
  return writeFrame(port.fd, chain_.pieces, chain_.count);
}

int Io::gather(const int32_t* message) {
  const int32_t count = message[MSG_IOV_COUNT];
  if (count < 1 || count > MAX_IOV) return EMSGSIZE;
  int32_t requests = 0;
  int32_t index = message[MSG_IOV];
  for (int32_t k = 0; k < count; k++) {
    if (index < 0 || index >= IOV_CAPACITY) return EFAULT;
    const int32_t* piece = iov_ + index * IOV_STRIDE;
    const int32_t offset = piece[IOV_OFFSET];
    const int32_t length = piece[IOV_LENGTH];
    if (offset < 0 || offset > ARENA_bytes || length < 0 || length > ARENA_bytes - offset) return EFAULT;
    chain_.pieces[k].iov_base = arena_ + offset;
    chain_.pieces[k].iov_len = static_cast<size_t>(length);
    chain_.requests[k] = piece[IOV_CSUM];
    requests |= piece[IOV_CSUM];
    index = piece[IOV_NEXT];
  }
  chain_.count = count;
  chain_.requested = requests != 0;
  return 0;
}

int Io::finishChecksums() {
  for (int32_t k = 0; k < chain_.count; k++) {
    const int32_t request = chain_.requests[k];
    if ((request & CSUM_REQUEST) == 0) continue;
    const size_t start = request & 0xff;
    const size_t field = request >> 8 & 0xff;
    const size_t length = chain_.pieces[k].iov_len;
    if (field % 2 != 0 || start + field + 2 > length) return EFAULT;

    uint8_t* const bytes = static_cast<uint8_t*>(chain_.pieces[k].iov_base) + start;
    uint64_t total = sum_(bytes, length - start);
    size_t summed = length - start;
    int32_t last = k;
    if ((request & CSUM_TO_END) != 0) {
      last = chain_.count - 1;
    } else if ((request & CSUM_NEXT) != 0 && k + 1 < chain_.count) {
      last = k + 1;
    }
    for (int32_t next = k + 1; next <= last; next++) {
      const struct iovec& piece = chain_.pieces[next];
      const uint64_t sum = sum_(static_cast<const uint8_t*>(piece.iov_base), piece.iov_len);
      // Behind an odd number of bytes the piece's bytes are in the other halves of their words.
      total += summed % 2 == 0 ? sum : swap16(foldRaw(sum));
      summed += piece.iov_len;
    }
    uint16_t complement = static_cast<uint16_t>(~foldRaw(total));
    if (complement == 0 && (request & CSUM_UDP) != 0) complement = 0xffff;
    memcpy(bytes + field, &complement, sizeof complement);
  }
  return 0;
}

// sendmsg(2) with UDP_SEGMENT (udp(7)).
int Io::sendDatagrams(const Port& port, const int32_t* message) {
  const int32_t number = message[MSG_PEER];
  if (number < 0 || number >= IO_PEERS || peers_[number].length == 0) return EDESTADDRREQ;
  const int32_t gso = message[MSG_GSO];
  if (gso < 0 || gso > MAX_GSO_BYTES) return EINVAL;
  Peer& peer = peers_[number];

  struct msghdr header;
  header.msg_name = &peer.address;
  header.msg_namelen = peer.length;
  header.msg_iov = chain_.pieces;
  header.msg_iovlen = static_cast<size_t>(chain_.count);
  header.msg_control = nullptr;
  header.msg_controllen = 0;
  header.msg_flags = 0;
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))];
  if (gso > 0) {
    memset(control, 0, sizeof control);
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    struct cmsghdr* segment = CMSG_FIRSTHDR(&header);
    segment->cmsg_level = IPPROTO_UDP;
    segment->cmsg_type = UDP_SEGMENT;
    segment->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const uint16_t size = static_cast<uint16_t>(gso);
    memcpy(CMSG_DATA(segment), &size, sizeof size);
  }
  for (;;) {
    status_[STATUS_TX_CALLS]++;
    if (sendmsg(port.fd, &header, MSG_DONTWAIT) >= 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EAGAIN || sendBufferFull_) return errno;
    struct pollfd writable = {port.fd, POLLOUT, 0};
    if (::poll(&writable, 1, SEND_WAIT_MS) <= 0) sendBufferFull_ = true;
  }
}

// writev(2): one frame.
int Io::writeFrame(int fd, const struct iovec* pieces, int count) {
  do {
    status_[STATUS_TX_CALLS]++;
    if (writev(fd, pieces, count) >= 0) return 0;
  } while (errno == EINTR);
  return errno;
}

// Each segment's TCP checksum, over its own header in front of the payload, the payload and the
// pseudo header. With the right checksum in the field all words add up to 0xffff.
int Io::segmentsAreCorrect(const int32_t* message, bool* correct) const {
  const int32_t l4 = message[MSG_L4_LENGTH];
  const int32_t headers = message[MSG_HEADERS];
  if (l4 < 0 || headers < l4) return EFAULT;
  *correct = true;
  const uint32_t pseudo = static_cast<uint32_t>(message[MSG_PSEUDO]);
  for (int32_t k = 1; k < chain_.count; k++) {
    const uint8_t* payload = static_cast<const uint8_t*>(chain_.pieces[k].iov_base);
    if (payload - arena_ < headers) return EFAULT;
    const size_t length = chain_.pieces[k].iov_len + static_cast<size_t>(l4);
    const uint64_t total = sum_(payload - l4, length) + swap16(foldRaw(uint64_t{pseudo} + length));
    if (foldRaw(total) != 0xffff) *correct = false;
  }
  return 0;
}

// The segments of a merged frame as they came, each behind an empty virtio-net header.
int Io::writeUnmerged(int fd, const int32_t* message) {
  static const uint8_t emptyVnetHeader[VNET_BYTES] = {};
  const size_t headers = static_cast<size_t>(message[MSG_HEADERS]);
  int result = 0;
  for (int32_t k = 1; k < chain_.count; k++) {
    struct iovec pieces[2];
    pieces[0].iov_base = const_cast<uint8_t*>(emptyVnetHeader);
    pieces[0].iov_len = sizeof emptyVnetHeader;
    pieces[1].iov_base = static_cast<uint8_t*>(chain_.pieces[k].iov_base) - headers;
    pieces[1].iov_len = chain_.pieces[k].iov_len + headers;
    if (const int error = writeFrame(fd, pieces, 2)) result = error;
  }
  status_[STATUS_UNMERGED]++;
  return result;
}

}  // namespace podwire
