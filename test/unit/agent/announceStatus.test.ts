/** What `podwire announce status` says: the worker's view together with the Services. */
import { describe, expect, test } from "vitest";
import type { AnnouncementReportStatus, NeighborStatus } from "../../../src/agent/AnnouncementReport.js";
import { announcementText, whyOwner } from "../../../src/agent/announcementText.js";
import { type AnnounceStatus, announcedBy, announceStatus } from "../../../src/agent/announceStatus.js";
import { Services } from "../../../src/desired/services.js";

const [MASTER, W1, W2] = ["k8s-master", "k8s-worker01", "k8s-worker02"] as const;
const NOW = new Date("2026-11-23T10:00:00Z");
const ago = (seconds: number) => new Date(NOW.getTime() - seconds * 1000).toISOString();

function neighbor(node: string, fields: Partial<NeighborStatus> = {}): NeighborStatus {
  return {
    node,
    address: "192.168.2.31",
    state: "Up",
    remoteState: "Up",
    diagnostic: "No Diagnostic",
    remoteDiagnostic: "No Diagnostic",
    down: false,
    upSince: ago(300),
    intervalMs: 100,
    detectionMs: 300,
    ...fields,
  };
}

const DOWN = {
  state: "Down",
  upSince: "",
  diagnostic: "Control Detection Time Expired",
  intervalMs: 1000,
  detectionMs: 0,
};

function report(fields: Partial<AnnouncementReportStatus> = {}): AnnouncementReportStatus {
  return {
    node: MASTER,
    interface: { name: "eth0", index: 2, mac: "02:00:c0:a8:02:1e" },
    carrier: true,
    drained: false,
    settled: true,
    addresses: [],
    neighbors: [neighbor(W1), neighbor(W2)],
    conflicts: [],
    ...fields,
  };
}

/** An address with this owner; the order is master, worker01, worker02, up where the text does not say "!". */
function owned(owner: string, order = [MASTER, W1, W2] as readonly string[], since = ago(90)) {
  const candidates = order.map((text) => ({ node: text.replace("!", ""), up: !text.includes("!") }));
  return { address: "192.168.2.36", owner, since, answers: owner === MASTER, order: candidates };
}

const FACTS = { address: "192.168.2.36", pool: "p", services: ["default/web"], problem: null };
const why = (fields: Partial<AnnouncementReportStatus>, facts: object = {}): string => {
  const status = announceStatus(report(fields), [{ ...FACTS, ...facts }]);
  return whyOwner(status.addresses[0]!, status);
};

describe("announceStatus", () => {
  test("addresses that the worker does not know are there too, in ascending order", () => {
    const status = announceStatus(report({ addresses: [owned(W1)] }), [
      FACTS,
      { address: "192.168.2.100", pool: "p", services: ["default/b"], problem: "noEndpoints" },
      { address: "192.168.2.9", pool: "q", services: ["default/c"], problem: "notAdvertised" },
    ]);
    expect(
      status.addresses.map(({ address, owner, pool, problem }) => [address, owner, pool, problem]),
    ).toEqual([
      ["192.168.2.9", "", "q", "notAdvertised"],
      ["192.168.2.36", W1, "p", null],
      ["192.168.2.100", "", "p", "noEndpoints"],
    ]);
  });

  test("an address that no Service has (any more) is shown as the worker has it", () => {
    const [address] = announceStatus(report({ addresses: [owned(W1)] }), []).addresses;
    expect(address).toMatchObject({ owner: W1, pool: "", services: [], problem: null });
  });

  test("without the API the Services themselves say what has an address", () => {
    const services = new Services({ node: MASTER, externalIpRanges: [] });
    services.setService({
      metadata: { name: "web", namespace: "default" },
      spec: { type: "LoadBalancer", clusterIP: "10.152.183.10", ports: [{ port: 80 }] },
      status: { loadBalancer: { ingress: [{ ip: "192.168.2.36" }] } },
    });
    expect(announcedBy(services)).toEqual([{ ...FACTS, pool: "" }]);
  });
});

