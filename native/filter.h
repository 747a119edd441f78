// Classic BPF programs on sockets (SO_ATTACH_FILTER, socket(7)): written here, or as JavaScript gives
// them: [code, jt, jf, k] quadruples, one an instruction.

#pragma once

#include <linux/filter.h>
#include <sys/socket.h>

#include <cstdint>
#include <vector>

#include "errors.h"

namespace podwire {

constexpr size_t FILTER_MAX = 4096;  // BPF_MAXINSNS

inline bool isFilter(const std::vector<uint32_t>& quadruples) {
  return quadruples.size() % 4 == 0 && quadruples.size() / 4 <= FILTER_MAX;
}

inline Failure attachFilter(int fd, struct sock_filter* code, size_t instructions) {
  struct sock_fprog program = {static_cast<unsigned short>(instructions), code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
    return Failure::last("SO_ATTACH_FILTER");
  return Failure{};
}

template <size_t N>
Failure attachFilter(int fd, struct sock_filter (&code)[N]) {
  return attachFilter(fd, code, N);
}

// Nothing is attached where there are no instructions.
inline Failure attachFilter(int fd, const std::vector<uint32_t>& quadruples) {
  if (quadruples.empty()) return Failure{};
  std::vector<struct sock_filter> code(quadruples.size() / 4);
  for (size_t i = 0; i < code.size(); i++) {
    const uint32_t* quadruple = &quadruples[4 * i];
    code[i].code = static_cast<uint16_t>(quadruple[0]);
    code[i].jt = static_cast<uint8_t>(quadruple[1]);
    code[i].jf = static_cast<uint8_t>(quadruple[2]);
    code[i].k = quadruple[3];
  }
  return attachFilter(fd, code.data(), code.size());
}

}  // namespace podwire
