/** Which addresses a node may have certified. */
import { describe, expect, test } from "vitest";
import { type ServingRequest, servingNames } from "../../../src/apiserver/auth/servingNames.js";
import { nodeAt } from "../../support/podCluster.js";

const OWN = "192.168.2.31";
const OTHERS = "192.168.2.32";
const SERVER = "192.168.2.30";

const names = (changes: Partial<ServingRequest>) =>
  servingNames({
    node: "n1",
    addresses: [OWN],
    source: OWN,
    reserved: [SERVER, "kubernetes"],
    nodes: [nodeAt("n1", OWN, 1), nodeAt("n2", OTHERS, 1)],
    ...changes,
  });

describe("a node", () => {
  test("gets its name and the address it comes from, whatever its Node says", () => {
    expect(names({ nodes: [] })).toEqual(["n1", OWN]);
  });

  test("gets an address that its Node alone reports, once", () => {
    expect(names({ source: "10.0.2.15", addresses: [OWN, OWN] })).toEqual(["n1", OWN]);
  });

  test("gets no address that nobody, or another node, or two report", () => {
    const refusal = (address: string) =>
      `nodes "n1" is forbidden: ${address} is not known to be an address of this node`;
    expect(() => names({ addresses: ["192.168.2.99"] })).toThrow(refusal("192.168.2.99"));
    expect(() => names({ addresses: [OWN, OTHERS] })).toThrow(refusal(OTHERS));
    const liar = { source: "10.0.2.15", nodes: [nodeAt("n1", OTHERS, 1), nodeAt("n2", OTHERS, 1)] };
    expect(() => names({ ...liar, addresses: [OTHERS] })).toThrow(refusal(OTHERS));
  });

  test("gets the API server's address only from there, and its name only there", () => {
    const liar = { addresses: [SERVER], nodes: [nodeAt("n1", SERVER, 1)] };
    expect(() => names(liar)).toThrow(expect.objectContaining({ code: 403 }));
    expect(names({ ...liar, source: SERVER })).toEqual(["n1", SERVER]);
    expect(() => names({ node: "kubernetes" })).toThrow("the API server goes by that name");
    expect(names({ node: "kubernetes", addresses: [SERVER], source: SERVER })).toEqual([
      "kubernetes",
      SERVER,
    ]);
  });

  test.each([[undefined], ["192.168.2.31"], [[]], [["n1"]], [[OWN, 7]], [Array(17).fill(OWN)]])(
    "does not get %j",
    (addresses) => expect(() => names({ addresses })).toThrow(expect.objectContaining({ code: 400 })),
  );
});
