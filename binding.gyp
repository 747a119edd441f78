{
  "targets": [
    {
      "target_name": "podwire",
      "sources": [
        "native/addon.cc",
        "native/arena.cc",
        "native/checksum.cc",
        "native/clock.cc",
        "native/event.cc",
        "native/file.cc",
        "native/io.cc",
        "native/link.cc",
        "native/netns.cc",
        "native/bfd.cc",
        "native/packet.cc",
        "native/raw.cc",
        "native/receive.cc",
        "native/tap.cc",
        "native/transmit.cc",
        "native/udp.cc",
        "native/value.cc"
      ],
      "defines": ["NAPI_VERSION=8"],
      "cflags": ["-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++17"],
      "cflags_cc!": ["-std=gnu++14", "-std=gnu++17", "-std=gnu++20", "-std=c++20"]
    }
  ]
}
