import { describe, expect, it } from "vitest";
import { failures, matrix, nodeTable, table, total } from "../../../src/lab/render.js";
import { judgeProbe, probe, type WalkResult } from "../../../src/lab/walk.js";
import { PODS } from "../../support/labPods.js";

const [nginx, apache, redis] = [PODS[0]!, PODS[4]!, PODS[8]!];

function result(from = nginx, to = apache, reason = ""): WalkResult {
  return { from, to, ok: reason === "", reason, milliseconds: 1 };
}

describe("probe", () => {
  it("fetches the page of a web server and expects the pod's name in it", () => {
    const { command, expected } = probe(nginx, apache);
    expect(command[0]).toBe("curl");
    expect(command.at(-1)).toBe("http://10.1.235.194:90/");
    expect(expected).toBe("apache-ds-x7k2b on k8s-master\n");
  });

  it("pings redis, writes, reads back and asks for the pod's name", () => {
    const { command, input, expected } = probe(nginx, redis);
    expect(command).toEqual(["redis-cli", "-h", "10.1.235.195", "-p", "6379"]);
    expect(input).toBe("PING\nSET walk:nginx-ds-x7k2b 10.1.235.193\nGET walk:nginx-ds-x7k2b\nGET pod\n");
    expect(expected).toBe("PONG\nOK\n10.1.235.193\nredis-ds-x7k2b\n");
  });
});

describe("judgeProbe", () => {
  it.each([
    ["the expected answer", { code: 0, stdout: "a\n", stderr: "" }, ""],
    ["another pod's answer", { code: 0, stdout: "b\n", stderr: "" }, 'answered "b\\n"'],
    ["no answer at all", { code: 0, stdout: "", stderr: "" }, "exit code 0"],
    ["curl's message", { code: 7, stdout: "", stderr: "curl: (7) refused\n" }, "curl: (7) refused"],
    ["a probe that had to be killed", { code: 137, stdout: "", stderr: "" }, "no answer within 5 s"],
  ])("%s", (_, said, reason) => {
    expect(judgeProbe("a\n", said)).toBe(reason);
  });
});

describe("tables", () => {
  it("pads columns as kubectl does", () => {
    expect(table(["NAME", "IP"], [["a-long-name", "10.1.0.1"]])).toBe(
      "NAME          IP\na-long-name   10.1.0.1",
    );
  });

  it("lists nodes", () => {
    const node = {
      name: "k8s-master",
      address: "192.168.2.30",
      blocks: ["10.1.235.192/26"],
      tunnelAddress: "10.1.235.192",
    };
    expect(nodeTable([node])).toBe(
      "NAME         ADDRESS        BLOCK             TUNNEL\nk8s-master   192.168.2.30   10.1.235.192/26   10.1.235.192",
    );
  });

  it("draws results as a matrix: rows ask, columns answer", () => {
    const results = [result(nginx, nginx), result(nginx, apache, "no"), result(apache, nginx)];
    expect(matrix([nginx, apache], results, false)).toBe(
      ["                     n0 a0", "n0  nginx-ds-x7k2b   ✓  ✗", "a0  apache-ds-x7k2b  ✓  ·"].join("\n"),
    );
  });

  it("colours only when asked to", () => {
    const results = [result(nginx, nginx), result(nginx, apache, "no")];
    expect(matrix([nginx, apache], results, true)).toContain("\u001b[31m✗\u001b[0m");
    expect(matrix([nginx, apache], results, false)).not.toContain("\u001b");
  });

  it("counts, and explains the first failures", () => {
    const results = [result(), result(nginx, apache, "no"), result(apache, redis, "never")];
    expect(total(results, 1.26)).toBe("1 of 3 passed in 1.3 s");
    expect(failures(results, 1)).toEqual([
      "nginx-ds-x7k2b → apache-ds-x7k2b (10.1.235.194:90): no",
      "… and 1 more",
    ]);
    expect(failures(results, 2)).toHaveLength(2);
  });
});
