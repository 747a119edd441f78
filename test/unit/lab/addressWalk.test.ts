import { describe, expect, it } from "vitest";
import { type AgentViews, judgeOwner } from "../../../src/lab/addressWalk.js";
import { NODES } from "../../../src/lab/walkthrough.js";

const VIP = "192.168.2.36";
const MAC = "02:00:c0:a8:02:1f";

/** Each agent's owner, in the order of nodes; null for one that does not answer. */
function views(...owners: (string | null)[]): AgentViews {
  return new Map(
    NODES.map(({ name }, i) => {
      const owner = owners[i] ?? null;
      return [name, owner === null ? null : new Map([[VIP, owner]])];
    }),
  );
}
const all = (owner: string) => views(owner, owner, owner, owner);

describe("who answers for an address", () => {
  it("is the node that all agents name and whose MAC the pc has", () => {
    const owner = "k8s-worker01";
    expect(judgeOwner(VIP, all(owner), MAC)).toEqual({ address: VIP, owner, mac: MAC, reason: "" });
  });

  it.each<[string, AgentViews, string, RegExp]>([
    ["another MAC", all("k8s-worker02"), MAC, /k8s-worker02 has the MAC 02:00:c0:a8:02:20, and the pc 02:00/],
    ["no MAC", all("k8s-worker01"), "", /and the pc none/],
    ["nobody", all(""), MAC, /no one owner: k8s-master says nobody/],
    [
      "two owners",
      views("k8s-worker01", "k8s-worker01", "k8s-worker02", "k8s-worker01"),
      MAC,
      /k8s-worker02 says k8s-worker02/,
    ],
    [
      "an agent that does not answer",
      views("k8s-worker01", "k8s-worker01", "k8s-worker01"),
      MAC,
      /k8s-worker03 says nobody/,
    ],
  ])("%s is told", (_, agents, mac, reason) => {
    expect(judgeOwner(VIP, agents, mac).reason).toMatch(reason);
  });
});
