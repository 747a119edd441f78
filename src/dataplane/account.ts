/**
 * Stage account: counts traffic by VTEP and by Service (packet/counters). It stands where every row
 * has its verdict and its length, and before anything is divided or merged.
 *
 *   received from a VTEP   all that decap let pass, dropped later or not
 *   sent to a VTEP         what goes there, as it was planned
 *   of a Service           what of its flows goes on, by direction
 *
 * Neighbouring rows are mostly of one flow, so that sums are kept in registers and written when the
 * VTEP or the Service changes. They are int32: a batch is 256 rows of 64 KiB at most.
 */
import { HELD, TO_TAP, TO_VTEP } from "../packet/Batch.js";
import { serviceTraffic, TRAFFIC_SERVICES, TRAFFIC_WORDS } from "../packet/counters.js";
import { FLOW_SERVICE } from "../tables/flowLayout.js";
import * as virtioNet from "../wire/virtioNet.js";
import type { Dataplane } from "./Dataplane.js";
import { segmentHeaders } from "./route.js";

/** Doubles of one direction: packets, bytes. */
const DIRECTION_WORDS = 2;

export function account(dp: Dataplane): void {
  const { batch, traffic, flows } = dp;
  const { words } = flows;
  const { verdict, vtep, out, flow, direction, length, segments, short, gsoType, gsoSize } = batch;
  let link = 0;
  let linkPackets = 0;
  let linkBytes = 0;
  let service = TRAFFIC_SERVICES;
  let servicePackets = 0;
  let serviceBytes = 0;
  let lastFlow = -1;
  let lastDirection = 0;
  for (let i = 0; i < batch.count; i++) {
    const v = verdict[i];
    // It will come again.
    if (v === HELD) continue;
    const forwarded = v === TO_TAP || v === TO_VTEP;
    let packets = segments[i];
    let bytes = (Math.imul(length[i], packets) - short[i]) | 0;
    if (gsoType[i] !== virtioNet.GSO_NONE && forwarded) {
      const headers = segmentHeaders(dp, i);
      packets = ((length[i] - headers + gsoSize[i] - 1) / gsoSize[i]) | 0;
      bytes = (length[i] + Math.imul(packets - 1, headers)) | 0;
    }
    const from = vtep[i];
    if (from >= 0 || v === TO_VTEP) {
      const at = from >= 0 ? from * TRAFFIC_WORDS : out[i] * TRAFFIC_WORDS + DIRECTION_WORDS;
      if (at !== link) {
        add(traffic, link, linkPackets, linkBytes);
        link = at;
        linkPackets = 0;
        linkBytes = 0;
      }
      linkPackets = (linkPackets + packets) | 0;
      linkBytes = (linkBytes + bytes) | 0;
    }
    if (flow[i] < 0 || !forwarded) continue;
    if (flow[i] !== lastFlow || direction[i] !== lastDirection) {
      lastFlow = flow[i];
      lastDirection = direction[i];
      const at = serviceTraffic(words[flows.base(lastFlow) + FLOW_SERVICE]) + lastDirection * DIRECTION_WORDS;
      if (at !== service) {
        add(traffic, service, servicePackets, serviceBytes);
        service = at;
        servicePackets = 0;
        serviceBytes = 0;
      }
    }
    servicePackets = (servicePackets + packets) | 0;
    serviceBytes = (serviceBytes + bytes) | 0;
  }
  add(traffic, link, linkPackets, linkBytes);
  add(traffic, service, servicePackets, serviceBytes);
}

function add(traffic: Float64Array, at: number, packets: number, bytes: number): void {
  traffic[at] += packets;
  traffic[at + 1] += bytes;
}
