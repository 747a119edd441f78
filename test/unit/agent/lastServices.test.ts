/** Services that are kept for a start without an API. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readLastServices, saveServices } from "../../../src/agent/lastServices.js";
import type { SavedService, SavedServices } from "../../../src/desired/services.js";

let base: { node: string; stateDir: string };
const file = () => join(base.stateDir, "services.jsonl");

beforeEach(() => {
  base = { node: "k8s-master", stateDir: mkdtempSync(join(tmpdir(), "podwire-last-")) };
});
afterEach(() => rmSync(base.stateDir, { recursive: true, force: true }));

function saved(count: number, zone = "east"): SavedServices & { services: SavedService[] } {
  const services = Array.from(
    { length: count },
    (_, n): SavedService => ({
      key: `default/web-${n}`,
      facts:
        n % 3 === 0
          ? null
          : {
              namespace: "default",
              name: `web-${n}`,
              created: "2024-01-01T00:00:00Z",
              clusterIp: 0x0a98b700 + n,
              ports: [{ name: "http", protocol: "TCP", l4Port: 80, nodePort: 0 }],
              externalIps: [],
              loadBalancerIps: [],
              sourceRanges: [],
              advertised: { pool: "", labels: {} },
              affinitySeconds: 0,
              internalPolicy: "Cluster",
              externalPolicy: "Cluster",
              healthCheckNodePort: 0,
            },
      slices: {
        [`web-${n}-abc`]: {
          ports: [{ name: "http", protocol: "TCP", l4Port: 8080 }],
          endpoints: [
            {
              address: 0x0a014f41,
              node: "näme\n",
              ready: true,
              serving: true,
              terminating: false,
              zones: [],
              nodes: [],
            },
          ],
        },
      },
    }),
  );
  return { zone, services };
}

describe("the last Services", () => {
  test.each([0, 1, 3_000])("%i of them come back as they were", (count) => {
    const wanted = saved(count);
    saveServices(base, wanted);
    expect(readLastServices(base)).toEqual(wanted);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(readdirSync(base.stateDir)).toEqual(["services.jsonl"]);
    saveServices(base, saved(2, ""));
    expect(readLastServices(base)).toEqual(saved(2, ""));
  });

  test("are those of one node", () => {
    saveServices(base, saved(1));
    expect(readLastServices({ ...base, node: "k8s-worker01" })).toBeNull();
  });

  test.each([
    ["is not there", null],
    ["is empty", ""],
    ["is of another version", '{"version":99,"node":"k8s-master","zone":""}\n'],
    ["was cut", '{"version":1,"node":"k8s-master","zone":""}\n{"key":"default/we'],
  ])("none where the file %s", (_, text) => {
    if (text !== null) writeFileSync(file(), text);
    expect(readLastServices(base)).toBeNull();
  });

  test("more than there is room for: none rather than old ones", () => {
    saveServices(base, saved(1));
    expect(() => saveServices(base, saved(3_000), 100_000)).toThrow(RangeError);
    expect([existsSync(file()), readdirSync(base.stateDir)]).toEqual([false, []]);
  });

  test("what cannot be written leaves nothing half-written", () => {
    saveServices(base, saved(1));
    const failing = function* () {
      yield* saved(2_000).services;
      throw new Error("no more");
    };
    expect(() => saveServices(base, { zone: "", services: failing() })).toThrow("no more");
    expect(readdirSync(base.stateDir)).toEqual([]);
    saveServices(base, saved(1));
    expect(readFileSync(file(), "utf8").split("\n")).toHaveLength(3);
  });
});
