/**
 * Holds the table of DESIGN §2: which folder of src/ may import which. A folder that is not in the
 * table fails the test, so that a new one is thought about.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));

interface Rule {
  /** Folders of ours, or single files of them, that may be imported besides the folder itself. */
  ours: string[];
  /** Node's modules: all, or these. */
  node: "all" | string[];
}

/** Plain values and arithmetic: no clock, no file, no process. */
const pure = (ours: string[], node: string[] = []): Rule => ({ ours, node });
const free = (ours: string[]): Rule => ({ ours, node: "all" });

const TABLE: Record<string, Rule> = {
  wire: pure([]),
  model: pure([]),
  packet: pure(["wire"]),
  tables: pure(["wire"]),
  dataplane: pure(["wire", "packet", "tables"]),
  liveness: pure(["wire", "packet", "tables"]),
  // A hash function is pure; so is who may announce what, by the API's selectors and shapes.
  desired: pure(["model", "tables", "announce", "kube/types"], ["crypto"]),
  announce: pure(["model", "kube"], ["crypto"]),
  binding: free([]),
  port: free(["packet", "wire", "binding"]),
  // Looks at the batch between stages, in the thread; makes a file of it, on the control side.
  capture: pure(["wire", "packet", "tables", "dataplane", "model"]),
  worker: free(["dataplane", "liveness", "port", "packet", "tables", "binding", "capture"]),
  host: free(["binding/types"]),
  // Port kinds and limits are packet/layout's; the config's plain values are model's.
  reconcile: free(["desired", "host", "tables", "worker/control", "model", "packet/layout"]),
  // Wiring: these bring the others together.
  agent: free([
    "announce",
    "capture",
    "desired",
    "host",
    "reconcile",
    "tables",
    "worker/control",
    "model",
    "packet/layout",
    // Names of BFD's states.
    "wire/bfd",
    "packet/DropReason",
    "binding",
    "kube",
    "metrics",
    "runtime",
  ]),
  // What a container runtime calls: only passes on.
  cni: free(["agent/StatusServer", "model"]),
  // Serving metrics, and those of the cluster; an agent's own are in agent.
  metrics: free(["kube", "ipam", "model"]),
  kube: free([]),
  runtime: free(["kube"]),
  ipam: free(["model", "kube"]),
  vip: free(["model", "kube"]),
  apiserver: free(["kube", "model"]),
  controllers: free(["apiserver/resource", "kube", "model", "vip"]),
  // Holds what the API says against what a node says and has.
  check: free([
    "agent",
    "desired",
    "host",
    "ipam",
    "kube",
    "model",
    "reconcile/DeviceError",
    "reconcile/device",
    "reconcile/addresses",
    "reconcile/routing",
    "tables",
  ]),
  // Runs the dataplane on packets of its own, without ports; the API's objects are what it draws.
  explain: free(["dataplane", "packet", "tables", "wire", "model", "kube"]),
  // Services of a machine: their files, and what agents left in the kernel.
  install: free(["agent", "desired", "host", "model", "reconcile/routing"]),
  doctor: free(["desired", "host", "model"]),
  // Its page runs in a browser: the modules that it shares with the server are pure.
  ui: free(["explain", "kube", "metrics/hostHeader", "model"]),
  lab: free(["agent", "explain", "kube", "model", "runtime", "worker/control"]),
  cli: free([
    "agent",
    "apiserver",
    "binding",
    "capture",
    "check",
    "controllers",
    "doctor",
    "explain",
    "host",
    "install",
    "ipam",
    "kube",
    "lab",
    "metrics",
    "model",
    "runtime",
    "tables",
    "ui",
    "vip",
    "worker",
  ]),
};

interface Import {
  file: string;
  folder: string;
  target: string;
}

const imports: Import[] = [];
for (const file of readdirSync(SRC, { recursive: true, encoding: "utf8" })) {
  if (!/\.tsx?$/.test(file)) continue;
  // Without comments, which may speak of imports.
  const text = readFileSync(join(SRC, file), "utf8").replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const pattern = /\b(?:from|import)\s*\(?\s*"([^"]+)"|\bnew Worker\(\s*new URL\("([^"]+)"/g;
  for (const [, imported, thread] of text.matchAll(pattern))
    imports.push({ file, folder: file.split("/")[0]!, target: (imported ?? thread)! });
}

/** "tables/TableInput" for a relative import. */
function placeOf({ file, target }: Import): string {
  return relative(SRC, resolve(SRC, dirname(file), target)).replace(/\.js$/, "");
}

describe("imports", () => {
  test("there are some", () => expect(imports.length).toBeGreaterThan(100));

  test.each([...new Set(imports.map(({ folder }) => folder))])("%s keeps to the table", (folder) => {
    const rule = TABLE[folder];
    expect(rule, `src/${folder} is not in the table of DESIGN §2`).toBeDefined();
    const breaches = imports
      .filter((each) => each.folder === folder)
      .filter((each) => {
        if (each.target.startsWith("node:"))
          return rule!.node !== "all" && !rule!.node.includes(each.target.slice("node:".length));
        // Packages: a pure folder has none.
        if (!each.target.startsWith(".")) return rule!.node !== "all";
        const place = placeOf(each);
        return ![folder, ...rule!.ours].some(
          (allowed) => place === allowed || place.startsWith(`${allowed}/`),
        );
      })
      .map(({ file, target }) => `${file} imports ${target}`);
    expect(breaches).toEqual([]);
  });

  test("relative ones name a .js file, and stay in src", () => {
    const odd = imports.filter(
      (each) =>
        each.target.startsWith(".") && (!each.target.endsWith(".js") || placeOf(each).startsWith("..")),
    );
    expect(odd).toEqual([]);
  });

  test("only binding/ loads native code", () => {
    const loaders = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter(
      (file) =>
        file.endsWith(".ts") && /createRequire|\/[^"\s]*\.node"/.test(readFileSync(join(SRC, file), "utf8")),
    );
    expect(loaders).toEqual(["binding/index.ts"]);
  });
});
