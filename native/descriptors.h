// The functions that open and close descriptors, one file per kind: tap.cc, udp.cc, packet.cc,
// raw.cc, bfd.cc, link.cc, event.cc; memory: arena.cc, file.cc; and clock.cc. A descriptor is a plain
// number and belongs to the JavaScript caller. Nothing here sends or receives packets.

#pragma once

#include <node_api.h>

namespace podwire {

// openTap(options): TUNSETIFF and its companions on /dev/net/tun.
napi_value OpenTap(napi_env env, napi_callback_info info);
// setTapPersist(fd, persist): TUNSETPERSIST.
napi_value SetTapPersist(napi_env env, napi_callback_info info);
// openUdp(options): udp(7) with UDP_GRO.
napi_value OpenUdp(napi_env env, napi_callback_info info);
// openBfd(options): udp(7), TTL 255 both ways (RFC 5881).
napi_value OpenBfd(napi_env env, napi_callback_info info);
// openPacket(options): packet(7) with SO_ATTACH_FILTER.
napi_value OpenPacket(napi_env env, napi_callback_info info);
// openRaw(options): raw(7) with SO_ATTACH_FILTER.
napi_value OpenRaw(napi_env env, napi_callback_info info);
// openLinkEvents(options): rtnetlink(7), RTMGRP_LINK of one interface.
napi_value OpenLinkEvents(napi_env env, napi_callback_info info);
// setFilter(fd, filter): SO_ATTACH_FILTER in the place of the one before.
napi_value SetFilter(napi_env env, napi_callback_info info);
// openEvent(): eventfd(2).
napi_value OpenEvent(napi_env env, napi_callback_info info);
// signalEvent(fd): write(2) to an eventfd.
napi_value SignalEvent(napi_env env, napi_callback_info info);
// close(fd): close(2).
napi_value Close(napi_env env, napi_callback_info info);
// createArena(bytes): mmap(2) with MADV_HUGEPAGE, as an ArrayBuffer.
napi_value CreateArena(napi_env env, napi_callback_info info);
// mapFile(path, bytes): mmap(2) with MAP_SHARED, as an ArrayBuffer.
napi_value MapFile(napi_env env, napi_callback_info info);
// clockOffset(): clock_gettime(2), CLOCK_REALTIME less CLOCK_MONOTONIC.
napi_value ClockOffset(napi_env env, napi_callback_info info);

}  // namespace podwire
