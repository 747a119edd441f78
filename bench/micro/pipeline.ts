/** The dataplane without I/O: stage by stage, and whole, for the kinds of traffic that differ. */

import type { Dataplane } from "../../src/dataplane/Dataplane.js";
import { encap } from "../../src/dataplane/encap.js";
import { neighbor } from "../../src/dataplane/neighbor.js";
import { parse } from "../../src/dataplane/parse.js";
import { runPipeline } from "../../src/dataplane/pipeline.js";
import { policy } from "../../src/dataplane/policy.js";
import { route } from "../../src/dataplane/route.js";
import { COUNT_FORWARDED, COUNT_RECEIVED } from "../../src/packet/counters.js";
import {
  clusterTables,
  endBreath,
  idleDataplane,
  MTU,
  OTHER_POD_ADDRESS,
  POD_ADDRESS,
  POD_PORT,
  peerPod,
  TUNNEL_PORT,
} from "./cluster.js";
import { FrameSource, type FrameSpec } from "./frames.js";
import type { MicroCase, MicroSuite } from "./suite.js";

const BATCH = 64;
const PEERS = 1000;
/** Payload of a full TCP segment, and segments in a 64 KiB frame. */
const MSS = MTU - 40;
const SEGMENTS = 45;

/** A small datagram from a pod to the pod of peer `peer`. */
function smallOut(peer: number): FrameSpec {
  return {
    port: POD_PORT,
    source: POD_ADDRESS,
    destination: peerPod(peer),
    protocol: "udp",
    payload: 64,
    sequence: 0,
    gsoSize: 0,
  };
}

/** What a pod sends to another one of its node. */
const LOCAL: FrameSpec = { ...smallOut(0), destination: OTHER_POD_ADDRESS };
const SMALL_IN: FrameSpec = {
  ...smallOut(0),
  port: TUNNEL_PORT,
  source: peerPod(0),
  destination: POD_ADDRESS,
};
const TSO_OUT: FrameSpec = { ...smallOut(0), protocol: "tcp", payload: MSS * SEGMENTS, gsoSize: MSS };

/** Stages one after another, for small datagrams to one VTEP. */
export function stageSuite(): MicroSuite {
  const { dp, frames } = set(false, repeat(smallOut(0), BATCH));
  const stages: [string, (dp: Dataplane) => void][] = [
    ["parse", parse],
    ["neighbor", neighbor],
    ["policy", policy],
    ["route", route],
    ["encap", encap],
  ];
  const upTo = (count: number) => () => {
    frames.fill();
    for (let n = 0; n < count; n++) stages[n][1](dp);
    endBreath(dp);
  };
  return {
    title: `Stages, UDP 64 B from a pod to one VTEP, batches of ${BATCH}, ${PEERS} VTEPs`,
    unit: "packet",
    cumulative: true,
    cases: [
      { name: "batch filled", operations: BATCH, run: upTo(0) },
      ...stages.map(([name], index) => ({ name: `+ ${name}`, operations: BATCH, run: upTo(index + 1) })),
    ],
  };
}

/** The whole pipeline, for each kind of traffic. */
export function pipelineSuite(): MicroSuite {
  return {
    title: "The whole pipeline without I/O",
    unit: "packet",
    cumulative: false,
    cases: [
      whole("UDP 64 B, pod to VTEP, one VTEP", false, repeat(smallOut(0), BATCH), BATCH),
      whole(
        "UDP 64 B, pod to VTEP, 64 VTEPs",
        false,
        Array.from({ length: BATCH }, (_, peer) => smallOut(peer)),
        BATCH,
      ),
      whole("UDP 64 B, VTEP to pod, merged", false, repeat(SMALL_IN, BATCH), BATCH),
      whole("UDP 64 B, pod to pod", false, repeat(LOCAL, BATCH), BATCH),
      whole("TCP 64 KiB, pod to VTEP, per segment", false, [TSO_OUT], SEGMENTS),
      whole("TCP 64 KiB, pod to VTEP by tunnel GSO, per segment", true, [TSO_OUT], SEGMENTS),
      whole(
        "TCP segments, VTEP to pod, merged",
        false,
        Array.from({ length: SEGMENTS }, (_, segment) => ({
          ...SMALL_IN,
          protocol: "tcp" as const,
          payload: MSS,
          sequence: segment * MSS,
        })),
        SEGMENTS,
      ),
    ],
  };
}

function repeat(spec: FrameSpec, count: number): FrameSpec[] {
  return Array.from({ length: count }, () => spec);
}

function set(gso: boolean, specs: readonly FrameSpec[]): { dp: Dataplane; frames: FrameSource } {
  const dp = idleDataplane(clusterTables(PEERS, gso));
  return { dp, frames: new FrameSource(dp, specs) };
}

/** A case over everything. Throws where the dataplane does not forward what it is given. */
function whole(name: string, gso: boolean, specs: readonly FrameSpec[], operations: number): MicroCase {
  const { dp, frames } = set(gso, specs);
  const run = () => {
    frames.fill();
    runPipeline(dp);
    endBreath(dp);
  };
  run();
  const { counters } = dp;
  if (counters[COUNT_RECEIVED] !== frames.count || counters[COUNT_FORWARDED] !== frames.count) {
    throw new Error(`${name}: ${counters[COUNT_FORWARDED]} of ${frames.count} frames were forwarded`);
  }
  return { name, operations, run };
}
