/** What the page and its server say to each other. Types only. */
import type { Scene } from "../explain/picture/scene.js";

/** What the page is about: what a picture shows, and what trace may be asked for. */
export interface ClusterView {
  /** Counts up with each change of the cluster. */
  version: number;
  /** Whether the API answers; the last known state is shown where it does not. */
  connected: boolean;
  picture: Scene;
  nodes: { name: string; address: string; ready: boolean; live: boolean }[];
  blocks: { cidr: string; node: string; used: number; size: number }[];
  /** Keys of pods with their addresses, and of Services. */
  pods: { key: string; address: string; node: string }[];
  services: { key: string; paint: string | null }[];
  faults: { at: string; about: string; reason: string }[];
}

/** How much went by, as a rate. */
export interface Rate {
  packetsPerSecond: number;
  bitsPerSecond: number;
}

/** What went by between the last two looks at the agents' counters. */
export interface Traffic {
  /** Seconds between the two; 0 where there was only one. */
  seconds: number;
  nodes: { node: string; received: number; forwarded: number; dropped: number }[];
  /** From one node's VTEP to another's. */
  links: ({ from: string; to: string } & Rate)[];
  /** Both directions, on the nodes that translate. */
  services: ({ key: string } & Rate)[];
  drops: { node: string; reason: string; total: number; perSecond: number }[];
  addresses: { address: string; owner: string; since: string }[];
  bfd: { node: string; neighbor: string; state: string; upSince: string }[];
}

/** A flow that a node tracks, as its agent tells it. */
export interface FlowRow {
  node: string;
  protocol: string;
  source: string;
  destination: string;
  /** Where it goes after translation; empty where it is not translated. */
  translated: string;
  state: string;
}

/** One decision about a packet. */
export interface PathStep {
  /** The node or machine that it is made at. */
  lane: string;
  stage: string;
  what: string;
  because: string;
}

export interface Path {
  steps: PathStep[];
  /** How it ends, in words. */
  end: string;
  /** Names of the scene's anchors that it leads through, one after another. */
  through: string[];
}

/** A packet's way, and that of its answer. */
export interface TraceView {
  verdict: string;
  request: Path;
  reply: Path | null;
  notes: string[];
}
