import { describe, expect, it } from "vitest";
import { failures, matrix, podTable, table, total } from "../../../src/lab/render.js";
import { judgeProbe, probe, type WalkResult } from "../../../src/lab/walk.js";
import { PODS } from "../../../src/lab/walkthrough.js";

const [nginx, apache, redis] = [PODS[0]!, PODS[4]!, PODS[8]!];

function result(from = nginx, to = apache, reason = ""): WalkResult {
  return { from, to, ok: reason === "", reason, milliseconds: 1 };
}

describe("probe", () => {
  it("fetches the page of a web server and expects the pod's name in it", () => {
    const { command, expected } = probe(nginx, apache);
    expect(command[0]).toBe("curl");
    expect(command.at(-1)).toBe("http://10.1.235.194:90/");
    expect(expected).toBe("apache-ds-zr2fn on k8s-master\n");
  });

  it("pings redis, writes, reads back and asks for the pod's name", () => {
    const { command, input, expected } = probe(nginx, redis);
    expect(command).toEqual(["redis-cli", "-h", "10.1.235.195", "-p", "6379"]);
    expect(input).toBe("PING\nSET walk:nginx-ds-x7k2p 10.1.235.193\nGET walk:nginx-ds-x7k2p\nGET pod\n");
    expect(expected).toBe("PONG\nOK\n10.1.235.193\nredis-ds-l6h9b\n");
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

  it("lists pods", () => {
    const lines = podTable(PODS).split("\n");
    expect(lines[0]).toMatch(/^NAME +IP +NODE$/);
    expect(lines).toHaveLength(13);
    expect(lines[1]).toMatch(/^nginx-ds-x7k2p +10\.1\.235\.193 +k8s-master$/);
  });

  it("draws results as a matrix: rows ask, columns answer", () => {
    const results = [result(nginx, nginx), result(nginx, apache, "no"), result(apache, nginx)];
    expect(matrix([nginx, apache], results, false)).toBe(
      ["                     n0 a0", "n0  nginx-ds-x7k2p   ✓  ✗", "a0  apache-ds-zr2fn  ✓  ·"].join("\n"),
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
      "nginx-ds-x7k2p → apache-ds-zr2fn (10.1.235.194:90): no",
      "… and 1 more",
    ]);
    expect(failures(results, 2)).toHaveLength(2);
  });
});
