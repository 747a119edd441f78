import { expect, test } from "vitest";
import { HostError } from "../../../src/host/HostError.js";

test("takes the errno's name from the error, or out of its message", () => {
  expect(HostError.from(new Error("Request rejected: EEXIST"), "add address", "tap0").code).toBe("EEXIST");
  expect(HostError.from(Object.assign(new Error("x"), { code: "EBUSY" }), "a", "b").code).toBe("EBUSY");
  expect(HostError.from(new Error("Timeout has been reached"), "list links", "")).toMatchObject({
    code: "",
    message: "list links: Timeout has been reached",
  });
});

test("a HostError stays as it is", () => {
  const error = new HostError("add address 10.0.0.1/32", "tap0 in /run/netns/a", "EPERM", "");
  expect(error.message).toBe("add address 10.0.0.1/32 (tap0 in /run/netns/a): EPERM");
  expect(HostError.from(error, "other", "")).toBe(error);
});
