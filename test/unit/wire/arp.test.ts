import { describe, expect, it } from "vitest";
import * as arp from "../../../src/wire/arp.js";
import { address, hex, toHex } from "../../support/frames.js";
import { prefilled, viewOf } from "./buffers.js";

/** Who has 169.254.1.1, tell 10.1.235.193. */
const REQUEST = "0001 0800 06 04 0001 02700a01ebc1 0a01ebc1 000000000000 a9fe0101";

describe("arp", () => {
  it("reads a request", () => {
    const view = viewOf(`a5a5 ${REQUEST}`);
    expect(arp.isEthernetIpv4(view, 2)).toBe(true);
    expect(arp.operation(view, 2)).toBe(arp.REQUEST);
    expect(arp.senderAddress(view, 2)).toBe(address("10.1.235.193"));
    expect(arp.targetAddress(view, 2)).toBe(address("169.254.1.1"));
  });

  it.each([
    ["hardware type 6 (IEEE 802)", "0006 0800 06 04"],
    ["protocol type IPv6", "0001 86dd 06 04"],
    ["hardware length 8", "0001 0800 08 04"],
    ["protocol length 16", "0001 0800 06 10"],
  ])("refuses %s", (_, head) => {
    expect(arp.isEthernetIpv4(viewOf(`${head} 0001`), 0)).toBe(false);
  });

  it("turns a request into its reply in place", () => {
    const bytes = hex(`a5a5 ${REQUEST} a5a5`);
    arp.turnIntoReply(new DataView(bytes.buffer), 2, 0xeeee, 0xeeeeeeee | 0);
    expect(toHex(bytes)).toBe(
      toHex(hex("a5a5 0001 0800 06 04 0002 eeeeeeeeeeee a9fe0101 02700a01ebc1 0a01ebc1 a5a5")),
    );
  });

  it("writes every byte of a packet, and no other", () => {
    const { bytes, view } = prefilled(32);
    arp.emit(view, 2, arp.REPLY, 0x0270, 0x0a01ebc1, 0x0a01ebc1, 0xeeee, 0xeeeeeeee | 0, 0xa9fe0101 | 0);
    expect(toHex(bytes)).toBe(
      toHex(hex("a5a5 0001 0800 06 04 0002 02700a01ebc1 0a01ebc1 eeeeeeeeeeee a9fe0101 a5a5")),
    );
  });
});
