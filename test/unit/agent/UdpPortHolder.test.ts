import { expect, test } from "vitest";
import { UdpPortHolder } from "../../../src/agent/UdpPortHolder.js";
import { FakeHost } from "../../../src/host/FakeHost.js";

function setUp() {
  const host = new FakeHost();
  const warnings: string[] = [];
  const log = {
    info: () => {},
    debug: () => {},
    error: () => {},
    warn: (_: object, text: string) => warnings.push(text),
  };
  const bound = () => [...host.sockets.values()].map(({ address, port }) => `${address}:${port}`).sort();
  return { host, warnings, bound, holder: new UdpPortHolder(host, log as never) };
}

test("holds what is wanted, and nothing else", () => {
  const { holder, bound } = setUp();
  holder.sync(["192.168.2.30", "10.0.0.1"], [30053, 30054]);
  expect(bound()).toEqual(["10.0.0.1:30053", "10.0.0.1:30054", "192.168.2.30:30053", "192.168.2.30:30054"]);
  holder.sync(["192.168.2.30"], [30054, 30055]);
  expect(bound()).toEqual(["192.168.2.30:30054", "192.168.2.30:30055"]);
  holder.close();
  expect(bound()).toEqual([]);
});

test("a port that somebody has is said once, and held when it is free", () => {
  const { host, holder, bound, warnings } = setUp();
  const options = {
    netns: "",
    address: "192.168.2.30",
    port: 30053,
    gro: false,
    sendBuffer: 0,
    receiveBuffer: 0,
  };
  const fd = host.openUdp(options);
  holder.sync(["192.168.2.30"], [30053]);
  holder.sync(["192.168.2.30"], [30053]);
  expect(warnings).toHaveLength(1);
  host.close(fd);
  holder.sync(["192.168.2.30"], [30053]);
  expect(bound()).toEqual(["192.168.2.30:30053"]);
});
