import { describe, expect, it } from "vitest";
import { pipelineSuite, stageSuite } from "../../../bench/micro/pipeline.js";

describe("micro suites", () => {
  it("still fit the dataplane: every frame is forwarded, and cases can be repeated", () => {
    for (const suite of [stageSuite(), pipelineSuite()]) {
      for (const each of suite.cases) {
        expect(() => {
          for (let n = 0; n < 100; n++) each.run();
        }, each.name).not.toThrow();
      }
    }
  });
});
