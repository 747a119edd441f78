/** The dataplane without I/O: stage by stage, and whole, for the kinds of traffic that differ. */

import { conntrack } from "../../src/dataplane/conntrack.js";
import type { Dataplane } from "../../src/dataplane/Dataplane.js";
import { encap } from "../../src/dataplane/encap.js";
import { neighbor } from "../../src/dataplane/neighbor.js";
import { parse } from "../../src/dataplane/parse.js";
import { runPipeline } from "../../src/dataplane/pipeline.js";
import { policy } from "../../src/dataplane/policy.js";
import { route } from "../../src/dataplane/route.js";
import { COUNT_FORWARDED, COUNT_RECEIVED } from "../../src/packet/counters.js";
import {
  addStrangers,
  BACKEND_PORT,
  clusterIp,
  clusterServices,
  clusterTables,
  endBreath,
  idleDataplane,
  MTU,
  OTHER_POD_ADDRESS,
  POD_ADDRESS,
  POD_PORT,
  peerPod,
  SERVICE_PORT,
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
    ["conntrack", conntrack],
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

/** Flows that no packet belongs to, beside those that are used. */
const STRANGERS = [1_000, 100_000];
const SERVICES = [1, 10_000];
/** Flows of one pod to one ClusterIP. */
const OWN_FLOWS = [1, 1_000, 60_000];
const FIRST_CLIENT_PORT = 1024;

/** Client ports of `count` flows, in an order in which neighbours lie apart. */
function flowPorts(count: number, serverPort: number): Int32Array {
  const STEP = 7919;
  return Int32Array.from(
    { length: count },
    (_, n) => ((FIRST_CLIENT_PORT + ((n * STEP) % count)) << 16) | serverPort,
  );
}

const TO_SERVICE: FrameSpec = { ...smallOut(0), destination: clusterIp(0) };
const TSO_TO_SERVICE: FrameSpec = {
  ...TSO_OUT,
  destination: clusterIp(0),
  ports: flowPorts(1, SERVICE_PORT),
};

/** The pipeline with flows and Services: what they cost traffic that is none of theirs, and their own. */
export function flowSuite(): MicroSuite {
  const plain = (name: string, strangers: number, services: number) =>
    whole(`UDP 64 B, pod to VTEP, ${name}`, false, repeat(smallOut(0), BATCH), BATCH, (dp) => {
      addStrangers(dp.flows, strangers);
      if (services > 0) dp.services.adopt(clusterServices(services));
    });
  const withService = (services: number) => (dp: Dataplane) => dp.services.adopt(clusterServices(services));
  return {
    title: "The whole pipeline with flows and Services",
    unit: "packet",
    cumulative: false,
    cases: [
      plain("no flows", 0, 0),
      ...STRANGERS.map((count) => plain(`${count.toLocaleString("en")} flows of others`, count, 0)),
      ...SERVICES.map((count) => plain(`${count.toLocaleString("en")} Services`, 1, count)),
      ...OWN_FLOWS.map((count) =>
        whole(
          `UDP 64 B, pod to ClusterIP, ${count.toLocaleString("en")} flows`,
          false,
          repeat({ ...TO_SERVICE, ports: flowPorts(count, SERVICE_PORT) }, BATCH),
          BATCH,
          withService(1),
        ),
      ),
      replies("UDP 64 B, VTEP to pod, reply of a ClusterIP, merged"),
      whole("TCP 64 KiB, pod to ClusterIP, per segment", false, [TSO_TO_SERVICE], SEGMENTS, withService(1)),
      firstPackets("UDP 64 B, pod to ClusterIP, each begins a flow and ends one"),
    ],
  };
}

/** What comes back through a ClusterIP, once a packet to it has begun the flow. */
function replies(name: string): MicroCase {
  const { dp, frames } = set(false, repeat({ ...SMALL_IN, ports: REPLY_PORTS }, BATCH));
  dp.services.adopt(clusterServices(1));
  const first = new FrameSource(dp, [{ ...TO_SERVICE, ports: flowPorts(1, SERVICE_PORT) }]);
  first.fill();
  runPipeline(dp);
  endBreath(dp);
  if (dp.flows.size !== 1) throw new Error(`${name}: no flow`);
  // Both sources have the same memory: what was there first is written again.
  const again = new FrameSource(dp, frames.specs);
  return timed(name, dp, again, BATCH);
}

const REPLY_PORTS = Int32Array.of((BACKEND_PORT << 16) | FIRST_CLIENT_PORT);

/** Packets of flows that end before their turn comes again: insertion and removal. */
function firstPackets(name: string): MicroCase {
  const { dp, frames } = set(
    false,
    repeat({ ...TO_SERVICE, ports: flowPorts(OWN_FLOWS[2], SERVICE_PORT) }, BATCH),
  );
  dp.services.adopt(clusterServices(1));
  return {
    name,
    operations: BATCH,
    run() {
      frames.fill();
      dp.flows.enterBreath();
      runPipeline(dp);
      for (let i = 0; i < BATCH; i++) dp.flows.remove(dp.batch.flow[i]);
      dp.flows.leaveBreath();
      endBreath(dp);
    },
  };
}

function repeat(spec: FrameSpec, count: number): FrameSpec[] {
  return Array.from({ length: count }, () => spec);
}

function set(gso: boolean, specs: readonly FrameSpec[]): { dp: Dataplane; frames: FrameSource } {
  const dp = idleDataplane(clusterTables(PEERS, gso));
  return { dp, frames: new FrameSource(dp, specs) };
}

/** A case over everything; `prepare` fills the tables first. */
function whole(
  name: string,
  gso: boolean,
  specs: readonly FrameSpec[],
  operations: number,
  prepare: (dp: Dataplane) => void = () => {},
): MicroCase {
  const { dp, frames } = set(gso, specs);
  prepare(dp);
  return timed(name, dp, frames, operations);
}

/** Times the pipeline over `frames`. Throws where the dataplane does not forward what it is given. */
function timed(name: string, dp: Dataplane, frames: FrameSource, operations: number): MicroCase {
  const { counters } = dp;
  const run = () => {
    frames.fill();
    runPipeline(dp);
    endBreath(dp);
  };
  const received = counters[COUNT_RECEIVED];
  const forwarded = counters[COUNT_FORWARDED];
  run();
  if (
    counters[COUNT_RECEIVED] - received !== frames.count ||
    counters[COUNT_FORWARDED] - forwarded !== frames.count
  ) {
    throw new Error(
      `${name}: ${counters[COUNT_FORWARDED] - forwarded} of ${frames.count} frames were forwarded`,
    );
  }
  return { name, operations, run };
}