describe("why an address has its owner", () => {
  test.each<[string, Partial<AnnouncementReportStatus>, string]>([
    ["the first of the order", { addresses: [owned(MASTER)] }, "1st of 3"],
    [
      "the first is down",
      { addresses: [owned(W2, [`${W1}!`, W2, MASTER])], neighbors: [neighbor(W1, DOWN), neighbor(W2)] },
      "2nd of 3; k8s-worker01 is Down (Control Detection Time Expired)",
    ],
    [
      "the first has withdrawn",
      {
        addresses: [owned(W2, [`${W1}!`, W2, MASTER])],
        neighbors: [neighbor(W1, { state: "Down", remoteState: "AdminDown" }), neighbor(W2)],
      },
      "2nd of 3; k8s-worker01 is withdrawn",
    ],
    [
      "the first is this node, which has no carrier",
      { addresses: [owned(W1, [`${MASTER}!`, W1])], carrier: false },
      "2nd of 2; k8s-master withdrawn: the interface has no carrier",
    ],
    [
      "the first is back and not heard yet",
      { addresses: [owned(W2, [W1, W2])] },
      "2nd of 2; k8s-worker01 has not claimed it yet",
    ],
    [
      "nobody is up",
      { addresses: [owned("", [`${W1}!`])], neighbors: [neighbor(W1, DOWN)] },
      "k8s-worker01 is Down (Control Detection Time Expired)",
    ],
    [
      "one that is not watched",
      { addresses: [owned(MASTER, [`${W1}!`, MASTER])], neighbors: [] },
      "2nd of 2; k8s-worker01 is not watched",
    ],
  ])("%s", (_, fields, expected) => {
    expect(why(fields)).toBe(expected);
  });

  test.each([
    ["noEndpoints", "no endpoint can serve"],
    ["notAdvertised", "no L2Advertisement takes it"],
    ["noNode", "selectors and the traffic policy leave no node"],
  ])("%s", (problem, expected) => {
    expect(why({}, { problem })).toBe(expected);
  });
});

describe("announcementText", () => {
  const text = (status: AnnounceStatus) => announcementText(status, NOW);

  test("tables of addresses, neighbors and conflicts", () => {
    const status = announceStatus(
      report({
        addresses: [owned(W2, [`${W1}!`, W2, MASTER])],
        neighbors: [neighbor(W1, DOWN), neighbor(W2, { address: "192.168.2.32", upSince: ago(7200) })],
        conflicts: [
          { at: ago(5), address: "192.168.2.36", node: null, mac: "02:00:5e:00:53:01", yielded: false },
        ],
      }),
      [FACTS],
    );
    expect(text(status)).toBe(
      [
        "node       k8s-master",
        "interface  eth0 (02:00:c0:a8:02:1e)",
        "state      announcing",
        "",
        "ADDRESS       POOL  OWNER         SINCE  WHY                                                              SERVICES",
        "192.168.2.36  p     k8s-worker02  90s    2nd of 3; k8s-worker01 is Down (Control Detection Time Expired)  default/web",
        "",
        "NEIGHBOR      ADDRESS       BFD                                    SINCE  INTERVAL  DETECTION",
        "k8s-worker01  192.168.2.31  Down (Control Detection Time Expired)  -      1000 ms   -",
        "k8s-worker02  192.168.2.32  Up                                     2h     100 ms    300 ms",
        "",
        "AGO  CONFLICT OVER  WITH              MAC                THIS NODE",
        "5s   192.168.2.36   a foreign device  02:00:5e:00:53:01  went on",
        "",
      ].join("\n"),
    );
  });

  test.each<[Partial<AnnouncementReportStatus>, string]>([
    [{ interface: null }, "announces nothing"],
    [{ drained: true }, "withdrawn: the agent is being stopped"],
    [{ carrier: false }, "withdrawn: the interface has no carrier"],
    [{ settled: false }, "waiting until it has heard of its neighbors"],
  ])("%j", (fields, state) => {
    expect(text(announceStatus(report(fields), []))).toContain(`state      ${state}\n`);
  });
});
