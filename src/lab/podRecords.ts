/**
 * Owns the pod runner's record of what it runs (pods.json), from which the lab's other commands know
 * the pods, also while the API server is down. Must not know the API.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { LAB_DIRECTORY } from "./plan.js";
import { IMAGES, type LabPod, labelOf } from "./walkthrough.js";

const podRecord = z.object({
  namespace: z.string(),
  name: z.string(),
  node: z.string(),
  application: z.enum(["nginx", "apache", "redis"]),
  address: z.string(),
  pid: z.number().int().positive(),
  startTime: z.number(),
});

export type PodRecord = z.infer<typeof podRecord>;

const RECORD = `${LAB_DIRECTORY}/pods.json`;

/** The pods that programs were started in, by name. */
export function readPods(): PodRecord[] {
  try {
    return z.array(podRecord).parse(JSON.parse(readFileSync(RECORD, "utf8")));
  } catch {
    return [];
  }
}

/** Writes the record in one piece. */
export function writePods(pods: readonly PodRecord[]): void {
  const sorted = [...pods].sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
  writeFileSync(`${RECORD}.new`, `${JSON.stringify(sorted, null, 2)}\n`, { mode: 0o644 });
  renameSync(`${RECORD}.new`, RECORD);
}

export function labPod({ namespace, name, node, application, address }: PodRecord): LabPod {
  const label = labelOf(application, node);
  return { namespace, name, label, application, l4Port: IMAGES[application].l4Port, address, node };
}
