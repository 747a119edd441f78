/**
 * The stages, in the order a packet takes:
 *
 *   decap      tunnel frames lose VXLAN; sender, flags, VNI, inner MAC
 *   parse      lengths once, then offsets and 5-tuple into columns
 *   neighbor   ARP
 *   policy     sources
 *   conntrack  flows: Services, translation, what leaves the cluster and comes back
 *   route      prefix, TTL, MTU; ICMP errors
 *   account    traffic by VTEP and by Service
 *   encap      to VTEPs: MACs, VXLAN, trains, segmentation
 *   coalesce   to TAPs: MACs, virtio-net, merging
 *
 * Each stage loops over the batch. Frames of one flow keep their order. Fragments that waited for the
 * first of their packet take the same way, as a batch of their own, behind it. While somebody captures,
 * the batch is shown to a PacketTap between stages.
 */
import { COUNT_RECEIVED, COUNT_RECEIVED_BYTES } from "../packet/counters.js";
import { account } from "./account.js";
import { coalesce } from "./coalesce.js";
import { conntrack } from "./conntrack.js";
import type { Dataplane } from "./Dataplane.js";
import { decap } from "./decap.js";
import { encap } from "./encap.js";
import { neighbor } from "./neighbor.js";
import { parse } from "./parse.js";
import { policy } from "./policy.js";
import { route } from "./route.js";

/** The stages by name, in that order, for those who look at a packet between two of them (explain/). */
export const STAGES = { decap, parse, neighbor, policy, conntrack, route, encap, coalesce } as const;

/** Takes the dataplane's batch through all stages and empties it. Every row ends with a verdict. */
export function runPipeline(dp: Dataplane): void {
  let resumed = false;
  do {
    runStages(dp, resumed);
    resumed = true;
  } while (dp.fragments.resume(dp));
}

function runStages(dp: Dataplane, resumed: boolean): void {
  const { batch, counters, tap } = dp;
  let frames = 0;
  for (let i = 0; i < batch.count; i++) frames += batch.segments[i];
  counters[COUNT_RECEIVED] += frames;
  if (tap !== null) tap.received(dp, resumed);
  decap(dp);
  let bytes = 0;
  for (let i = 0; i < batch.count; i++) bytes += batch.length[i] * batch.segments[i] - batch.short[i];
  counters[COUNT_RECEIVED_BYTES] += bytes;
  parse(dp);
  neighbor(dp);
  policy(dp);
  if (tap !== null) tap.translating(dp);
  conntrack(dp);
  if (tap !== null) tap.translated(dp);
  route(dp);
  account(dp);
  encap(dp);
  coalesce(dp);
  if (tap !== null) tap.decided(dp);
  batch.count = 0;
}
